//! `status`: what runs, how it is, what HAProxy thinks of it, and what differs from what is asked.
//! Changes nothing, takes no lock.

use std::{collections::BTreeMap, fmt::Write as _};

use dispatcher_haproxy::stats::{Server, Status as Balanced};
use serde::Serialize;

use super::{
    balancer::{self, Balancer},
    converge::announced,
    desired::{Desired, instance},
    failure::{Exit, Failure},
    observe::observe,
    plan::{Step, plan},
    programs,
    session::Session,
    worker,
};
use crate::{
    host::{health, systemd::Activity},
    variables::Variables,
};

/// Where images say their version.
const VERSION: &str = "org.opencontainers.image.version";

/// All of it.
#[derive(Debug, Serialize)]
pub struct Status {
    /// How many instances are asked for.
    pub scale: usize,
    /// The image that is asked for.
    pub image: String,
    /// Instances that are asked for or run.
    pub instances: Vec<Instance>,
    /// Services, tracker, worker.
    pub units: Vec<Unit>,
    /// What differs between files, systemd, HAProxy and what is asked.
    pub drift: Vec<String>,
    /// Images in use until now, the newest last.
    pub images: Vec<Image>,
}

/// One instance.
#[derive(Debug, Serialize)]
pub struct Instance {
    /// Its number.
    pub index: u16,
    /// What systemd says.
    pub state: &'static str,
    /// `healthy`, or why not.
    pub health: String,
    /// What HAProxy says.
    pub haproxy: String,
    /// The version that its image says, `-` where it says none.
    pub version: String,
    /// The image it runs.
    pub image: String,
    /// Whether it was made from what is asked.
    pub is_current: bool,
}

/// Another unit.
#[derive(Debug, Serialize)]
pub struct Unit {
    /// Its name.
    pub unit: String,
    /// What systemd says.
    pub state: &'static str,
}

/// An image that was in use.
#[derive(Debug, Serialize)]
pub struct Image {
    /// What it was called.
    pub named: String,
    /// Its digest.
    pub reference: String,
    /// Since when.
    pub since: String,
}

/// Looks, and shows it.
///
/// # Errors
/// With [`Exit::Drift`] where anything is not as asked.
pub async fn show(session: &Session, is_json: bool) -> Result<(), Failure> {
    let status = look(session).await?;
    if is_json {
        let text = serde_json::to_string_pretty(&status)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        session.progress.say(&text);
    } else {
        session.progress.say(table(&status).trim_end());
    }
    if status.is_well() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Drift,
        "not everything is as asked: `quadletgen apply --dry-run` shows what it would do",
    ))
}

impl Status {
    fn is_well(&self) -> bool {
        self.drift.is_empty()
            && self.instances.iter().all(|one| one.health == "healthy" && one.is_current)
            && self.units.iter().all(|unit| unit.state == Activity::Active.word())
    }
}

async fn look(session: &Session) -> Result<Status, Failure> {
    let host = &session.host;
    let variables = Variables::load(&host.layout)?;
    let named = variables.image().to_owned();
    let pin = match session.record.pins_of(&named).into_iter().next() {
        Some(pin) => pin,
        None => super::image::look(&host.podman, &named).await?.unwrap_or_else(|| {
            super::image::Pin { named: named.clone(), reference: named.clone() }
        }),
    };
    let desired = Desired::new(host, variables, pin).await?;
    let observed = observe(host, &desired, &session.record).await?;
    let steps = plan(&desired.asked, &observed.found);
    let mut drift: Vec<String> = observed
        .changes
        .iter()
        .filter(|change| change.is_drift)
        .map(|change| format!("{} was changed by somebody else", change.path.display()))
        .collect();
    drift.extend(
        steps
            .iter()
            .filter(|step| !matches!(step, Step::Write))
            .map(|step| format!("to do: {}", announced(step))),
    );
    if observed.to_write(false).next().is_some() {
        drift.extend(
            observed.to_write(false).map(|change| format!("to write: {}", change.path.display())),
        );
    }
    drift.extend(programs::altered(&session.record.manifest)?);
    drift.extend(
        worker::to_come(session, &desired).await?.iter().map(|step| format!("to do: {step}")),
    );
    let balancer = Balancer::of(&desired);
    let haproxy = haproxy(balancer.as_ref(), &desired, &mut drift).await;
    let instances = instances(session, &desired, &observed.found.instances, &haproxy).await?;
    let images = session.record.manifest.images.iter().map(|image| Image {
        named: image.named.clone(),
        reference: image.reference.clone(),
        since: image.since.clone(),
    });
    Ok(Status {
        scale: desired.asked.instances.len(),
        image: desired.pin.reference.clone(),
        instances,
        units: units(session, &desired).await?,
        drift,
        images: images.collect(),
    })
}

/// Its view by the names of servers; what it knows and nobody asked for is drift.
async fn haproxy(
    balancer: Option<&Balancer>,
    desired: &Desired,
    drift: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let Some(balancer) = balancer.filter(|balancer| balancer.tells()) else {
        return BTreeMap::new();
    };
    let servers = match balancer.servers().await {
        Ok(servers) => servers,
        Err(error) => {
            drift.push(format!("HAProxy does not tell: {error}"));
            return BTreeMap::new();
        }
    };
    let names: Vec<String> =
        (0..desired.asked.instances.len()).map(|index| format!("dispatcher-api-{index}")).collect();
    let names = [names, balancer::elsewhere(&desired.variables)].concat();
    drift.extend(differing(&servers, &names));
    servers.into_iter().map(|server| (server.name, server.status.to_string())).collect()
}

/// How the names of this host's instances begin.
const OWN: &str = "dispatcher-api-";

/// In words, where HAProxy sends and should not, or should and does not.
fn differing(servers: &[Server], names: &[String]) -> Vec<String> {
    let is_served = |status: &Balanced| {
        matches!(status, Balanced::Up | Balanced::UpFailing | Balanced::Unchecked)
    };
    let other = servers.iter().filter(|server| !names.contains(&server.name));
    let say = |server: &Server| format!("HAProxy sends to {}, which is not asked for", server.name);
    let mut found: Vec<String> = other.map(say).collect();
    let lacking = |name: &String| match servers.iter().find(|server| server.name == *name) {
        // How those of another host are, that host tells.
        Some(server) if is_served(&server.status) || !name.starts_with(OWN) => None,
        Some(server) => Some(format!("HAProxy does not send to {name}: it is {}", server.status)),
        None => Some(format!("HAProxy does not know {name}")),
    };
    found.extend(names.iter().filter_map(lacking));
    found
}

async fn instances(
    session: &Session,
    desired: &Desired,
    running: &BTreeMap<u16, super::plan::Running>,
    haproxy: &BTreeMap<String, String>,
) -> Result<Vec<Instance>, Failure> {
    let host = &session.host;
    let containers = host.podman.containers().await?;
    let images = names_of_images(session).await?;
    let count = u16::try_from(desired.asked.instances.len()).unwrap_or(u16::MAX);
    let mut all: Vec<u16> = (0..count).chain(running.keys().copied()).collect();
    all.sort_unstable();
    all.dedup();
    let mut found = Vec::new();
    for index in all {
        let state = host.systemd.activity(&instance(index)).await?.unwrap_or(Activity::Inactive);
        let health = match health::ask(&desired.question(&host.layout, index)).await {
            Ok(()) => "healthy".to_owned(),
            Err(why) => why,
        };
        let container = containers.get(&instance(index));
        let id = container.map(|container| container.image_id.clone()).unwrap_or_default();
        let version = container.and_then(|container| container.labels.get(VERSION));
        let inputs = running.get(&index).and_then(|running| running.inputs.as_ref());
        found.push(Instance {
            index,
            state: state.word(),
            health,
            haproxy: haproxy
                .get(&format!("dispatcher-api-{index}"))
                .cloned()
                .unwrap_or_else(|| "-".to_owned()),
            version: version.cloned().unwrap_or_else(|| "-".to_owned()),
            image: images.get(&id).cloned().unwrap_or_else(|| id.chars().take(12).collect()),
            is_current: inputs.is_some()
                && inputs == desired.asked.instances.get(usize::from(index)),
        });
    }
    Ok(found)
}

/// What images of this host were called, by identity.
async fn names_of_images(session: &Session) -> Result<BTreeMap<String, String>, Failure> {
    let mut names = BTreeMap::new();
    let history = session
        .record
        .manifest
        .images
        .iter()
        .map(|image| (image.named.clone(), image.reference.clone()));
    let asked = session.record.asked_image().map(|pin| (pin.named, pin.reference));
    for (named, reference) in history.chain(asked) {
        if let Some(image) = session.host.podman.image(&reference).await? {
            let short: String = image.digest.chars().take(19).collect();
            names.insert(image.id, format!("{named} ({short})"));
        }
    }
    Ok(names)
}

async fn units(session: &Session, desired: &Desired) -> Result<Vec<Unit>, Failure> {
    let asked =
        desired.asked.services.iter().chain(&desired.asked.tracker).map(|(unit, _)| unit.clone());
    let worker = desired.variables.has_worker().then(|| worker::UNIT.to_owned());
    let has_unit = Balancer::of(desired).is_some_and(|balancer| balancer.has_unit());
    let haproxy = has_unit.then(|| super::balancer::UNIT.to_owned());
    let mut found = Vec::new();
    for unit in asked.chain(worker).chain(haproxy) {
        let state =
            session.host.systemd.activity(&unit).await?.unwrap_or(Activity::Inactive).word();
        found.push(Unit { unit, state });
    }
    Ok(found)
}

fn table(status: &Status) -> String {
    let mut text = format!("{} instances asked for, of {}\n\n", status.scale, status.image);
    let _ = writeln!(
        text,
        "{:<20} {:<11} {:<9} {:<9} {:<9} IMAGE",
        "INSTANCE", "SYSTEMD", "HEALTH", "HAPROXY", "VERSION"
    );
    for one in &status.instances {
        let is_long = one.health.len() > 9;
        let health = if is_long { "no" } else { &one.health };
        let behind = if one.is_current { "" } else { "  (not what is asked for)" };
        let name = format!("dispatcher-api@{}", one.index);
        let _ = writeln!(
            text,
            "{name:<20} {:<11} {health:<9} {:<9} {:<9} {}{behind}",
            one.state, one.haproxy, one.version, one.image
        );
        if is_long {
            let _ = writeln!(text, "    {}", one.health);
        }
    }
    text.push('\n');
    for unit in &status.units {
        let _ = writeln!(text, "{:<36} {}", unit.unit, unit.state);
    }
    for line in &status.drift {
        let _ = writeln!(text, "! {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, status: Balanced) -> Server {
        Server {
            backend: "dispatcher_api".to_owned(),
            name: name.to_owned(),
            status,
            check_status: String::new(),
            check_code: None,
            check_text: String::new(),
            sessions: 0,
            queued: 0,
            weight: 1,
            requests: 0,
            since: std::time::Duration::ZERO,
            address: "unix".to_owned(),
        }
    }

    #[test]
    fn an_instance_that_haproxy_does_not_send_to_is_told() {
        let names = ["a", "b", "c", "d"].map(|name| format!("{OWN}{name}"));
        let names = [&names[..], &["host-b".to_owned()]].concat();
        let servers = [
            server("dispatcher-api-a", Balanced::Up),
            server("dispatcher-api-b", Balanced::Maintenance),
            server("dispatcher-api-c", Balanced::UpFailing),
            server("z", Balanced::Up),
            server("host-b", Balanced::Down),
        ];
        let found = differing(&servers, &names);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("sends to z, which is not asked for"), "{found:?}");
        assert!(found[1].contains("does not send to dispatcher-api-b"), "{found:?}");
        assert!(found[2].contains("does not know dispatcher-api-d"), "{found:?}");
    }
}
