//! The bodies of the contract routes: their schemas (of the parts in [`components`]), and the checks of
//! ours that go beyond them.

use std::collections::BTreeSet;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_wire::{
    dispatch::{AccountItem, CancelItem, DispatchItem, HostsWithOrg, RecipientWithOrg},
    inputs::{MAX_INPUTS_BYTES, RunInputs},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Schema, Violation, components, text::no_nul};
use crate::{auth::principal::Role, keyring::unhex};

/// The longest name of a host, in bytes: what the databases' indexes take.
const MAX_HOST_NAME: usize = 1024;
/// Ansible's `-v` may be given this often.
pub const MAX_VERBOSITY: u8 = 5;
/// How long a SHA-256 is.
const SHA256_BYTES: usize = 32;
/// How long an Ed25519 signature is.
const SIGNATURE_BYTES: usize = 64;
/// The most items of a dispatch or cancel request.
const MAX_ITEMS: usize = 50;

static DISPATCH: Schema = Schema::Array {
    items: &Schema::Named(&components::RUN_INPUT_V2),
    min: 1,
    max: Some(MAX_ITEMS),
};
static DISPATCH_BY_ACCOUNT: Schema =
    Schema::Array { items: &Schema::Named(&components::RUN_INPUT), min: 1, max: Some(MAX_ITEMS) };
static CANCEL: Schema = Schema::Array {
    items: &Schema::Named(&components::CANCEL_INPUT_V2),
    min: 1,
    max: Some(MAX_ITEMS),
};
static RECIPIENTS_STATUS: Schema =
    Schema::Array { items: &Schema::Named(&components::RECIPIENT_WITH_ORG), min: 1, max: None };
static CONNECTION_STATUS: Schema = Schema::Named(&components::HOSTS_WITH_ORG_ID);

/// What an item names that goes through a Satellite; one without the other is the contract's to refuse.
const SATELLITE: [&str; 2] = ["/recipient_config/sat_id", "/recipient_config/sat_org_id"];

/// A body of a contract route: its schema and what is checked beyond it.
pub trait ContractBody: DeserializeOwned + Send {
    /// What whoever sends it must be at least, where that is somebody with a role.
    const LEAST: Role;

    /// What the body must look like.
    fn schema() -> &'static Schema;

    /// Checks of ours, after the schema.
    ///
    /// # Errors
    /// The first violation.
    fn check(_value: &Value) -> Result<(), Violation> {
        Ok(())
    }
}

impl ContractBody for Vec<DispatchItem> {
    const LEAST: Role = Role::Operator;

    fn schema() -> &'static Schema {
        &DISPATCH
    }

    fn check(value: &Value) -> Result<(), Violation> {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            let is_said = |member: &&str| item.pointer(member).is_some();
            let behind_satellite = SATELLITE.iter().any(is_said);
            check_inputs(item)
                .and_then(|()| check_hosts(item, behind_satellite))
                .map_err(|violation| violation.under(index.to_string()))?;
        }
        Ok(())
    }
}

impl ContractBody for Vec<AccountItem> {
    const LEAST: Role = Role::Operator;

    fn schema() -> &'static Schema {
        &DISPATCH_BY_ACCOUNT
    }

    fn check(value: &Value) -> Result<(), Violation> {
        let mut items = value.as_array().into_iter().flatten().enumerate();
        items.try_for_each(|(index, item)| {
            check_hosts(item, false).map_err(|violation| violation.under(index.to_string()))
        })
    }
}

impl ContractBody for Vec<CancelItem> {
    const LEAST: Role = Role::Operator;

    fn schema() -> &'static Schema {
        &CANCEL
    }
}

impl ContractBody for Vec<RecipientWithOrg> {
    const LEAST: Role = Role::Reader;

    fn schema() -> &'static Schema {
        &RECIPIENTS_STATUS
    }
}

impl ContractBody for HostsWithOrg {
    const LEAST: Role = Role::Reader;

    fn schema() -> &'static Schema {
        &CONNECTION_STATUS
    }
}

fn check_inputs(item: &Value) -> Result<(), Violation> {
    let Some(inputs) = item.get("inputs").filter(|inputs| !inputs.is_null()) else {
        return Ok(());
    };
    bounded(inputs)
        .and_then(|()| text_without_nul(inputs))
        .and_then(|()| typed(inputs))
        .map_err(|violation| violation.under("inputs"))
}

fn bounded(inputs: &Value) -> Result<(), Violation> {
    let size = serde_json::to_vec(inputs).map_or(usize::MAX, |bytes| bytes.len());
    if size > MAX_INPUTS_BYTES {
        let reason = format!("inputs take {size} bytes; the most is {MAX_INPUTS_BYTES}");
        return Err(Violation::new(reason));
    }
    Ok(())
}

fn typed(inputs: &Value) -> Result<(), Violation> {
    // A list of the right length would be taken for the members in their order.
    if !inputs.is_object() {
        return Err(Violation::new("value must be an object"));
    }
    // Told apart first: the text of the error below quotes the value, which here is a secret.
    if inputs.get("secrets").is_some_and(|secrets| !secrets.is_object() && !secrets.is_null()) {
        return Err(Violation::new("value must be an object").under("secrets"));
    }
    let parsed = serde_json::from_value::<RunInputs>(inputs.clone());
    let parsed = parsed.map_err(|error| Violation::new(error.to_string()))?;
    if parsed.verbosity > MAX_VERBOSITY {
        let reason = format!("number must be at most {MAX_VERBOSITY}");
        return Err(Violation::new(reason).under("verbosity"));
    }
    if parsed
        .playbook_sha256
        .is_some_and(|text| unhex(&text).is_none_or(|bytes| bytes.len() != SHA256_BYTES))
    {
        let reason = "string must be a SHA-256: 64 hexadecimal digits";
        return Err(Violation::new(reason).under("playbook_sha256"));
    }
    let signature = parsed.playbook_signature.map(|text| BASE64_STANDARD.decode(text));
    if signature.is_some_and(|bytes| bytes.map_or(true, |bytes| bytes.len() != SIGNATURE_BYTES)) {
        let reason = "string must be an Ed25519 signature: 64 bytes in base64";
        return Err(Violation::new(reason).under("playbook_signature"));
    }
    Ok(())
}

/// No string in there, however deep, may contain U+0000.
fn text_without_nul(value: &Value) -> Result<(), Violation> {
    match value {
        Value::String(text) => no_nul(text),
        Value::Array(list) => list.iter().enumerate().try_for_each(|(index, item)| {
            text_without_nul(item).map_err(|violation| violation.under(index.to_string()))
        }),
        Value::Object(members) => members.iter().try_for_each(|(name, member)| {
            no_nul(name)
                .and_then(|()| text_without_nul(member))
                .map_err(|violation| violation.under(name.clone()))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Hosts are known by name within a run: each needs one that is not too long, and no two may share
/// one. What the contract says about hosts behind a Satellite comes first there, so it is left to dispatch.
fn check_hosts(item: &Value, behind_satellite: bool) -> Result<(), Violation> {
    let hosts = item.get("hosts").and_then(Value::as_array);
    let mut names = BTreeSet::new();
    for (index, host) in hosts.into_iter().flatten().enumerate() {
        let here = |violation: Violation| violation.under(index.to_string()).under("hosts");
        let name = host.as_object().and_then(host_name);
        match name {
            Some(name) if name.len() > MAX_HOST_NAME => {
                let reason = format!("a host's name may take {MAX_HOST_NAME} bytes");
                return Err(here(Violation::new(reason)));
            }
            Some(name) if !names.insert(name) => {
                let reason = format!("host {name:?} is named twice in this item");
                return Err(here(Violation::new(reason)));
            }
            None if !behind_satellite => {
                let reason = "a host needs ansible_host or inventory_id";
                return Err(here(Violation::new(reason)));
            }
            _ => {}
        }
    }
    Ok(())
}

fn host_name(host: &Map<String, Value>) -> Option<&str> {
    ["ansible_host", "inventory_id"].iter().find_map(|member| host.get(*member)?.as_str())
}
