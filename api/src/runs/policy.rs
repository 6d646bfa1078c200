//! What a dispatch may ask for: the contract's check of the whole batch, and our checks of one
//! item. Pure; the shape of the body (types, lengths, formats) has been checked before.

use std::collections::BTreeSet;

use dispatcher_wire::{
    dispatch::{DispatchHost, DispatchItem},
    inputs::{MAX_INPUTS_BYTES, RunInputs},
};
use serde_json::Value;
use uuid::Uuid;

use crate::playbooks::address::Content;

/// The highest `verbosity` of run inputs (Ansible knows no more).
const MAX_VERBOSITY: u8 = 5;

/// The Satellite an item is addressed to, if it is.
#[must_use]
pub fn satellite(item: &DispatchItem) -> Option<Uuid> {
    item.recipient_config.as_ref()?.sat_id
}

/// The contract's check of the whole batch; the first violation refuses all of it.
///
/// # Errors
/// The contract's message.
pub fn check_batch(items: &[DispatchItem]) -> Result<(), &'static str> {
    items.iter().try_for_each(check_satellite)
}

fn check_satellite(item: &DispatchItem) -> Result<(), &'static str> {
    let Some(config) = &item.recipient_config else { return Ok(()) };
    match (&config.sat_id, &config.sat_org_id) {
        (None, None) => return Ok(()),
        (Some(_), Some(_)) => {}
        _ => return Err("Both sat_id and sat_org need to be defined"),
    }
    let hosts = item.hosts.as_ref().ok_or("Hosts need to be defined")?;
    if hosts.is_empty() {
        return Err("Hosts cannot be empty");
    }
    if hosts.iter().any(|host| host.inventory_id.is_none()) {
        return Err("Inventory ID needs to be defined");
    }
    Ok(())
}

/// Everything of one item that no database would take or no worker could use.
///
/// # Errors
/// What is wrong, where, and what is allowed.
pub fn check_item(item: &DispatchItem, public_url: &str) -> Result<(), String> {
    if let Some(pointer) = serde_json::to_value(item).ok().as_ref().and_then(nul_in) {
        return Err(format!("{pointer} contains the character NUL, which is not allowed"));
    }
    check_hosts(item.hosts.as_deref().unwrap_or_default())?;
    check_stored_playbook(item, public_url)?;
    item.inputs.as_ref().map_or(Ok(()), check_inputs)
}

/// A stored playbook belongs to the organisation in its address: no worker of another is given the
/// right to read it, so its run could only fail.
fn check_stored_playbook(item: &DispatchItem, public_url: &str) -> Result<(), String> {
    match Content::of(public_url, &item.url) {
        Some(content) if content.org_id != item.org_id => {
            Err(format!("the stored playbook of /url does not belong to org_id {}", item.org_id))
        }
        _ => Ok(()),
    }
}

/// The name under which a host's row is kept.
#[must_use]
pub fn host_name(host: &DispatchHost) -> Option<String> {
    host.ansible_host.clone().or_else(|| host.inventory_id.map(|id| id.to_string()))
}

fn check_hosts(hosts: &[DispatchHost]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for (index, host) in hosts.iter().enumerate() {
        let name = host_name(host).ok_or_else(|| {
            format!("/hosts/{index} has no name: give ansible_host or inventory_id")
        })?;
        if !names.insert(name.clone()) {
            return Err(format!("/hosts/{index} repeats the host {name:?}: names are unique"));
        }
    }
    Ok(())
}

fn check_inputs(inputs: &RunInputs) -> Result<(), String> {
    if inputs.verbosity > MAX_VERBOSITY {
        let given = inputs.verbosity;
        return Err(format!("/inputs/verbosity is {given}; allowed are 0 to {MAX_VERBOSITY}"));
    }
    let size = serde_json::to_vec(inputs).map_or(usize::MAX, |json| json.len());
    if size > MAX_INPUTS_BYTES {
        return Err(format!(
            "/inputs takes {size} bytes as JSON; allowed are {MAX_INPUTS_BYTES}: put files into a \
             playbook bundle"
        ));
    }
    Ok(())
}

/// The JSON pointer of the first text (or member name) with a NUL, which PostgreSQL cannot hold.
fn nul_in(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => {
            let found = |(index, item)| Some(format!("/{index}{}", nul_in(item)?));
            items.iter().enumerate().find_map(found)
        }
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            if name.contains('\0') {
                return Some(format!("/{}", name.replace('\0', "\\u0000")));
            }
            Some(format!("/{name}{}", nul_in(member)?))
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PUBLIC: &str = "https://dispatcher.example";

    fn item(members: &Value) -> DispatchItem {
        let mut item = json!({
            "recipient": "dd018b96-da04-4651-84d1-187fa5c23f6c", "org_id": "5318290",
            "principal": "jdoe", "url": "https://example.com/p.yml", "name": "p",
        });
        for (name, value) in members.as_object().unwrap() {
            item[name] = value.clone();
        }
        serde_json::from_value(item).unwrap()
    }

    fn batch(members: &Value) -> Result<(), &'static str> {
        check_batch(&[item(&json!({})), item(members)])
    }

    #[test]
    fn satellite_items_need_everything_in_the_contracts_order() {
        let sat = "9274c274-a258-4d00-91fe-dbe0f7849cef";
        let both = json!({"sat_id": sat, "sat_org_id": "5"});
        let half = Err("Both sat_id and sat_org need to be defined");
        assert_eq!(batch(&json!({"recipient_config": {}})), Ok(()));
        assert_eq!(batch(&json!({"recipient_config": {"sat_id": sat}, "hosts": []})), half);
        assert_eq!(batch(&json!({"recipient_config": {"sat_org_id": "5"}})), half);
        let with = |hosts: Value| batch(&json!({"recipient_config": both, "hosts": hosts}));
        assert_eq!(batch(&json!({"recipient_config": both})), Err("Hosts need to be defined"));
        assert_eq!(with(json!([])), Err("Hosts cannot be empty"));
        let id = "c484f980-ab8d-401b-90e7-aa1d4ccf8c0e";
        let named = json!([{"inventory_id": id}, {"ansible_host": "a"}]);
        assert_eq!(with(named), Err("Inventory ID needs to be defined"));
        assert_eq!(with(json!([{"inventory_id": id}])), Ok(()));
    }

    #[test]
    fn the_first_violation_of_the_batch_is_named() {
        let bad = item(&json!({"recipient_config": {"sat_org_id": "5"}}));
        let sat = json!({"sat_id": "9274c274-a258-4d00-91fe-dbe0f7849cef", "sat_org_id": "5"});
        let empty = item(&json!({"recipient_config": sat, "hosts": []}));
        assert_eq!(check_batch(&[empty.clone(), bad.clone()]), Err("Hosts cannot be empty"));
        assert_eq!(check_batch(&[bad, empty]), Err("Both sat_id and sat_org need to be defined"));
    }

    #[test]
    fn what_no_database_takes_is_named() {
        for (members, pointer) in [
            (json!({"name": "a\0b"}), "/name "),
            (json!({"labels": {"a": "x\0"}}), "/labels/a "),
            (json!({"labels": {"a\0": "x"}}), "/labels/a\\u0000 "),
            (json!({"hosts": [{}, {"ansible_host": "\0"}]}), "/hosts/1/ansible_host "),
            (json!({"inputs": {"extra_vars": {"a": ["\0"]}}}), "/inputs/extra_vars/a/0 "),
            (json!({"hosts": [{}]}), "/hosts/0 has no name"),
            (json!({"hosts": [{"ansible_host": "a"}, {"ansible_host": "a"}]}), "/hosts/1 repeats"),
            (json!({"inputs": {"verbosity": 6}}), "/inputs/verbosity is 6"),
            (json!({"inputs": {"inventory": "x".repeat(MAX_INPUTS_BYTES)}}), "/inputs takes"),
        ] {
            let error = check_item(&item(&members), PUBLIC).unwrap_err();
            assert!(error.starts_with(pointer), "{error}");
        }
    }

    #[test]
    fn an_inventory_id_repeated_as_a_name_is_a_repeated_host() {
        let id = "c484f980-ab8d-401b-90e7-aa1d4ccf8c0e";
        let hosts = json!([{"inventory_id": id}, {"ansible_host": id}]);
        assert!(check_item(&item(&json!({"hosts": hosts})), PUBLIC).is_err());
    }

    #[test]
    fn hostile_labels_are_only_text() {
        let labels = json!({"'; drop table runs; --": "x", "$.a[0]": "\"", "": "\u{1F600}"});
        assert_eq!(check_item(&item(&json!({"labels": labels})), PUBLIC), Ok(()));
    }

    #[test]
    fn a_stored_playbook_is_used_by_its_own_organisation() {
        let url = |org: &str| Content { org_id: org.to_owned(), sha256: [7; 32] }.address(PUBLIC);
        assert_eq!(check_item(&item(&json!({"url": url("5318290")})), PUBLIC), Ok(()));
        assert!(check_item(&item(&json!({"url": url("53182901")})), PUBLIC).is_err());
        assert!(check_item(&item(&json!({"url": url("")})), PUBLIC).is_err());
    }
}
