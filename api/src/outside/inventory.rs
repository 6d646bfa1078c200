//! Inventory: what is known of hosts that says how they are reached (contract §8), and its mock
//! (§12).

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use reqwest::{StatusCode, header::HeaderValue};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::call::Service;
use crate::recipients::systems::{Satellite, System};

/// Where hosts are asked for.
const HOSTS: &str = "/api/inventory/v1/hosts";
/// What both questions are called in metrics, as the original calls them.
const OPERATION: &str = "GetHostConnectionDetails";
/// The namespace of facts that Satellite reports.
const SATELLITE: &str = "satellite";

/// Knows hosts.
#[async_trait]
pub trait Inventory: Send + Sync {
    /// Those of these hosts that whoever has this identity may see, in Inventory's order.
    ///
    /// # Errors
    /// Why they are not known.
    async fn systems(&self, identity: &HeaderValue, ids: &[String]) -> Result<Vec<System>, String>;
}

/// Inventory over HTTP.
#[derive(Clone, Debug)]
pub struct InventoryClient {
    /// Where it is.
    pub service: Service,
    /// How hosts are ordered, as a query.
    pub order: String,
}

/// Two hosts, whatever is asked; two ids are answered otherwise.
#[derive(Clone, Copy, Debug)]
pub struct MockInventory;

#[derive(Deserialize)]
struct Results<T> {
    results: Vec<T>,
}

#[derive(Deserialize)]
struct Host {
    id: Option<String>,
    facts: Option<Vec<FactSet>>,
}

#[derive(Deserialize)]
struct FactSet {
    namespace: Option<String>,
    facts: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Profile {
    id: Option<String>,
    system_profile: Option<SystemProfile>,
}

#[derive(Deserialize)]
struct SystemProfile {
    rhc_client_id: Option<String>,
}

#[async_trait]
impl Inventory for InventoryClient {
    async fn systems(&self, identity: &HeaderValue, ids: &[String]) -> Result<Vec<System>, String> {
        let asked = ids
            .iter()
            .map(|id| Uuid::parse_str(id).map_err(|_| format!("{id:?} is not the id of a host")));
        let asked: BTreeSet<Uuid> = asked.collect::<Result<_, _>>()?;
        let list: Vec<String> = asked.iter().map(Uuid::to_string).collect();
        let (list, order) = (list.join(","), &self.order);
        let hosts = format!("{HOSTS}/{list}?{order}");
        let profiles = format!(
            "{HOSTS}/{list}/system_profile?fields%5Bsystem_profile%5D=rhc_client_id,owner_id&{order}"
        );
        let (hosts, profiles) = tokio::join!(
            self.ask::<Host>(identity, &hosts, true),
            self.ask::<Profile>(identity, &profiles, false)
        );
        let hosts = hosts?;
        if hosts.is_empty() {
            return Ok(Vec::new());
        }
        Ok(systems(asked, hosts, profiles?))
    }
}

impl InventoryClient {
    async fn ask<T: DeserializeOwned>(
        &self,
        identity: &HeaderValue,
        path: &str,
        may_be_absent: bool,
    ) -> Result<Vec<T>, String> {
        let reply = self.service.get(OPERATION, path).identity(identity).send().await;
        let reply = reply.map_err(|error| error.to_string())?;
        if may_be_absent && reply.status == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        Ok(reply.json_with::<Results<T>>(StatusCode::OK)?.results)
    }
}

/// Puts together what both answers say. Hosts that nobody asked for, or that come twice, do not
/// count.
fn systems(mut asked: BTreeSet<Uuid>, hosts: Vec<Host>, profiles: Vec<Profile>) -> Vec<System> {
    let key = |id: &str| Uuid::parse_str(id).ok();
    let clients: BTreeMap<Uuid, String> = profiles
        .into_iter()
        .filter_map(|one| Some((key(&one.id?)?, one.system_profile?.rhc_client_id?)))
        .collect();
    let system = |host: Host| {
        let id = host.id?;
        let known = key(&id).filter(|known| asked.remove(known))?;
        let rhc_client_id = clients.get(&known).filter(|id| !id.is_empty()).cloned();
        Some(System { id, satellite: satellite(host.facts), rhc_client_id })
    };
    hosts.into_iter().filter_map(system).collect()
}

fn satellite(facts: Option<Vec<FactSet>>) -> Option<Satellite> {
    let own = |set: &FactSet| set.namespace.as_deref() == Some(SATELLITE);
    let facts = facts?.into_iter().find(own)?.facts?;
    let instance_id = text(facts.get("satellite_instance_id")?)?;
    let org_id = facts.get("organization_id").and_then(text);
    Some(Satellite { instance_id, org_id })
}

/// A text that is not empty, or a whole number written as one.
fn text(fact: &Value) -> Option<String> {
    match fact {
        Value::String(text) => (!text.is_empty()).then(|| text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::Number(number) => number
            .as_f64()
            .filter(|number| number.fract() == 0.0)
            .map(|whole| format!("{whole:.0}")),
        _ => None,
    }
}

#[async_trait]
impl Inventory for MockInventory {
    async fn systems(&self, _: &HeaderValue, ids: &[String]) -> Result<Vec<System>, String> {
        let satellite = || {
            let instance_id = "bd54e0e9-5310-45be-b107-fd7c96672ce5".to_owned();
            Some(Satellite { instance_id, org_id: Some("5".to_owned()) })
        };
        let behind =
            |id: &str| System { id: id.to_owned(), satellite: satellite(), rhc_client_id: None };
        match ids.first().map(String::as_str) {
            Some("0e97ad0d-8649-4ef1-a3aa-492024cc84bf") => Err("timeout".to_owned()),
            Some(id @ "nil-satellite-version-host") => Ok(vec![behind(id)]),
            _ => Ok(vec![
                behind("c484f980-ab8d-401b-90e7-aa1d4ccf8c0e"),
                System {
                    id: "fe30b997-c15a-44a9-89df-c236c3b5c540".to_owned(),
                    satellite: None,
                    rhc_client_id: Some("32af5948-301f-449a-a25b-ff34c83264a2".to_owned()),
                },
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ONE: &str = "c484f980-ab8d-401b-90e7-aa1d4ccf8c0e";

    fn host(id: &str, facts: Value) -> Host {
        serde_json::from_value(json!({ "id": id, "facts": facts })).unwrap()
    }

    fn fact(name: &str, value: Value) -> Value {
        json!([{ "namespace": "other", "facts": { "satellite_instance_id": "x" } },
               { "namespace": "satellite",
                 "facts": { "satellite_instance_id": "sat", name: value } }])
    }

    #[test]
    fn the_organisation_of_a_satellite_is_a_text_or_a_whole_number() {
        let org = |value: Value| {
            let set = serde_json::from_value(fact("organization_id", value)).unwrap();
            satellite(Some(set)).unwrap().org_id
        };
        assert_eq!(org(json!("5")).as_deref(), Some("5"));
        assert_eq!(org(json!(5)).as_deref(), Some("5"));
        assert_eq!(org(json!(5.0)).as_deref(), Some("5"));
        assert_eq!(org(json!(u64::MAX)).as_deref(), Some("18446744073709551615"));
        for none in [json!(null), json!(""), json!(5.5), json!([5]), json!(true)] {
            assert_eq!(org(none), None);
        }
        let nothing = json!([{ "namespace": "satellite", "facts": {} }, { "facts": null }]);
        assert_eq!(satellite(serde_json::from_value(nothing).unwrap()), None);
        assert_eq!(satellite(None), None);
    }

    #[test]
    fn only_hosts_that_were_asked_for_count_and_only_once() {
        let asked = BTreeSet::from([Uuid::from_u128(1), ONE.parse().unwrap()]);
        let other = Uuid::from_u128(2).to_string();
        let upper = ONE.to_uppercase();
        let hosts = vec![
            host(&other, json!(null)),
            host(ONE, json!([])),
            host(&upper, json!([])),
            host("x", json!([])),
            serde_json::from_value(json!({})).unwrap(),
        ];
        let profile = json!([{ "id": upper, "system_profile": { "rhc_client_id": "c" } },
                             { "id": other }, {}]);
        let profiles = serde_json::from_value(profile).unwrap();
        let known =
            System { id: ONE.to_owned(), satellite: None, rhc_client_id: Some("c".to_owned()) };
        assert_eq!(systems(asked, hosts, profiles), [known]);
    }

    #[tokio::test]
    async fn the_mock_looks_at_the_first_id_alone() {
        let identity = HeaderValue::from_static("");
        let ask = async |id: &str| MockInventory.systems(&identity, &[id.to_owned()]).await;
        assert_eq!(ask("0e97ad0d-8649-4ef1-a3aa-492024cc84bf").await, Err("timeout".to_owned()));
        let one = ask("nil-satellite-version-host").await.unwrap();
        assert_eq!((one.len(), one[0].id.as_str()), (1, "nil-satellite-version-host"));
        let two = ask("anything").await.unwrap();
        assert_eq!(two.len(), 2);
        assert_eq!(two[0].satellite.as_ref().unwrap().org_id.as_deref(), Some("5"));
        assert_eq!(two[1].rhc_client_id.as_deref(), Some("32af5948-301f-449a-a25b-ff34c83264a2"));
    }
}
