//! Names of DCI's role that are no variables here, or that say the same as one of ours.

/// Names that say the same as ours, which win where both are set alike; two different values are an
/// error.
pub(super) const FALLBACKS: [(&str, &str); 6] = [
    ("dispatcher_api_container_scale", "dci_api_container_scale"),
    ("dispatcher_api_container_network", "dci_api_container_network"),
    ("dispatcher_api_auth_tracking_enabled", "dci_api_auth_tracking_enabled"),
    ("dispatcher_redis_url", "dci_redis_url"),
    ("dispatcher_api_graceful_timeout", "gunicorn_graceful_timeout"),
    ("dispatcher_api_watchdog", "gunicorn_timeout"),
];

/// Names that would make this deployment use what is DCI's, with ours to set instead.
const OURS: [(&str, &str); 2] =
    [("dci_api_container_image", "dispatcher_api_image"), ("dbname", "dispatcher_db_name")];

/// Secrets: the setting, and the podman secret to put the value into. Where the latter is not one
/// that is needed anyway, `dispatcher_secrets` must name it.
const SECRETS: [(&str, &str, &str, bool); 5] = [
    ("dbpassword", "DB_PASSWORD", "dispatcher-db-password", true),
    ("store_s3_aws_access_key_id", "AWS_ACCESS_KEY_ID", "dispatcher-s3-access-key", true),
    ("store_s3_aws_secret_access_key", "AWS_SECRET_ACCESS_KEY", "dispatcher-s3-secret-key", true),
    (
        "rhdl_service_account_access_key",
        "RHDL_SERVICE_ACCOUNT_ACCESS_KEY",
        "dispatcher-rhdl-access-key",
        false,
    ),
    (
        "rhdl_service_account_secret_key",
        "RHDL_SERVICE_ACCOUNT_SECRET_KEY",
        "dispatcher-rhdl-secret-key",
        false,
    ),
];

/// Why a name is no variable here, where that is known.
pub(super) fn refusal(name: &str) -> Option<String> {
    let ours = OURS.iter().find(|(theirs, _)| *theirs == name).map(|(theirs, ours)| {
        format!(
            "{theirs} names something that is DCI's, which this deployment must not use: set \
             {ours} instead"
        )
    });
    let secret = SECRETS.iter().find(|(theirs, ..)| *theirs == name);
    ours.or_else(|| {
        secret.map(|(theirs, setting, secret, known)| no_secret(theirs, setting, secret, *known))
    })
}

fn no_secret(name: &str, setting: &str, secret: &str, known: bool) -> String {
    let also = if known {
        String::new()
    } else {
        format!(", and name it: `dispatcher_secrets: {{{setting}: {secret}}}`")
    };
    format!(
        "{name} is a secret, and this file holds none: type `quadletgen secret set {secret}` (it \
         reads the value from standard input){also}"
    )
}

/// A name as it is shown: without what a terminal would obey, and not without end.
pub(super) fn shown(name: &str) -> String {
    harmless(name, 80)
}

/// A text's beginning, without what a terminal would obey.
pub(super) fn harmless(text: &str, length: usize) -> String {
    let mut shown = String::new();
    for letter in text.chars().take(length) {
        match letter.is_control() {
            true => shown.extend(letter.escape_debug()),
            false => shown.push(letter),
        }
    }
    if text.chars().nth(length).is_some() { shown + "…" } else { shown }
}

/// The variable whose name is nearest to this one, where one is near.
pub(super) fn nearest<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // No name is that long, and comparing takes its time.
    all.filter(|one| name.len() <= one.len() * 2)
        .map(|one| (distance(name, one), one))
        .filter(|(far, one)| *far <= one.len().max(name.len()) / 4)
        .min()
        .map(|(_, one)| one)
}

/// How many letters must change to get from one to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, letter) in from.chars().enumerate() {
        let mut diagonal = done;
        let mut left = done + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, other) in row.iter_mut().skip(1).zip(&to) {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = *cell;
            *cell = changed.min(left + 1).min(diagonal + 1);
            left = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_does_not_speak_to_the_terminal() {
        assert_eq!(shown("a\u{1b}[31mred\nx"), "a\\u{1b}[31mred\\nx");
        assert_eq!(shown("größe"), "größe");
        assert_eq!(shown(&"k".repeat(81)), format!("{}…", "k".repeat(80)));
    }

    #[test]
    fn distances_are_the_usual_ones() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn a_slip_is_answered_with_the_name_that_was_meant() {
        let all = ["dispatcher_api_container_scale", "dbhost"];
        let meant = |name| nearest(name, all.into_iter());
        assert_eq!(meant("dispatcher_api_container_scala"), Some("dispatcher_api_container_scale"));
        assert_eq!(meant("dispatcher_container_scale"), Some("dispatcher_api_container_scale"));
        assert_eq!(meant("something_else"), None);
    }
}
