//! What request bodies are made of, by the names that generated clients know. Requests are checked
//! with these, and documents show these, so that neither can say what the other does not.
//!
//! Members stand in the order of their names, in which violations are reported; those that are required
//! are named in the order in which their absence is, and generated constructors take them.

use super::{Component, Format, Schema};

/// The longest timeout of a run, in seconds (a week).
const MAX_TIMEOUT: i64 = 604_800;
/// The timeout of a run that names none, in seconds.
const DEFAULT_TIMEOUT: i64 = 3_600;
/// The most characters that name an organisation or account.
const MAX_ORG: usize = 10;
/// The most hosts whose connection is asked for at once.
const MAX_HOSTS: usize = 50;

const UUID: Schema = Schema::String { min: 0, max: None, format: Some(Format::Uuid) };
const NOT_EMPTY: Schema = Schema::String { min: 1, max: None, format: None };
const ORG: Schema = Schema::String { min: 1, max: Some(MAX_ORG), format: None };

/// An id of a run.
pub static RUN_ID: Component = Component::new("RunId", "The id of a run.", UUID);

/// Whom a run is for.
pub static RUN_RECIPIENT: Component =
    Component::new("RunRecipient", "The id of the recipient that a playbook is run on.", UUID);

/// How long a run may take.
pub static RUN_TIMEOUT: Component = Component::new(
    "RunTimeout",
    "How many seconds after its creation a run counts as timed out, unless it has ended.",
    Schema::Integer { min: 0, max: MAX_TIMEOUT, default: Some(DEFAULT_TIMEOUT) },
);

/// An account, the older name of an organisation.
pub static ACCOUNT: Component = Component {
    deprecated: true,
    ..Component::new("Account", "The account of an organisation; its id is used instead.", ORG)
};

/// An organisation.
pub static ORG_ID: Component =
    Component::new("OrgId", "The id of the organisation that something belongs to.", ORG);

/// What people call a run.
pub static PLAYBOOK_NAME: Component =
    Component::new("PlaybookName", "What people call a run, here and in Satellite.", NOT_EMPTY);

/// Where people look at a run.
pub static WEB_CONSOLE_URL: Component = Component::new(
    "WebConsoleUrl",
    "Where people can look at a run; optional, and of use to them.",
    Schema::String { min: 1, max: None, format: Some(Format::Url) },
);

/// Where a playbook is fetched from.
pub static URL: Component = Component::new(
    "Url",
    "Where the playbook is fetched from: an address of http or https.",
    Schema::String { min: 0, max: None, format: Some(Format::Url) },
);

/// Labels of a run.
pub static LABELS: Component = Component::new(
    "Labels",
    "Names and values of the caller's choice, which lists can be filtered by.",
    Schema::StringMap,
);

/// On whose behalf.
pub static PRINCIPAL: Component =
    Component::new("Principal", "The name of the user on whose behalf a service asks.", NOT_EMPTY);

/// Hosts known beforehand.
pub static RUN_INPUT_HOSTS: Component = Component::new(
    "RunInputHosts",
    "The hosts of the run, as far as they are known beforehand, so that they are in the list of run \
     hosts from the beginning. `ansible_host` is the name in Ansible's inventory, and is what \
     reports name; `inventory_id` and `subscription_manager_id` are ids of the same host in those \
     services. A host needs `ansible_host` or `inventory_id` (behind a Satellite `inventory_id`), \
     and no two hosts of a run may have one name.",
    Schema::Array { items: &HOST, min: 0, max: None },
);

static HOST: Schema = Schema::Object {
    properties: &[
        ("ansible_host", NOT_EMPTY),
        ("inventory_id", UUID),
        ("subscription_manager_id", UUID),
    ],
    required: &[],
};

/// Through which Satellite.
pub static RECIPIENT_CONFIG: Component = Component::new(
    "RecipientConfig",
    "How the recipient passes a run on: `sat_id` is the id of a Satellite instance (a UUID of \
     version 4 or 5) and `sat_org_id` that of an organisation inside it; both or neither.",
    Schema::Object {
        properties: &[
            ("sat_id", Schema::String { min: 0, max: None, format: Some(Format::SatelliteUuid) }),
            ("sat_org_id", NOT_EMPTY),
        ],
        required: &[],
    },
);

/// What items of a dispatch may have, in the order in which generated constructors take it.
const OPTIONAL: [&str; 5] = ["web_console_url", "labels", "timeout", "hosts", "recipient_config"];

/// An item of a dispatch.
pub static RUN_INPUT_V2: Component = Component {
    order: &OPTIONAL,
    ..Component::new(
        "RunInputV2",
        "A playbook, and the recipient it is to be run on.",
        Schema::Object {
            properties: &[
                ("hosts", Schema::Named(&RUN_INPUT_HOSTS)),
                ("inputs", Schema::Elsewhere("RunInputs")),
                ("labels", Schema::Named(&LABELS)),
                ("name", Schema::Named(&PLAYBOOK_NAME)),
                ("org_id", Schema::Named(&ORG_ID)),
                ("principal", Schema::Named(&PRINCIPAL)),
                ("recipient", Schema::Named(&RUN_RECIPIENT)),
                ("recipient_config", Schema::Named(&RECIPIENT_CONFIG)),
                ("timeout", Schema::Named(&RUN_TIMEOUT)),
                ("url", Schema::Named(&URL)),
                ("web_console_url", Schema::Named(&WEB_CONSOLE_URL)),
            ],
            required: &["recipient", "org_id", "principal", "url", "name"],
        },
    )
};

/// An item of a dispatch by account.
pub static RUN_INPUT: Component = Component {
    order: &OPTIONAL,
    ..Component::new(
        "RunInput",
        "A playbook, and the recipient it is to be run on, by account: the older form.",
        Schema::Object {
            properties: &[
                ("account", Schema::Named(&ACCOUNT)),
                ("hosts", Schema::Named(&RUN_INPUT_HOSTS)),
                ("labels", Schema::Named(&LABELS)),
                ("recipient", Schema::Named(&RUN_RECIPIENT)),
                ("timeout", Schema::Named(&RUN_TIMEOUT)),
                ("url", Schema::Named(&URL)),
            ],
            required: &["recipient", "account", "url"],
        },
    )
};

/// An item of a cancellation.
pub static CANCEL_INPUT_V2: Component = Component::new(
    "CancelInputV2",
    "A run that is to be canceled.",
    Schema::Object {
        properties: &[
            ("org_id", Schema::Named(&ORG_ID)),
            ("principal", Schema::Named(&PRINCIPAL)),
            ("run_id", Schema::Named(&RUN_ID)),
        ],
        required: &["run_id", "org_id", "principal"],
    },
);

/// A recipient of an organisation.
pub static RECIPIENT_WITH_ORG: Component = Component::new(
    "RecipientWithOrg",
    "A recipient, and the organisation it belongs to.",
    Schema::Object {
        properties: &[
            ("org_id", Schema::Named(&ORG_ID)),
            ("recipient", Schema::Named(&RUN_RECIPIENT)),
        ],
        required: &["recipient", "org_id"],
    },
);

/// Hosts of an organisation.
pub static HOSTS_WITH_ORG_ID: Component = Component::new(
    "HostsWithOrgId",
    "Hosts, by their ids in Inventory, and the organisation they belong to.",
    Schema::Object {
        properties: &[
            ("hosts", Schema::Array { items: &NOT_EMPTY, min: 1, max: Some(MAX_HOSTS) }),
            ("org_id", Schema::Named(&ORG_ID)),
        ],
        required: &["org_id", "hosts"],
    },
);
