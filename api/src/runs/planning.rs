//! What becomes of each item of a dispatch: the run it asks for with the way it takes, or the
//! answer that refuses it. Decides and builds; reads nothing, writes nothing, sends nothing.

use std::collections::{BTreeMap, BTreeSet};

use dispatcher_wire::dispatch::RunCreated;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    inputs,
    model::{NewRoute, NewRun, NewRunHost},
    order::Order,
    policy,
};
use crate::{
    auth::principal::Principal, keyring::Keyring, playbooks::address::is_ours,
    recipients::model::Recipient,
};

/// Seconds until a run times out, where its item does not say.
const DEFAULT_TIMEOUT: i32 = 3600;

/// The settings that decide what becomes of an order.
#[derive(Clone, Debug, Default)]
pub struct DispatchRules {
    /// Organisations whose items are refused.
    pub blocked_orgs: BTreeSet<String>,
    /// Where this service is reached from outside.
    pub public_url: String,
    /// Where people look at a run, where its item does not say.
    pub web_console_url: String,
    /// Whether the uploads of Satellite runs carry everything so far.
    pub satellite_response_full: bool,
    /// Whether every run gets the zero correlation id.
    pub demo_mode: bool,
}

/// The answer to an item whose run was created.
#[must_use]
pub const fn created(id: Uuid) -> RunCreated {
    RunCreated { code: 201, id: Some(id), message: None }
}

/// The answer to an item that cannot be carried out, with the reason.
#[must_use]
pub fn refused(code: u16, message: impl Into<String>) -> RunCreated {
    RunCreated { code, id: None, message: Some(message.into()) }
}

/// The contract's answer (and spelling) for a recipient that is not connected.
#[must_use]
pub fn recipient_not_found() -> RunCreated {
    refused(404, "Receipient not found")
}

/// The contract's answer for everything that is not the caller's fault.
#[must_use]
pub fn unexpected() -> RunCreated {
    refused(500, "Unexpected error during processing")
}

/// Everything known before the first item is looked at.
pub struct Planning<'a> {
    /// The settings.
    pub rules: &'a DispatchRules,
    /// Seals secrets.
    pub keyring: &'a Keyring,
    /// Who dispatches.
    pub principal: &'a Principal,
    /// The recipients of the batch that are registered.
    pub registered: &'a BTreeMap<Uuid, Recipient>,
    /// Whether foreign hosts can be reached at all.
    pub connector_on: bool,
    /// Now, in microseconds.
    pub now: OffsetDateTime,
}

/// The way of an item to its recipient.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Worker,
    CloudConnector,
}

impl Planning<'_> {
    /// The run of an order.
    ///
    /// # Errors
    /// The answer that refuses it.
    pub fn plan(&self, order: &Order) -> Result<NewRun, RunCreated> {
        if !self.principal.may_act_for(&order.org_id) {
            return Err(refused(403, format!("Not allowed for org_id {}", order.org_id)));
        }
        if self.rules.blocked_orgs.contains(&order.org_id) {
            return Err(refused(400, "Block listed org"));
        }
        policy::check_stored_playbook(order, &self.rules.public_url)
            .map_err(|why| refused(400, why))?;
        let way = self.way(order).ok_or_else(recipient_not_found)?;
        if way == Way::CloudConnector {
            self.check_foreign(order)?;
        }
        self.build(order, way)
    }

    /// A Satellite is reached by the connector; a registered recipient of the organisation by its
    /// worker, which has to be there; anybody else by the connector, where it is on.
    fn way(&self, order: &Order) -> Option<Way> {
        let own = self.registered.get(&order.recipient);
        match own.filter(|recipient| recipient.org_id == order.org_id) {
            Some(recipient) if policy::satellite(order).is_none() => {
                recipient.is_present(self.now).then_some(Way::Worker)
            }
            _ => self.connector_on.then_some(Way::CloudConnector),
        }
    }

    /// What only our workers understand.
    fn check_foreign(&self, order: &Order) -> Result<(), RunCreated> {
        let recipient = order.recipient;
        if order.inputs.is_some() {
            return Err(refused(
                400,
                format!("/inputs needs a registered recipient with a worker; {recipient} is none"),
            ));
        }
        if is_ours(&self.rules.public_url, &order.url) {
            return Err(refused(
                400,
                format!(
                    "the stored playbook of /url needs a registered recipient with a worker; \
                     {recipient} is none"
                ),
            ));
        }
        Ok(())
    }

    fn build(&self, order: &Order, way: Way) -> Result<NewRun, RunCreated> {
        let id = Uuid::new_v4();
        let satellite = policy::satellite(order);
        let config = order.recipient_config.as_ref();
        let console = order.web_console_url.as_ref().unwrap_or(&self.rules.web_console_url);
        Ok(NewRun {
            id,
            org_id: order.org_id.clone(),
            recipient: order.recipient,
            correlation_id: if self.rules.demo_mode { Uuid::nil() } else { Uuid::new_v4() },
            url: order.url.clone(),
            labels: order.labels.clone().unwrap_or_default(),
            timeout: order.timeout.unwrap_or(DEFAULT_TIMEOUT),
            service: self.principal.service().to_owned(),
            name: order.name.clone(),
            web_console_url: console.clone(),
            principal: order.principal.clone(),
            sat_id: satellite,
            sat_org_id: config.and_then(|config| config.sat_org_id.clone()),
            response_full: satellite.is_none() || self.rules.satellite_response_full,
            created_at: self.now,
            hosts: hosts_of(order),
            route: self.route(id, order, way)?,
        })
    }

    fn route(&self, id: Uuid, order: &Order, way: Way) -> Result<NewRoute, RunCreated> {
        let Way::Worker = way else { return Ok(NewRoute::CloudConnector) };
        let Some(given) = &order.inputs else {
            return Ok(NewRoute::Worker { inputs: None, sealed_secrets: None });
        };
        let stored = inputs::take_apart(self.keyring, id, given).map_err(|error| {
            tracing::error!(run.id = %id, %error, "a dispatch item could not be sealed");
            unexpected()
        })?;
        Ok(NewRoute::Worker { inputs: stored.inputs, sealed_secrets: stored.sealed_secrets })
    }
}

fn hosts_of(order: &Order) -> Vec<NewRunHost> {
    let hosts = order.hosts.iter().flatten();
    hosts
        .filter_map(|host| {
            Some(NewRunHost {
                id: Uuid::new_v4(),
                host: policy::host_name(host)?,
                inventory_id: host.inventory_id,
                subscription_manager_id: host.subscription_manager_id,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use dispatcher_wire::dispatch::DispatchItem;
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::principal::{Kind, OrgScope, Role};

    const OWN: &str = "dd018b96-da04-4651-84d1-187fa5c23f6c";
    const FOREIGN: &str = "8e1f44ae-3f1b-4c1a-9a3e-0f7a5a0c6d11";

    fn plan(
        connector_on: bool,
        seen_ago: Option<i64>,
        members: &Value,
    ) -> Result<NewRun, RunCreated> {
        let mut item = json!({
            "recipient": OWN, "org_id": "1", "principal": "jdoe",
            "url": "https://example.com/p.yml", "name": "p",
        });
        for (name, value) in members.as_object().unwrap() {
            item[name] = value.clone();
        }
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
        let own = Recipient {
            id: OWN.parse().unwrap(),
            org_id: "1".to_owned(),
            name: "own".to_owned(),
            key_digest: None,
            last_seen: seen_ago.map(|ago| now - time::Duration::seconds(ago)),
            created_at: now,
        };
        Planning {
            rules: &DispatchRules {
                blocked_orgs: BTreeSet::from(["666".to_owned()]),
                public_url: "https://d.example".to_owned(),
                web_console_url: "https://d.example/console".to_owned(),
                satellite_response_full: false,
                demo_mode: false,
            },
            keyring: &Keyring::parse(&Keyring::generate().unwrap()).unwrap(),
            principal: &Principal {
                kind: Kind::Service,
                id: "remediations".to_owned(),
                org: OrgScope::All,
                role: Role::Operator,
            },
            registered: &BTreeMap::from([(own.id, own)]),
            connector_on,
            now,
        }
        .plan(&serde_json::from_value::<DispatchItem>(item).unwrap().into())
    }

    fn is_worker(planned: &Result<NewRun, RunCreated>) -> bool {
        matches!(planned.as_ref().unwrap().route, NewRoute::Worker { .. })
    }

    #[test]
    fn items_go_where_the_design_says() {
        let satellite = json!({
            "recipient_config": {"sat_id": OWN, "sat_org_id": "5"},
            "hosts": [{"inventory_id": OWN}],
        });
        let nobody = json!({"recipient": FOREIGN});
        let others = json!({"org_id": "2"});
        assert!(is_worker(&plan(true, Some(1), &json!({}))));
        assert!(is_worker(&plan(false, Some(29), &json!({}))));
        for elsewhere in [&satellite, &nobody, &others] {
            assert!(!is_worker(&plan(true, Some(1), elsewhere)));
            assert_eq!(plan(false, Some(1), elsewhere).unwrap_err(), recipient_not_found());
        }
        for absent in [None, Some(30)] {
            let answer = plan(true, absent, &json!({})).unwrap_err();
            assert_eq!(answer, recipient_not_found());
        }
    }

    #[test]
    fn runs_get_the_contracts_defaults() {
        let run = plan(false, Some(1), &json!({})).unwrap();
        assert_eq!((run.timeout, run.service.as_str()), (3600, "remediations"));
        assert_eq!(run.web_console_url, "https://d.example/console");
        assert!(run.response_full && run.labels.is_empty() && run.hosts.is_empty());
        assert_ne!(run.id, run.correlation_id);
        let satellite = json!({
            "recipient_config": {"sat_id": OWN, "sat_org_id": "5"}, "timeout": 0,
            "hosts": [{"inventory_id": OWN}],
        });
        let run = plan(true, None, &satellite).unwrap();
        assert_eq!((run.timeout, run.sat_org_id.as_deref()), (0, Some("5")));
        assert!(!run.response_full);
        assert_eq!(run.hosts[0].host, OWN);
    }

    #[test]
    fn refusals_come_in_order() {
        let stored = |org: &str| {
            let content = "07".repeat(32);
            format!("https://d.example/api/playbook-dispatcher/v1/playbook-content/{org}/{content}")
        };
        let all = json!({"org_id": "666", "url": stored("1"), "recipient": FOREIGN});
        assert_eq!(plan(false, None, &all).unwrap_err(), refused(400, "Block listed org"));
        let others = json!({"url": stored("2"), "recipient": FOREIGN});
        assert_eq!(plan(false, None, &others).unwrap_err().code, 400);
        let inputs = json!({"recipient": FOREIGN, "inputs": {"check": true}});
        assert_eq!(plan(false, None, &inputs).unwrap_err(), recipient_not_found());
        let answer = plan(true, None, &inputs).unwrap_err();
        assert!(answer.code == 400 && answer.message.unwrap().starts_with("/inputs needs"));
        let stored = json!({"recipient": FOREIGN, "url": stored("1")});
        let answer = plan(true, None, &stored).unwrap_err();
        assert!(answer.code == 400 && answer.message.unwrap().contains("stored playbook"));
    }

    #[test]
    fn secrets_are_sealed_and_not_in_the_run() {
        let run = plan(false, Some(1), &json!({"inputs": {"secrets": {"p": "hunter2"}}})).unwrap();
        assert!(!format!("{run:?}").contains("hunter2"));
        let NewRoute::Worker { inputs, sealed_secrets } = run.route else { panic!() };
        assert!(inputs.is_some() && sealed_secrets.is_some());
    }
}
