//! Rows of the audit log: who changed what, when, for whom. Pure. No secret is ever part of one.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::auth::principal::{OrgScope, Principal};

/// The most ids that a row names; it always says how many there were.
const MAX_NAMED: usize = 50;

/// What was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Runs were created.
    RunDispatch,
    /// Runs were asked to end.
    RunCancel,
    /// A playbook's name was pointed at new content.
    PlaybookPut,
    /// A one-time token for the registration of a worker was made.
    RecipientToken,
    /// A worker registered, or registered again.
    RecipientRegister,
    /// The labels of a recipient were replaced.
    RecipientLabel,
    /// A recipient was removed.
    RecipientRemove,
    /// A key of a service was made.
    KeyCreate,
    /// A key of a service got a successor, and an end.
    KeyRotate,
    /// A key of a service was revoked.
    KeyRevoke,
    /// Consumers were to be told again what runs are now.
    EventsRead,
    /// What is older than some ages was to be removed, by hand.
    RetentionPurge,
}

impl Action {
    /// Its name in rows and filters: what was changed, and how.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RunDispatch => "run.dispatch",
            Self::RunCancel => "run.cancel",
            Self::PlaybookPut => "playbook.put",
            Self::RecipientToken => "recipient.token",
            Self::RecipientRegister => "recipient.register",
            Self::RecipientLabel => "recipient.label",
            Self::RecipientRemove => "recipient.remove",
            Self::KeyCreate => "key.create",
            Self::KeyRotate => "key.rotate",
            Self::KeyRevoke => "key.revoke",
            Self::EventsRead => "events.read",
            Self::RetentionPurge => "retention.purge",
        }
    }
}

/// Who makes a change, in one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Actor {
    /// `service`, `identity`, …; `cli` for somebody on the service's own host.
    pub kind: &'static str,
    /// The principal's name.
    pub id: String,
    /// Its role.
    pub role: &'static str,
    /// The request, where there is one.
    pub request_id: Option<String>,
}

impl Actor {
    /// A principal, in a request.
    #[must_use]
    pub fn of(principal: &Principal, request_id: String) -> Self {
        Self {
            kind: principal.kind.as_str(),
            id: principal.id.clone(),
            role: principal.role.as_str(),
            request_id: (!request_id.is_empty()).then_some(request_id),
        }
    }

    /// A worker, in a request.
    #[must_use]
    pub fn worker(recipient: Uuid, request_id: String) -> Self {
        let request_id = (!request_id.is_empty()).then_some(request_id);
        Self { kind: "worker", id: recipient.to_string(), role: "worker", request_id }
    }

    /// Somebody with a shell on the service's own host, who may do everything there is.
    #[must_use]
    pub fn on_host(user: &str) -> Self {
        Self { kind: "cli", id: user.to_owned(), role: "admin", request_id: None }
    }

    /// Kind and name: `service:tasks`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.kind, self.id)
    }

    /// The row of a change of one thing; `org_id` is whose it is, `None` for something that belongs
    /// to no organisation alone.
    #[must_use]
    pub fn did(
        &self,
        action: Action,
        target: impl Into<String>,
        org_id: Option<&str>,
        at: OffsetDateTime,
    ) -> AuditEntry {
        AuditEntry {
            at,
            org_id: org_id.map(str::to_owned),
            principal_kind: self.kind.to_owned(),
            principal_id: self.id.clone(),
            role: self.role.to_owned(),
            action: action.as_str().to_owned(),
            target: target.into(),
            request_id: self.request_id.clone(),
            detail: None,
        }
    }

    /// The rows of a change of several runs in one request: one for each organisation, since none
    /// may see another's.
    pub fn did_to_runs<'a>(
        &self,
        action: Action,
        runs: impl IntoIterator<Item = (&'a str, Uuid)>,
        at: OffsetDateTime,
    ) -> Vec<AuditEntry> {
        let mut by_org = BTreeMap::<&str, Vec<Uuid>>::new();
        runs.into_iter().for_each(|(org_id, run)| by_org.entry(org_id).or_default().push(run));
        let entry = |(org_id, runs): (&str, Vec<Uuid>)| {
            let target = match runs.as_slice() {
                [one] => one.to_string(),
                many => format!("{} runs", many.len()),
            };
            let named = runs.get(..MAX_NAMED).unwrap_or(&runs);
            let detail = json!({ "count": runs.len(), "runs": named });
            self.did(action, target, Some(org_id), at).with(detail)
        };
        by_org.into_iter().map(entry).collect()
    }
}

/// A row to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// When.
    pub at: OffsetDateTime,
    /// Whose the changed thing is; `None`: no single organisation's.
    pub org_id: Option<String>,
    /// What kind of caller it was.
    pub principal_kind: String,
    /// Its name.
    pub principal_id: String,
    /// Its role at the time.
    pub role: String,
    /// What was done, see [`Action::as_str`].
    pub action: String,
    /// To what.
    pub target: String,
    /// In which request.
    pub request_id: Option<String>,
    /// More, by action; never a secret.
    pub detail: Option<Value>,
}

impl AuditEntry {
    /// The same with details.
    #[must_use]
    pub fn with(self, detail: Value) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// The same of a thing of this organisation.
    #[must_use]
    pub fn of_org(self, org_id: &str) -> Self {
        Self { org_id: Some(org_id.to_owned()), ..self }
    }
}

/// A row as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    /// Grows; the order of the log.
    pub id: i64,
    /// What it says.
    pub entry: AuditEntry,
}

/// A page of the log, newest first. Everything is AND-ed.
#[derive(Clone, Debug)]
pub struct AuditQuery {
    /// Whose rows may be seen.
    pub scope: OrgScope,
    /// Only what was done to this organisation's things.
    pub org_id: Option<String>,
    /// Only this action; one that ends with a dot means all that begin so.
    pub action: Option<String>,
    /// Only what this principal did, by its name.
    pub principal: Option<String>,
    /// Only from then on.
    pub since: Option<OffsetDateTime>,
    /// 1 to 200.
    pub limit: i64,
    /// From 0.
    pub offset: i64,
}

impl AuditQuery {
    /// The one organisation that is looked at; `None`: all of them. The outer `None`: nothing may be
    /// seen.
    #[must_use]
    pub fn visible_org(&self) -> Option<Option<&str>> {
        match (&self.scope, self.org_id.as_deref()) {
            (OrgScope::All, wanted) => Some(wanted),
            (OrgScope::One(own), None) => Some(Some(own)),
            (OrgScope::One(own), Some(wanted)) => (own == wanted).then_some(Some(wanted)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::principal::{Kind, Role};

    fn actor() -> Actor {
        let org = OrgScope::All;
        let principal =
            Principal { kind: Kind::Service, id: "tasks".to_owned(), org, role: Role::Operator };
        Actor::of(&principal, "host/1".to_owned())
    }

    #[test]
    fn a_row_says_who_in_which_request() {
        let at = OffsetDateTime::UNIX_EPOCH;
        let entry = actor().did(Action::PlaybookPut, "site.yml", Some("1"), at);
        assert_eq!((&*entry.principal_kind, &*entry.principal_id), ("service", "tasks"));
        assert_eq!((&*entry.role, &*entry.action), ("operator", "playbook.put"));
        assert_eq!(
            (entry.request_id.as_deref(), entry.org_id.as_deref()),
            (Some("host/1"), Some("1"))
        );
        assert_eq!(Actor::on_host("root").name(), "cli:root");
    }

    #[test]
    fn runs_of_two_organisations_are_two_rows_with_few_names() {
        let ids: Vec<Uuid> = (0..60).map(|_| Uuid::new_v4()).collect();
        let runs = ids.iter().map(|id| ("a", *id)).chain([("b", Uuid::nil())]);
        let rows = actor().did_to_runs(Action::RunCancel, runs, OffsetDateTime::UNIX_EPOCH);
        let [a, b] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((a.org_id.as_deref(), &*a.target), (Some("a"), "60 runs"));
        let detail = a.detail.as_ref().unwrap();
        assert_eq!(detail["count"], 60);
        assert_eq!(detail["runs"].as_array().unwrap().len(), MAX_NAMED);
        assert_eq!((b.org_id.as_deref(), &*b.target), (Some("b"), &*Uuid::nil().to_string()));
        assert_eq!(actor().did_to_runs(Action::RunCancel, [], OffsetDateTime::UNIX_EPOCH), []);
    }

    #[test]
    fn nobody_looks_beyond_its_organisation() {
        let query = |scope, org_id: Option<&str>| AuditQuery {
            scope,
            org_id: org_id.map(str::to_owned),
            action: None,
            principal: None,
            since: None,
            limit: 1,
            offset: 0,
        };
        let one = || OrgScope::One("1".to_owned());
        assert_eq!(query(OrgScope::All, None).visible_org(), Some(None));
        assert_eq!(query(OrgScope::All, Some("2")).visible_org(), Some(Some("2")));
        assert_eq!(query(one(), None).visible_org(), Some(Some("1")));
        assert_eq!(query(one(), Some("2")).visible_org(), None);
    }
}
