//! What a dispatch may ask for beyond the form of its body: the contract's check of the whole batch,
//! and whose stored playbook an item may name. Pure.
//!
//! Types, lengths, formats, unique host names and the size of inputs have been checked with the
//! body.

use dispatcher_wire::dispatch::DispatchHost;
use uuid::Uuid;

use super::order::Order;
use crate::playbooks::address::Content;

/// The Satellite an item is addressed to, if it is.
#[must_use]
pub fn satellite(order: &Order) -> Option<Uuid> {
    order.recipient_config.as_ref()?.sat_id
}

/// The contract's check of the whole batch; the first violation refuses all of it.
///
/// # Errors
/// The contract's message.
pub fn check_batch(orders: &[&Order]) -> Result<(), &'static str> {
    orders.iter().try_for_each(|order| check_satellite(order))
}

fn check_satellite(order: &Order) -> Result<(), &'static str> {
    let Some(config) = &order.recipient_config else { return Ok(()) };
    match (&config.sat_id, &config.sat_org_id) {
        (None, None) => return Ok(()),
        (Some(_), Some(_)) => {}
        _ => return Err("Both sat_id and sat_org need to be defined"),
    }
    let hosts = order.hosts.as_ref().ok_or("Hosts need to be defined")?;
    if hosts.is_empty() {
        return Err("Hosts cannot be empty");
    }
    if hosts.iter().any(|host| host.inventory_id.is_none()) {
        return Err("Inventory ID needs to be defined");
    }
    Ok(())
}

/// A stored playbook belongs to the organisation in its address: no worker of another is given the
/// right to read it, so its run could only fail.
///
/// # Errors
/// What is wrong.
pub fn check_stored_playbook(order: &Order, public_url: &str) -> Result<(), String> {
    match Content::of(public_url, &order.url) {
        Some(content) if content.org_id != order.org_id => {
            Err(format!("the stored playbook of /url does not belong to org_id {}", order.org_id))
        }
        _ => Ok(()),
    }
}

/// The name under which a host's row is kept.
#[must_use]
pub fn host_name(host: &DispatchHost) -> Option<String> {
    host.ansible_host.clone().or_else(|| host.inventory_id.map(|id| id.to_string()))
}

#[cfg(test)]
mod tests {
    use dispatcher_wire::dispatch::DispatchItem;
    use serde_json::{Value, json};

    use super::*;

    const PUBLIC: &str = "https://dispatcher.example";

    fn item(members: &Value) -> Order {
        let mut item = json!({
            "recipient": "dd018b96-da04-4651-84d1-187fa5c23f6c", "org_id": "5318290",
            "principal": "jdoe", "url": "https://example.com/p.yml", "name": "p",
        });
        for (name, value) in members.as_object().unwrap() {
            item[name] = value.clone();
        }
        serde_json::from_value::<DispatchItem>(item).unwrap().into()
    }

    fn batch(members: &Value) -> Result<(), &'static str> {
        check_batch(&[&item(&json!({})), &item(members)])
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
        assert_eq!(check_batch(&[&empty, &bad]), Err("Hosts cannot be empty"));
        assert_eq!(check_batch(&[&bad, &empty]), Err("Both sat_id and sat_org need to be defined"));
    }

    #[test]
    fn a_stored_playbook_is_used_by_its_own_organisation() {
        let url = |org: &str| Content { org_id: org.to_owned(), sha256: [7; 32] }.address(PUBLIC);
        assert_eq!(check_stored_playbook(&item(&json!({"url": url("5318290")})), PUBLIC), Ok(()));
        assert!(check_stored_playbook(&item(&json!({"url": url("53182901")})), PUBLIC).is_err());
        assert!(check_stored_playbook(&item(&json!({"url": url("")})), PUBLIC).is_err());
    }
}
