//! Inventory: how hosts are connected.

use super::{
    outside::{Address, AddressSpecs, Choice, HOSTS, PORTS, SCHEMES, TIMEOUTS},
    source::{Source, Spec},
};

const IMPL: Spec = Spec {
    names: &["INVENTORY_CONNECTOR_IMPL"],
    about: "Who says how hosts are connected, for connection_status; unset: nobody, and it is \
            answered with 503.",
    allowed: "impl (Inventory), mock (two hosts, whatever is asked, for trials)",
    secret: false,
};
const ADDRESS: AddressSpecs = AddressSpecs {
    scheme: Spec {
        names: &["INVENTORY_CONNECTOR_SCHEME"],
        about: "How Inventory is reached.",
        allowed: SCHEMES,
        secret: false,
    },
    host: Spec {
        names: &["INVENTORY_CONNECTOR_HOST"],
        about: "Where Inventory is.",
        allowed: HOSTS,
        secret: false,
    },
    port: Spec {
        names: &["INVENTORY_CONNECTOR_PORT"],
        about: "The port of Inventory.",
        allowed: PORTS,
        secret: false,
    },
    timeout: Spec {
        names: &["INVENTORY_CONNECTOR_TIMEOUT"],
        about: "Seconds that a question to Inventory may take.",
        allowed: TIMEOUTS,
        secret: false,
    },
};
const ORDERED_BY: Spec = Spec {
    names: &["INVENTORY_CONNECTOR_ORDERED_BY"],
    about: "What Inventory orders hosts by, which is the order of connection_status.",
    allowed: "a field of Inventory, of letters and _",
    secret: false,
};
const ORDERED_HOW: Spec = Spec {
    names: &["INVENTORY_CONNECTOR_ORDERED_HOW"],
    about: "In which direction.",
    allowed: "ASC or DESC",
    secret: false,
};

/// Inventory.
#[derive(Clone, Debug)]
pub struct InventorySettings {
    /// Who says.
    pub choice: Choice,
    /// Where it is.
    pub address: Address,
    /// How hosts are ordered, as a query.
    pub order: String,
}

impl InventorySettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let choice = Choice::read(source, &IMPL);
        let address = Address::read(source, &ADDRESS, "localhost", 4000);
        let by = source.parsed(&ORDERED_BY, "display_name".to_owned());
        if !by.chars().all(|c| c.is_ascii_alphabetic() || c == '_') {
            source.reject(&ORDERED_BY, &by);
        }
        let how = source.parsed(&ORDERED_HOW, "ASC".to_owned());
        if !["ASC", "DESC"].contains(&how.as_str()) {
            source.reject(&ORDERED_HOW, &how);
        }
        Self { choice, address, order: format!("order_by={by}&order_how={how}") }
    }
}
