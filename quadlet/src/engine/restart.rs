//! `restart`: what is asked for is applied, and what has not begun anew by that is begun anew: the
//! instances one by one, the tracker, or HAProxy's files read again. For what quadletgen cannot see,
//! such as a renewed certificate.

use std::{collections::BTreeMap, time::Instant};

use super::{
    apply::{self, Request},
    balancer::Balancer,
    converge::Converge,
    desired::{Desired, TRACKER, index, instance},
    failure::{Exit, Failure},
    plan::Step,
    session::Session,
};

/// What begins anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Part {
    /// All instances, one after the other.
    Instances,
    /// The tracker.
    Tracker,
    /// HAProxy reads its files again, after they were checked.
    Haproxy,
}

/// Does it.
///
/// # Errors
/// When it cannot be done; the text says what holds now.
pub async fn restart(session: &mut Session, part: Part) -> Result<(), Failure> {
    let before = begun(session).await?;
    apply::change(session, &Request::Apply).await?;
    let desired = apply::asked(session).await?;
    if part == Part::Haproxy {
        return reload(session, &desired).await;
    }
    let after = begun(session).await?;
    let is_old = |unit: &String| after.get(unit).is_some_and(|id| before.get(unit) == Some(id));
    for (unit, step) in steps(&desired, part) {
        if !is_old(&unit) {
            continue;
        }
        if session.options.is_dry_run {
            session.progress.say(&format!("{unit} would begin anew"));
            continue;
        }
        let Session { host, record, progress, options, .. } = session;
        let within = options.within;
        Converge { host, desired: &desired, record, progress, within }.only(&step).await?;
    }
    Ok(())
}

/// The containers of units, by their identities.
async fn begun(session: &Session) -> Result<BTreeMap<String, String>, Failure> {
    let containers = session.host.podman.containers().await?;
    Ok(containers.into_iter().map(|(unit, container)| (unit, container.id)).collect())
}

fn steps(desired: &Desired, part: Part) -> Vec<(String, Step)> {
    if part == Part::Tracker {
        let tracker = format!("{TRACKER}.service");
        return vec![(tracker.clone(), Step::Unit(tracker))];
    }
    let count = u16::try_from(desired.asked.instances.len()).unwrap_or(u16::MAX);
    (0..count)
        .map(instance)
        .filter_map(|unit| Some((unit.clone(), Step::Renew(index(&unit)?))))
        .collect()
}

async fn reload(session: &Session, desired: &Desired) -> Result<(), Failure> {
    let Some(balancer) = Balancer::of(desired) else {
        return Err(Failure::new(Exit::Wrong, "HAProxy is not on this host"));
    };
    if session.options.is_dry_run {
        session.progress.say("HAProxy would read its files again");
        return Ok(());
    }
    let since = Instant::now();
    balancer.take_up(&session.host, false).await?;
    session.progress.done(since, "HAProxy has read its files again");
    Ok(())
}
