//! Bodies of dispatch, cancel and recipient status, as their clients send and read them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::inputs::RunInputs;

/// One item of a dispatch request: run this playbook on that recipient.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DispatchItem {
    /// Who executes it.
    pub recipient: Uuid,
    /// The organisation that owns the recipient and the run, 1 to 10 characters.
    pub org_id: String,
    /// The person or program on whose behalf it runs.
    pub principal: String,
    /// Where the playbook is fetched from: http or https.
    pub url: String,
    /// What people call it.
    pub name: String,
    /// Where people look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_console_url: Option<String>,
    /// Free labels, for filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Seconds from now until the run counts as timed out, 0 to 604,800; 3,600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i32>,
    /// Hosts known beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<DispatchHost>>,
    /// Satellite addressing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_config: Option<RecipientConfig>,
    /// How the playbook is executed; our workers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<RunInputs>,
}

/// One item of a dispatch request by account, the older form: for recipients that are reached without
/// a Satellite.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AccountItem {
    /// Who executes it.
    pub recipient: Uuid,
    /// The account whose organisation owns the recipient and the run, 1 to 10 characters.
    pub account: String,
    /// Where the playbook is fetched from: http or https.
    pub url: String,
    /// Free labels, for filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Seconds from now until the run counts as timed out, 0 to 604,800; 3,600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i32>,
    /// Hosts known beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<DispatchHost>>,
}

/// A host known at dispatch time.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct DispatchHost {
    /// Its name in Ansible's inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ansible_host: Option<String>,
    /// Its id in the host inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory_id: Option<Uuid>,
    /// Its subscription manager id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_manager_id: Option<Uuid>,
}

/// Addressing of a run that goes through a Satellite.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RecipientConfig {
    /// The Satellite instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sat_id: Option<Uuid>,
    /// The organisation inside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sat_org_id: Option<String>,
}

/// The outcome of one dispatch item, in the order of the request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RunCreated {
    /// 201, or why not.
    pub code: u16,
    /// The new run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// Why not, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One item of a cancel request.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CancelItem {
    /// The run.
    pub run_id: Uuid,
    /// Its organisation.
    pub org_id: String,
    /// Who cancels.
    pub principal: String,
}

/// The outcome of one cancel item, in the order of the request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RunCanceled {
    /// 202, or why not.
    pub code: u16,
    /// The run on 202, else the zero UUID (contract quirk, clients index by position).
    pub run_id: Uuid,
}

/// A recipient and its organisation.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RecipientWithOrg {
    /// The recipient.
    pub recipient: Uuid,
    /// Its organisation.
    pub org_id: String,
}

/// Whether a recipient is connected. Members in the contract's (alphabetical) order.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RecipientStatus {
    /// Whether it is.
    pub connected: bool,
    /// Its organisation.
    pub org_id: String,
    /// The recipient.
    pub recipient: Uuid,
}

/// Hosts whose connection is asked for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HostsWithOrg {
    /// Their organisation.
    pub org_id: String,
    /// Their ids in Inventory.
    pub hosts: Vec<String>,
}

/// Through which kind of recipient hosts are reached.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RecipientType {
    /// A Satellite.
    Satellite,
    /// A client on the host itself.
    DirectConnect,
    /// None.
    None,
}

/// Whether hosts can be reached.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostsConnection {
    /// They can.
    Connected,
    /// They could, if their recipient were connected.
    Disconnected,
    /// Nothing connects them.
    RhcNotConfigured,
}

/// Hosts that are reached in the same way. Members in the contract's (alphabetical) order, all always
/// there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConnectionStatus {
    /// The organisation that was named.
    pub org_id: String,
    /// Through whom; zero for nobody.
    pub recipient: Uuid,
    /// What that is.
    pub recipient_type: RecipientType,
    /// The Satellite; empty where there is none.
    pub sat_id: String,
    /// The organisation inside it; empty where there is none.
    pub sat_org_id: String,
    /// Whether they can be reached.
    pub status: HostsConnection,
    /// The hosts.
    pub systems: Vec<String>,
}
