//! What recipients are told over Cloud Connector (contract §2): directives, metadata and payload of
//! runs and cancellations, and their form on the wire. Pure.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;

use crate::{
    keyring::hex,
    runs::model::{NewRun, RunRow},
};

/// What hosts with a worker of their own understand.
const RUNNER: &str = "rhc-worker-playbook";
/// What Satellites understand.
const SATELLITE: &str = "foreman_rh_cloud";

/// A message to a recipient. All values of its metadata are texts.
#[derive(Clone, Debug, Serialize)]
pub struct Message<'a> {
    directive: &'static str,
    metadata: BTreeMap<&'static str, String>,
    payload: &'a str,
}

/// What every run is told: where to send its events, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Reporting<'a> {
    /// Where.
    pub return_url: &'a str,
    /// Seconds between two uploads.
    pub interval: u32,
}

impl<'a> Message<'a> {
    /// The message that starts a run.
    #[must_use]
    pub fn start(run: &'a NewRun, reporting: Reporting<'_>) -> Self {
        let mut metadata = BTreeMap::from([
            ("return_url", reporting.return_url.to_owned()),
            ("response_interval", reporting.interval.to_string()),
        ]);
        let (directive, payload) = (directive(run), run.url.as_str());
        match run.sat_id {
            None => {
                let id = run.correlation_id.to_string();
                metadata.insert("crc_dispatcher_correlation_id", id);
            }
            Some(sat_id) => {
                metadata.insert("sat_id", sat_id.to_string());
                metadata.extend(behind_satellite(run));
            }
        }
        Self { directive, metadata, payload }
    }

    /// The message that ends a run behind a Satellite.
    #[must_use]
    pub fn cancel(run: &RunRow, principal: &str) -> Self {
        let metadata = BTreeMap::from([
            ("operation", "cancel".to_owned()),
            ("correlation_id", run.correlation_id.to_string()),
            ("initiator_user_id", hidden(principal)),
        ]);
        Self { directive: SATELLITE, metadata, payload: "" }
    }

    /// As it goes over the wire: one line of JSON, nothing in it escaped for HTML.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        // Texts always are JSON.
        let mut body = serde_json::to_vec(self).unwrap_or_default();
        body.push(b'\n');
        body
    }
}

fn directive(run: &NewRun) -> &'static str {
    if run.sat_id.is_some() { SATELLITE } else { RUNNER }
}

fn behind_satellite(run: &NewRun) -> BTreeMap<&'static str, String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let inventory_ids = run.hosts.iter().filter_map(|host| host.inventory_id);
    let mut metadata = BTreeMap::from([
        ("operation", "run".to_owned()),
        ("correlation_id", run.correlation_id.to_string()),
        ("playbook_run_name", text(&run.name)),
        ("playbook_run_url", run.web_console_url.clone()),
        ("sat_org_id", text(&run.sat_org_id)),
        ("initiator_user_id", hidden(run.principal.as_deref().unwrap_or_default())),
        ("hosts", joined(inventory_ids)),
        ("response_full", run.response_full.to_string()),
    ]);
    let subscriptions = joined(run.hosts.iter().filter_map(|host| host.subscription_manager_id));
    if !subscriptions.is_empty() {
        metadata.insert("subscription_manager_ids", subscriptions);
    }
    metadata
}

fn joined(ids: impl Iterator<Item = uuid::Uuid>) -> String {
    ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}

/// Who it is is nobody's business there; that it is the same one may be seen.
fn hidden(principal: &str) -> String {
    hex(digest(&SHA256, principal.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use dispatcher_wire::RunStatus;
    use serde_json::{Value, json};
    use time::OffsetDateTime;
    use uuid::{Uuid, uuid};

    use super::*;
    use crate::runs::model::{NewRoute, NewRunHost};

    const REPORTING: Reporting<'_> =
        Reporting { return_url: "https://d.example/upload?token=a", interval: 600 };
    const SAT_ID: Uuid = uuid!("9274c274-a258-5d00-91fe-dbe0f7849cef");
    /// `printf jdoe | sha256sum`.
    const JDOE: &str = "d30a5f57532a603697ccbb51558fa02ccadd74a0c499fcf9d45b33863ee1582f";

    fn run(sat_id: Option<Uuid>, hosts: &[(u128, Option<u128>)]) -> NewRun {
        let host = |(id, subscription): &(u128, Option<u128>)| NewRunHost {
            id: Uuid::nil(),
            host: id.to_string(),
            inventory_id: Some(Uuid::from_u128(*id)),
            subscription_manager_id: subscription.map(Uuid::from_u128),
        };
        NewRun {
            id: Uuid::from_u128(1),
            org_id: "5318290".to_owned(),
            recipient: Uuid::from_u128(2),
            correlation_id: Uuid::from_u128(3),
            url: "https://example.com/p?a=1&b=<2>".to_owned(),
            labels: BTreeMap::new(),
            timeout: 3600,
            service: "remediations".to_owned(),
            name: Some("Äpfel & Birnen".to_owned()),
            web_console_url: "https://console.example/runs".to_owned(),
            principal: Some("jdoe".to_owned()),
            sat_id,
            sat_org_id: sat_id.map(|_| "5".to_owned()),
            response_full: false,
            created_at: OffsetDateTime::UNIX_EPOCH,
            hosts: hosts.iter().map(host).collect(),
            route: NewRoute::CloudConnector,
        }
    }

    fn value(message: &Message<'_>) -> Value {
        serde_json::from_slice(&message.body()).unwrap()
    }

    #[test]
    fn a_host_gets_three_texts() {
        let run = run(None, &[(7, Some(8))]);
        let message = Message::start(&run, REPORTING);
        let expected = concat!(
            r#"{"directive":"rhc-worker-playbook","metadata":{"#,
            r#""crc_dispatcher_correlation_id":"00000000-0000-0000-0000-000000000003","#,
            r#""response_interval":"600","return_url":"https://d.example/upload?token=a"},"#,
            r#""payload":"https://example.com/p?a=1&b=<2>"}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(message.body()).unwrap(), expected);
    }

    #[test]
    fn a_satellite_gets_eleven_texts_or_twelve() {
        let hosts = "00000000-0000-0000-0000-000000000007,00000000-0000-0000-0000-000000000006";
        let mut expected = json!({
            "operation": "run", "return_url": "https://d.example/upload?token=a",
            "response_interval": "600", "correlation_id": Uuid::from_u128(3),
            "playbook_run_name": "Äpfel & Birnen",
            "playbook_run_url": "https://console.example/runs",
            "sat_id": SAT_ID, "sat_org_id": "5", "initiator_user_id": JDOE, "hosts": hosts,
            "response_full": "false",
        });
        let without = run(Some(SAT_ID), &[(7, None), (6, None)]);
        let message = value(&Message::start(&without, REPORTING));
        assert_eq!(message["directive"], "foreman_rh_cloud");
        assert_eq!(message["payload"], "https://example.com/p?a=1&b=<2>");
        assert_eq!(message["metadata"], expected);
        expected["subscription_manager_ids"] = json!(Uuid::from_u128(9));
        let with = run(Some(SAT_ID), &[(7, None), (6, Some(9))]);
        assert_eq!(value(&Message::start(&with, REPORTING))["metadata"], expected);
    }

    #[test]
    fn a_cancellation_has_three_texts_and_an_empty_payload() {
        let run = RunRow { status: RunStatus::Running, ..run(Some(SAT_ID), &[]).row() };
        let expected = json!({
            "directive": "foreman_rh_cloud", "payload": "",
            "metadata": {
                "operation": "cancel", "correlation_id": Uuid::from_u128(3),
                "initiator_user_id": JDOE,
            },
        });
        assert_eq!(value(&Message::cancel(&run, "jdoe")), expected);
    }
}
