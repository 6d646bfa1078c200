//! What an uninstallation takes away, found before anything is: the files of the manifest, what runs of
//! them, programs, names of images, and what holds data. Changes nothing.

use std::path::Path;

use super::{
    balancer, desired::index, failure::Failure, programs, record::Made, session::Session, worker,
};
use crate::{
    entry::{Concerns, What},
    files::{self, Change, diff},
    host::systemd::Activity,
};

/// All of it.
#[derive(Debug)]
pub struct Departure {
    /// Files.
    pub changes: Vec<Change>,
    /// What holds data.
    pub made: Made,
    /// Units that are stopped.
    pub units: Vec<String>,
    /// Whether HAProxy runs.
    pub has_haproxy: bool,
}

impl Departure {
    /// Looks for it.
    ///
    /// # Errors
    /// When something cannot be read, or systemd does not answer.
    pub async fn find(session: &Session) -> Result<Self, Failure> {
        let mut made = session.record.made();
        made.volumes.extend(named(session, "volume", "VolumeName="));
        made.networks.extend(named(session, "network", "NetworkName="));
        made.has_worker |= !session.record.manifest.programs.is_empty();
        let activity = session.host.systemd.activity(balancer::UNIT).await?;
        Ok(Self {
            changes: files::changes(&[], &session.record.manifest)?,
            made,
            units: running(session).await?,
            has_haproxy: activity == Some(Activity::Active),
        })
    }

    /// Shows it.
    ///
    /// # Errors
    /// When a program cannot be read.
    pub fn show(&self, session: &Session, has_data: bool) -> Result<(), Failure> {
        let progress = &session.progress;
        for change in self.changes.iter().filter(|change| change.before.is_some()) {
            progress.say(diff::unified(change, progress.has_colours).trim_end());
        }
        let mut steps = self.haproxy(session);
        steps.extend(self.units.iter().map(|unit| format!("stop {unit}")));
        steps.extend(self.changes.iter().map(|one| format!("remove {}", one.path.display())));
        let manifest = &session.record.manifest;
        steps.extend(
            manifest.tags.keys().map(|name| format!("take the name {name} from its image")),
        );
        let programs = programs::ours(manifest)?;
        steps.extend(programs.iter().map(|path| format!("remove {}", path.display())));
        if has_data {
            steps.extend(data(&self.made));
        }
        for (number, step) in (1..).zip(&steps) {
            progress.say(&format!("{number}. {step}"));
        }
        for line in programs::altered(manifest)? {
            progress.say(&format!("{line}, and would be left"));
        }
        progress.say("nothing was changed (--dry-run)");
        Ok(())
    }

    fn haproxy(&self, session: &Session) -> Vec<String> {
        let concerns = |kind| self.changes.iter().any(|change| change.concerns == kind);
        let has_unit = session.record.haproxy_unit().is_some() || concerns(Concerns::HaproxyUnit);
        match (self.has_haproxy, has_unit, concerns(Concerns::Haproxy)) {
            (true, true, _) => vec![
                "restart HAProxy with the unit of its package (connections that are open are cut)"
                    .to_owned(),
            ],
            (true, false, true) => vec!["reload HAProxy without our files".to_owned()],
            _ => Vec::new(),
        }
    }
}

fn data(made: &Made) -> Vec<String> {
    let all = |what: &str, names: &std::collections::BTreeSet<String>| {
        let line = |name: &String| format!("remove the {what} {name}");
        names.iter().map(line).collect::<Vec<_>>()
    };
    let mut steps = all("volume", &made.volumes);
    steps.extend(all("network", &made.networks));
    steps.extend(made.has_worker.then(|| format!("remove {}", worker::STATE)));
    steps.extend(all("secret", &made.secrets));
    steps
}

/// Units of ours that are not at rest, instances among them.
///
/// # Errors
/// When systemd does not answer.
pub async fn running(session: &Session) -> Result<Vec<String>, Failure> {
    let ours = own_units(session);
    let listed = session.host.systemd.list("dispatcher-*.service").await?;
    let running = listed.into_iter().filter(|unit| unit.activity != Activity::Inactive);
    let is_ours = |unit: &String| index(unit).is_some() || ours.contains(unit);
    let mut units: Vec<String> = running.map(|unit| unit.unit).filter(is_ours).collect();
    units.sort();
    Ok(units)
}

/// What Quadlet called the volumes or networks of the manifest.
fn named(session: &Session, kind: &str, key: &str) -> Vec<String> {
    let name = |path: &Path| {
        let stem = path.file_name()?.to_str()?.strip_suffix(kind)?.strip_suffix('.')?;
        let Ok(Some(What::File { content, .. })) = files::look(path) else { return None };
        let named = content.lines().find_map(|line| line.strip_prefix(key));
        Some(named.map_or_else(|| format!("systemd-{stem}"), str::to_owned))
    };
    session.record.manifest.files.keys().filter_map(|path| name(path)).collect()
}

fn own_units(session: &Session) -> Vec<String> {
    let unit = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        // Quadlet's names of the services that make networks and volumes: they stay active otherwise.
        let made = |kind: &str| {
            name.strip_suffix(&format!(".{kind}")).map(|stem| format!("{stem}-{kind}"))
        };
        let own = || {
            name.strip_suffix(".container")
                .or_else(|| name.strip_suffix(".service"))
                .map(str::to_owned)
        };
        let stem = own().or_else(|| made("volume")).or_else(|| made("network"))?;
        (!stem.contains('@')).then(|| format!("{stem}.service"))
    };
    session.record.manifest.files.keys().filter_map(|path| unit(path)).collect()
}
