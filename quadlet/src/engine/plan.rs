//! From what is asked and what is found to the steps between them. Pure: no file, no bus, no clock.
//!
//! Every step may be cut short anywhere, and done twice. A killed run leaves something that a later
//! one finds; it plans from there, and ends where it was asked to. What holds meanwhile:
//!
//! * HAProxy sends only to instances that run, but for the one that begins anew;
//! * of the instances that HAProxy sends to, at most one at a time is taken down by us;
//! * an instance is stopped only after HAProxy has let go of it.

use std::collections::{BTreeMap, BTreeSet};

/// What an instance or another container was made from: a digest over its unit, its environment,
/// its secrets' identities and its image.
pub type Inputs = String;

/// What the variables ask for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Asked {
    /// The digest over all unit files.
    pub units: String,
    /// The digest over HAProxy's files; nothing where HAProxy is somebody else's.
    pub balancer: Option<String>,
    /// Bundled services by unit, in the order of their start.
    pub services: Vec<(String, Inputs)>,
    /// Instances by their number.
    pub instances: Vec<Inputs>,
    /// The tracker, by unit.
    pub tracker: Option<(String, Inputs)>,
}

/// What a unit is doing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Running {
    /// Whether its start was completed.
    pub is_up: bool,
    /// What it was made from, where a container is there.
    pub inputs: Option<Inputs>,
}

impl Running {
    fn is_current(&self, inputs: &Inputs) -> bool {
        self.is_up && self.inputs.as_ref() == Some(inputs)
    }
}

/// What is there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// Whether files are to be written (HAProxy's aside), so that they are as asked.
    pub has_files_to_write: bool,
    /// Whether files of ours are there that are asked for no more.
    pub has_files_to_remove: bool,
    /// The digest over the unit files that systemd has read last.
    pub units: Option<String>,
    /// The digest over the files that HAProxy has read last.
    pub balancer: Option<String>,
    /// Whether HAProxy's files on the disk are as asked.
    pub is_balancer_written: bool,
    /// Services and tracker, by unit, as far as systemd knows them.
    pub units_running: BTreeMap<String, Running>,
    /// Instances that systemd knows and that are not at rest.
    pub instances: BTreeMap<u16, Running>,
}

/// One thing to do. Each is safe to repeat.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Files and links, HAProxy's aside, to the disk. What was noted of systemd's last reading is
    /// taken back first: otherwise two kills and a change of mind look like nothing to do.
    Write,
    /// The directories made that the files speak of; daemon-reload; that noted.
    Reload,
    /// Start a service or the tracker, or start it anew, and wait until it is up.
    Unit(String),
    /// Start these instances at once and wait until all are healthy.
    Start(BTreeSet<u16>),
    /// What was noted of HAProxy's last reading taken back, its files to the disk, checked, reloaded;
    /// that noted.
    Balance,
    /// Stop these instances; HAProxy has let go of them.
    Stop(BTreeSet<u16>),
    /// Begin an instance anew; wait until it is healthy and HAProxy sends to it again.
    Renew(u16),
    /// Stop a service or the tracker that is asked for no more.
    End(String),
    /// Remove the files that are asked for no more, and have systemd forget them.
    Remove,
}

/// The steps from what is found to what is asked, in order.
#[must_use]
pub fn plan(asked: &Asked, found: &Found) -> Vec<Step> {
    let mut steps = Vec::new();
    if found.has_files_to_write {
        steps.push(Step::Write);
    }
    if found.has_files_to_write || found.units.as_ref() != Some(&asked.units) {
        steps.push(Step::Reload);
    }
    steps.extend(asked.services.iter().filter_map(|unit| behind(unit, found)));
    steps.extend(starts(asked, found));
    if let Some(balancer) = &asked.balancer
        && (!found.is_balancer_written || found.balancer.as_ref() != Some(balancer))
    {
        steps.push(Step::Balance);
    }
    let excess: BTreeSet<u16> = found
        .instances
        .keys()
        .copied()
        .filter(|index| usize::from(*index) >= asked.instances.len())
        .collect();
    if !excess.is_empty() {
        steps.push(Step::Stop(excess));
    }
    steps.extend(renewals(asked, found));
    // After the instances: an image that fails has failed on one of them before.
    steps.extend(asked.tracker.iter().filter_map(|unit| behind(unit, found)));
    steps.extend(ends(asked, found));
    if found.has_files_to_remove {
        steps.push(Step::Remove);
    }
    steps
}

fn behind((unit, inputs): &(String, Inputs), found: &Found) -> Option<Step> {
    let is_current =
        found.units_running.get(unit).is_some_and(|running| running.is_current(inputs));
    (!is_current).then(|| Step::Unit(unit.clone()))
}

/// Those that are not up. Where none is, the first goes ahead: it brings the database to its shape.
fn starts(asked: &Asked, found: &Found) -> Vec<Step> {
    let is_up = |index: &u16| found.instances.get(index).is_some_and(|running| running.is_up);
    let (up, mut down): (BTreeSet<u16>, BTreeSet<u16>) = numbers(asked).partition(is_up);
    let mut steps = Vec::new();
    if up.is_empty()
        && let Some(first) = down.pop_first()
    {
        steps.push(Step::Start(BTreeSet::from([first])));
    }
    if !down.is_empty() {
        steps.push(Step::Start(down));
    }
    steps
}

/// Those that are up and were made from something else.
fn renewals(asked: &Asked, found: &Found) -> Vec<Step> {
    let is_behind = |(index, inputs): (u16, &Inputs)| {
        let running = found.instances.get(&index).filter(|running| running.is_up)?;
        (!running.is_current(inputs)).then_some(Step::Renew(index))
    };
    (0_u16..).zip(&asked.instances).filter_map(is_behind).collect()
}

fn ends(asked: &Asked, found: &Found) -> impl Iterator<Item = Step> {
    let wanted: BTreeSet<&String> =
        asked.services.iter().chain(&asked.tracker).map(|(unit, _)| unit).collect();
    let unwanted = |unit: &&String| !wanted.contains(unit);
    let units: Vec<Step> =
        found.units_running.keys().filter(unwanted).cloned().map(Step::End).collect();
    units.into_iter()
}

fn numbers(asked: &Asked) -> impl Iterator<Item = u16> {
    (0_u16..).zip(&asked.instances).map(|(index, _)| index)
}

#[cfg(test)]
mod tests;
