//! What an item of a dispatch asks for, whichever version of the route it came by. No IO.

use std::collections::BTreeMap;

use dispatcher_wire::{
    dispatch::{AccountItem, DispatchHost, DispatchItem, RecipientConfig},
    inputs::RunInputs,
};
use uuid::Uuid;

/// What is to be run, where and for whom. Its form has been checked.
#[derive(Clone, Debug)]
pub struct Order {
    /// Who executes it.
    pub recipient: Uuid,
    /// The organisation that owns the run.
    pub org_id: String,
    /// On whose behalf, where that was said.
    pub principal: Option<String>,
    /// Where the playbook is fetched from.
    pub url: String,
    /// What people call it, where that was said.
    pub name: Option<String>,
    /// Where people look at it.
    pub web_console_url: Option<String>,
    /// Its labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Seconds until it counts as timed out.
    pub timeout: Option<i32>,
    /// Hosts known beforehand.
    pub hosts: Option<Vec<DispatchHost>>,
    /// Satellite addressing.
    pub recipient_config: Option<RecipientConfig>,
    /// How it is executed.
    pub inputs: Option<RunInputs>,
}

impl From<DispatchItem> for Order {
    fn from(item: DispatchItem) -> Self {
        Self {
            recipient: item.recipient,
            org_id: item.org_id,
            principal: Some(item.principal),
            url: item.url,
            name: Some(item.name),
            web_console_url: item.web_console_url,
            labels: item.labels,
            timeout: item.timeout,
            hosts: item.hosts,
            recipient_config: item.recipient_config,
            inputs: item.inputs,
        }
    }
}

impl Order {
    /// Whether it names a Satellite.
    #[must_use]
    pub fn is_behind_satellite(&self) -> bool {
        self.recipient_config.as_ref().is_some_and(|config| config.sat_id.is_some())
    }

    /// That of an item by account, for the organisation that has the account: neither principal nor
    /// name, and never behind a Satellite.
    #[must_use]
    pub fn by_account(item: AccountItem, org_id: String) -> Self {
        Self {
            recipient: item.recipient,
            org_id,
            principal: None,
            url: item.url,
            name: None,
            web_console_url: None,
            labels: item.labels,
            timeout: item.timeout,
            hosts: item.hosts,
            recipient_config: None,
            inputs: None,
        }
    }
}
