//! What is there: the disk, systemd, Podman, what was noted. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    balancer::Balancer,
    desired::{Desired, index},
    failure::Failure,
    inputs::{OWN, SHARED},
    plan::{Found, Running},
    record::Record,
};
use crate::{
    entry::{Concerns, What},
    files::{self, Change},
    host::{
        Host,
        podman::Container,
        systemd::{Activity, Found as Listed},
    },
    layout::Layout,
};

/// What is there, for the plan, and the changes of files for those who carry it out.
#[derive(Clone, Debug)]
pub struct Observed {
    /// For the plan.
    pub found: Found,
    /// Files to write or to remove.
    pub changes: Vec<Change>,
}

impl Observed {
    /// Files to write, HAProxy's or the others.
    pub fn to_write(&self, is_haproxy: bool) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| {
            change.after.is_some() && (change.concerns == Concerns::Haproxy) == is_haproxy
        })
    }

    /// Whether units are written, and not only links to them.
    #[must_use]
    pub fn has_new_units(&self, layout: &Layout) -> bool {
        let is_unit = |change: &Change| {
            change.path.starts_with(&layout.quadlets) || change.path.starts_with(&layout.units)
        };
        let is_file = |change: &Change| matches!(change.after, Some(What::File { .. }));
        self.changes.iter().any(|change| is_unit(change) && is_file(change))
    }

    /// Files that are asked for no more.
    pub fn to_remove(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.after.is_none())
    }
}

/// Looks at everything.
///
/// # Errors
/// When foreign files are in the way, or something cannot be read or asked.
pub async fn observe(host: &Host, desired: &Desired, record: &Record) -> Result<Observed, Failure> {
    let changes = files::changes(&desired.entries, &record.manifest)?;
    let listed = host.systemd.list("dispatcher-*.service").await?;
    let containers = host.podman.containers().await?;
    let ours = own_units(desired, record);
    let mut units_running = BTreeMap::new();
    let mut instances = BTreeMap::new();
    for unit in listed.iter().filter(|unit| unit.activity != Activity::Inactive) {
        let running = running(unit, containers.get(&unit.unit));
        match index(&unit.unit) {
            Some(number) => drop(instances.insert(number, running)),
            None if ours.contains(&unit.unit) => {
                drop(units_running.insert(unit.unit.clone(), running))
            }
            None => {}
        }
    }
    let mut observed =
        Observed { found: Found { units_running, instances, ..Found::default() }, changes };
    let has_files_to_write = observed.to_write(false).next().is_some();
    let is_balancer_written = observed.to_write(true).next().is_none();
    let has_files_to_remove = observed.to_remove().next().is_some();
    let activity = host.systemd.activity(super::balancer::UNIT).await?;
    // One that does not run has read nothing.
    let has_unit = Balancer::of(desired).is_none_or(|balancer| balancer.has_unit());
    let is_read = !has_unit || activity == Some(Activity::Active);
    let balancer = record.haproxy_has_read().filter(|_| is_read);
    observed.found = Found {
        has_files_to_write,
        has_files_to_remove,
        is_balancer_written,
        units: record.systemd_has_read(),
        balancer,
        ..observed.found
    };
    Ok(observed)
}

fn running(unit: &Listed, container: Option<&Container>) -> Running {
    let label = |name: &str| container.and_then(|container| container.labels.get(name));
    let inputs = label(SHARED)
        .map(|shared| label(OWN).map_or_else(|| shared.clone(), |own| format!("{shared}+{own}")));
    Running { is_up: unit.activity == Activity::Active, inputs }
}

/// Units of containers that we made: those asked for and those of the manifest.
fn own_units(desired: &Desired, record: &Record) -> BTreeSet<String> {
    let asked = desired
        .entries
        .iter()
        .filter(|entry| matches!(entry.what, What::File { .. }))
        .map(|entry| &entry.path);
    let paths = asked.chain(record.manifest.files.keys());
    let stem = |path: &std::path::PathBuf| {
        let stem = path.file_name()?.to_str()?.strip_suffix(".container")?;
        (!stem.contains('@')).then(|| format!("{stem}.service"))
    };
    paths.filter_map(stem).collect()
}
