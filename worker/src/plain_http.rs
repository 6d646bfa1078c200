//! Where plain http is spoken to: never but to this host itself, unless the operator says so.

use std::{fmt, str::FromStr};

use reqwest::Url;

use crate::outbound::is_loopback;

/// Other hosts than this one with which plain http is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PlainHttp {
    /// None.
    #[default]
    Never,
    /// These, by the names or addresses that URLs have for them.
    Hosts(Vec<String>),
    /// All.
    Everywhere,
}

impl PlainHttp {
    /// Whether this URL, which is one of plain http, may be asked.
    pub(crate) fn allows(&self, url: &Url) -> bool {
        let is_listed = || match self {
            Self::Never => false,
            Self::Hosts(hosts) => {
                url.host_str().is_some_and(|host| hosts.iter().any(|it| it == host))
            }
            Self::Everywhere => true,
        };
        is_loopback(url) || is_listed()
    }
}

impl From<bool> for PlainHttp {
    fn from(is_allowed: bool) -> Self {
        if is_allowed { Self::Everywhere } else { Self::Never }
    }
}

impl FromStr for PlainHttp {
    type Err = String;

    /// `true`, `false`, or hosts with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let hosts = text.split(',').map(str::trim).filter(|host| !host.is_empty());
        let hosts: Vec<String> = hosts.map(str::to_ascii_lowercase).collect();
        match hosts.as_slice() {
            [] => return Ok(Self::Never),
            [only] if only == "false" => return Ok(Self::Never),
            [only] if only == "true" => return Ok(Self::Everywhere),
            _ => {}
        }
        match hosts.iter().find(|host| !is_host(host)) {
            None => Ok(Self::Hosts(hosts)),
            Some(odd) => Err(format!(
                "{odd:?} is no host; allowed: true, false, or names and addresses of hosts without \
                 scheme and port, with commas between them"
            )),
        }
    }
}

/// Whether a URL would have it as its host, letter by letter. Words for yes and no are none, nor are
/// patterns, which nothing would ever be like.
fn is_host(text: &str) -> bool {
    let is_word = text.contains('*') || ["true", "false", "yes", "no", "on", "off"].contains(&text);
    let url = Url::parse(&format!("http://{text}/"));
    !is_word && url.is_ok_and(|url| url.host_str() == Some(text) && url.port().is_none())
}

impl fmt::Display for PlainHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("false"),
            Self::Hosts(hosts) => f.write_str(&hosts.join(",")),
            Self::Everywhere => f.write_str("true"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(text: &str, url: &str) -> bool {
        let allowed: PlainHttp = text.parse().unwrap();
        assert_eq!(allowed.to_string().parse(), Ok(allowed.clone()), "{text}");
        allowed.allows(&Url::parse(url).unwrap())
    }

    #[test]
    fn only_hosts_that_are_named_are_spoken_to() {
        for text in ["false", "", "true", "host-1, 10.0.0.1"] {
            assert!(allows(text, "http://127.0.0.1/"), "{text}");
            assert_eq!(allows(text, "http://other/"), text == "true", "{text}");
        }
        assert!(allows("host-1, 10.0.0.1", "http://HOST-1:8080/a"));
        assert!(allows("Host-1,10.0.0.1", "http://10.0.0.1/a"));
        assert!(!allows("host-1", "http://host-1.example/"));
    }

    #[test]
    fn what_is_no_host_is_refused_with_what_is_allowed() {
        for odd in ["yes", "1", "on", "true,host", "host:80", "http://host", "a b", "u@host", "*"] {
            let told = odd.parse::<PlainHttp>().err().unwrap_or_default();
            assert!(told.contains("allowed: true, false"), "{odd}: {told:?}");
        }
    }
}
