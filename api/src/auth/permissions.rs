//! What RBAC's permissions mean for who looks at runs (contract §1.2). Pure.
//!
//! One permission to read runs opens the door; which services' runs are seen is gathered from all of
//! them, so that a restricted permission beside an unrestricted one narrows.

use serde::Deserialize;

/// The application that permissions must name.
pub const APPLICATION: &str = "playbook-dispatcher";
/// The attribute that names services.
const SERVICE: &str = "service";

/// One permission of somebody.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Permission {
    /// `application:resource:verb`.
    permission: String,
    /// What it is limited to.
    #[serde(default, rename = "resourceDefinitions")]
    limits: Option<Vec<Limit>>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
struct Limit {
    #[serde(rename = "attributeFilter")]
    filter: AttributeFilter,
}

/// Whatever the operation is called, the values are what counts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
struct AttributeFilter {
    key: String,
    #[serde(default)]
    value: Value,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(untagged)]
enum Value {
    One(String),
    Several(Vec<Option<String>>),
    /// Also what is no text: only where it is about something else than services.
    #[default]
    Nothing,
    Other(serde_json::Value),
}

/// What somebody may see.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// No runs.
    Nothing,
    /// Runs of these services; none named: of every one.
    RunsOf(Vec<String>),
}

/// Why permissions cannot be judged: a limit to services that says something else than names.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a limit to services whose value is neither a text nor a list of texts")]
pub struct Unclear;

/// Judges all permissions of somebody.
///
/// # Errors
/// When a limit to services cannot be understood, which must not count as none.
pub fn judge(permissions: &[Permission]) -> Result<Verdict, Unclear> {
    let mut services = Vec::new();
    for limit in permissions.iter().flat_map(|one| one.limits.iter().flatten()) {
        if limit.filter.key == SERVICE {
            limit.filter.value.add_to(&mut services)?;
        }
    }
    services.sort_unstable();
    services.dedup();
    let opens = permissions.iter().any(Permission::reads_runs);
    Ok(if opens { Verdict::RunsOf(services) } else { Verdict::Nothing })
}

impl Permission {
    /// One that is limited to these services by a list, or by a text where it is only one.
    #[must_use]
    pub fn to_read_runs_of(service: &str, as_list: bool) -> Self {
        let name = service.to_owned();
        let value = if as_list { Value::Several(vec![Some(name)]) } else { Value::One(name) };
        let filter = AttributeFilter { key: SERVICE.to_owned(), value };
        Self { permission: format!("{APPLICATION}:run:read"), limits: Some(vec![Limit { filter }]) }
    }

    fn reads_runs(&self) -> bool {
        let parts: Vec<&str> = self.permission.split(':').collect();
        let is = |part: &str, wanted: &str| part == wanted || part == "*";
        matches!(
            parts.as_slice(),
            [application, resource, verb]
                if *application == APPLICATION && is(resource, "run") && is(verb, "read")
        )
    }
}

impl Value {
    fn add_to(&self, services: &mut Vec<String>) -> Result<(), Unclear> {
        match self {
            Self::One(name) => services.push(name.clone()),
            Self::Several(names) => services.extend(names.iter().flatten().cloned()),
            Self::Nothing => {}
            Self::Other(_) => return Err(Unclear),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn judged(permissions: Json) -> Result<Verdict, Unclear> {
        judge(&serde_json::from_value::<Vec<Permission>>(permissions).unwrap())
    }

    fn of(services: &[&str]) -> Result<Verdict, Unclear> {
        Ok(Verdict::RunsOf(services.iter().map(|name| (*name).to_owned()).collect()))
    }

    fn limited(permission: &str, value: &Json) -> Json {
        let filter = json!({ "key": "service", "operation": "equal", "value": value });
        json!({ "permission": permission, "resourceDefinitions": [{ "attributeFilter": filter }] })
    }

    #[test]
    fn one_permission_to_read_runs_opens_the_door() {
        let plain = |name: &str| judged(json!([{"permission": name, "resourceDefinitions": []}]));
        for good in ["run:read", "run:*", "*:read", "*:*"] {
            assert_eq!(plain(&format!("playbook-dispatcher:{good}")), of(&[]), "{good}");
        }
        for bad in [
            "playbook-dispatcher:salad:*",
            "playbook-dispatcher:*:destroy",
            "playbook-dispatcher:run:write",
            "patch:*:*",
            "*:run:read",
            "playbook-dispatcher:run",
            "playbook-dispatcher:run:read:more",
            "playbook-dispatcher:Run:read",
            "",
        ] {
            assert_eq!(plain(bad), Ok(Verdict::Nothing), "{bad}");
        }
        assert_eq!(judged(json!([])), Ok(Verdict::Nothing));
        let two = json!([{"permission": "playbook-dispatcher:run:write"},
                         {"permission": "playbook-dispatcher:run:read", "resourceDefinitions": null}]);
        assert_eq!(judged(two), of(&[]));
    }

    #[test]
    fn services_are_gathered_from_all_permissions() {
        let read = "playbook-dispatcher:run:read";
        let all = json!([
            limited(read, &json!("remediations")),
            limited(read, &json!(["config_manager", null, "remediations"])),
            limited("playbook-dispatcher:run:write", &json!("tasks")),
            {"permission": read, "resourceDefinitions": []},
        ]);
        assert_eq!(judged(all), of(&["config_manager", "remediations", "tasks"]));
        let only_write = json!([limited("playbook-dispatcher:run:write", &json!("tasks"))]);
        assert_eq!(judged(only_write), Ok(Verdict::Nothing));
    }

    #[test]
    fn what_is_not_about_services_is_not_looked_at() {
        let filter = |key: &str, value: Json| {
            json!([{ "permission": "playbook-dispatcher:run:read", "resourceDefinitions":
                     [{ "attributeFilter": { "key": key, "value": value } }] }])
        };
        assert_eq!(judged(filter("group", json!(7))), of(&[]));
        assert_eq!(judged(filter("group", json!({ "id": [1, "a"] }))), of(&[]));
        assert_eq!(judged(filter("Service", json!("tasks"))), of(&[]));
        for empty in [json!(null), json!([]), json!([null])] {
            assert_eq!(judged(filter("service", empty)), of(&[]));
        }
        for unclear in [json!(7), json!({ "id": "tasks" }), json!(["tasks", 7])] {
            assert_eq!(judged(filter("service", unclear)), Err(Unclear));
        }
    }
}
