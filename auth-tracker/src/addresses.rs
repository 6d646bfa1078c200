//! Addresses that name several servers, as connection strings of PostgreSQL do.

/// One address for each host that an address names, in its order: `x://user@a:1,b/path` is
/// `x://user@a:1/path` and `x://user@b/path`. What is no address is given back as it is.
#[must_use]
pub fn of_each_host(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else { return vec![url.to_owned()] };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, hosts) = match authority.rfind('@') {
        Some(at) => authority.split_at(at + 1),
        None => ("", authority),
    };
    hosts.split(',').map(|host| format!("{scheme}://{user}{host}{path}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_gets_what_all_have() {
        for (url, each) in [
            ("redis://a", &["redis://a"][..]),
            ("redis://:p,w@a:1,b/2", &["redis://:p,w@a:1/2", "redis://:p,w@b/2"]),
            (
                "amqps://u:p@[::1]:5,[::2]?x=a,b",
                &["amqps://u:p@[::1]:5?x=a,b", "amqps://u:p@[::2]?x=a,b"],
            ),
            ("amqp://a,,b", &["amqp://a", "amqp://", "amqp://b"]),
            ("nothing", &["nothing"]),
            ("", &[""]),
        ] {
            assert_eq!(of_each_host(url), each, "{url}");
        }
    }
}
