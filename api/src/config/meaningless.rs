//! Settings of the original that have no meaning here. They are accepted, so that an existing
//! environment works, and named once at the start, so that nobody believes they do something.

use super::source::Source;

/// What such settings begin with, or are called.
const MEANINGLESS: [&str; 13] = [
    "ACG_CONFIG",
    "INVENTORY_CONNECTOR_LIMIT",
    "INVENTORY_CONNECTOR_OFFSET",
    "KAFKA_",
    "KESSEL_",
    "LOG_CW_",
    "MIGRATIONS_DIR",
    "SCHEMA_",
    "TOPIC_",
    "UNLEASH_",
    "DEFAULT_RUN_TIMEOUT",
    "STORAGE_RETRIES",
    "STORAGE_TIMEOUT",
];

/// The names of those that are set.
#[must_use]
pub fn found(source: &Source) -> Vec<String> {
    let own = |prefix: &&str| {
        let prefix = (*prefix).to_owned();
        let names = source.with_prefix(&prefix).into_iter();
        names.map(move |(rest, _)| format!("{prefix}{rest}")).collect::<Vec<_>>()
    };
    MEANINGLESS.iter().flat_map(own).collect()
}
