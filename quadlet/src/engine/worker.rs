//! The worker on this host: its program out of the image, registered once, running. It is native,
//! since playbooks change the host itself.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{
    desired::Desired,
    failure::{Exit, Failure},
    inputs, programs,
    session::Session,
};
use crate::{
    entry::Concerns,
    host::{
        program::Program,
        systemd::{Activity, Verb},
    },
};

/// Its unit.
pub const UNIT: &str = "dispatcher-worker.service";
/// What a registered worker has.
const IDENTITY: &str = "/var/lib/dispatcher-worker/identity.json";
/// Where the worker keeps what it knows: who it is, and the runs that it executes.
pub(super) const STATE: &str = "/var/lib/dispatcher-worker";
/// How long it may take to come up.
const WITHIN: Duration = Duration::from_secs(90);

/// Brings the worker to where the variables say; how many things were done.
///
/// # Errors
/// When one of them fails. Doing it again goes on from there.
pub async fn take_up(session: &mut Session, desired: &Desired) -> Result<usize, Failure> {
    let activity = session.host.systemd.activity(UNIT).await?;
    if !desired.variables.has_worker() {
        return end(session, is_there(activity)).await;
    }
    let is_up = activity == Some(Activity::Active);
    let mut done = 0;
    let lacking = programs::lacking(&session.record.manifest, &desired.pin.reference)?;
    if !lacking.is_empty() {
        let since = Instant::now();
        if lacking.contains(&programs::WORKER) {
            session.record.forget_worker()?;
        }
        programs::take_out(session, &desired.pin.reference, &lacking).await?;
        session.progress.done(since, &format!("{} taken out of the image", named(&lacking)));
        done += 1;
    }
    session.progress.safe_point()?;
    if !Path::new(IDENTITY).exists() {
        let since = Instant::now();
        register(session, desired).await?;
        session.progress.done(since, "this host's worker registered");
        done += 1;
    }
    let made_from = made_from(desired);
    if !is_up || session.record.worker().as_ref() != Some(&made_from) {
        let since = Instant::now();
        session.host.systemd.job(Verb::Restart, UNIT, WITHIN).await?;
        session.record.note_worker(&made_from)?;
        session.progress.done(since, "dispatcher-worker.service started");
        done += 1;
    }
    Ok(done)
}

/// Ends one that is asked for no more and still executes what it is given; its unit's file may be
/// gone already.
async fn end(session: &mut Session, is_there: bool) -> Result<usize, Failure> {
    if !is_there || session.record.manifest.programs.is_empty() {
        return Ok(0);
    }
    let since = Instant::now();
    session.record.forget_worker()?;
    session.host.systemd.job(Verb::Stop, UNIT, WITHIN).await?;
    session.progress.done(since, "dispatcher-worker.service stopped: it is asked for no more");
    Ok(1)
}

/// What the worker is started from.
fn made_from(desired: &Desired) -> String {
    let files = desired.entries.iter().filter(|entry| entry.concerns == Concerns::Worker);
    format!("{}+{}", inputs::of_entries(files), desired.pin.reference)
}

/// What [`take_up`] would do, in words.
///
/// # Errors
/// When systemd does not answer, or a program cannot be read.
pub async fn to_come(session: &Session, desired: &Desired) -> Result<Vec<String>, Failure> {
    let activity = session.host.systemd.activity(UNIT).await?;
    let record = &session.record;
    let mut steps = Vec::new();
    let mut step = |is_needed: bool, what: &str| steps.extend(is_needed.then(|| what.to_owned()));
    if !desired.variables.has_worker() {
        let has_one = !record.manifest.programs.is_empty();
        step(has_one && is_there(activity), "stop dispatcher-worker.service");
        return Ok(steps);
    }
    let lacking = programs::lacking(&record.manifest, &desired.pin.reference)?;
    let taken = format!("take {} out of the image", named(&lacking));
    step(!lacking.is_empty(), &taken);
    step(!Path::new(IDENTITY).exists(), "register this host's worker");
    let is_current = !lacking.contains(&programs::WORKER)
        && activity == Some(Activity::Active)
        && record.worker().as_ref() == Some(&made_from(desired));
    step(!is_current, "start dispatcher-worker.service, or begin it anew");
    Ok(steps)
}

/// Programs by their names.
fn named(paths: &[&str]) -> String {
    let name = |path: &&str| path.rsplit('/').next().unwrap_or_default().to_owned();
    paths.iter().map(name).collect::<Vec<_>>().join(" and ")
}

/// Whether there is something to be stopped: it runs, or it is begun again and again.
fn is_there(activity: Option<Activity>) -> bool {
    !matches!(activity, None | Some(Activity::Inactive | Activity::Failed))
}

/// A token made with the operator's key, used at once. Neither is ever an argument.
async fn register(session: &Session, desired: &Desired) -> Result<(), Failure> {
    let Some(key) = operator_key(session, desired).await? else {
        return Err(Failure::new(
            Exit::Failed,
            format!(
                "the worker of this host cannot be registered without the operator's key: make a token (`dispatchctl recipients token \
                 create`), then `dispatcher-worker register --url {} --token-file FILE`, then `quadletgen apply`",
                desired.variables.local_url()
            ),
        ));
    };
    let url = desired.variables.local_url();
    let label = format!("host={}", desired.variables.text("__dispatcher_hostname"));
    let arguments = ["recipients", "token", "create", "--label", &label];
    let answer = Program::new(programs::CONTROL)
        .args(arguments)
        .env("DISPATCHER_URL", url)
        .env("DISPATCHER_KEY", &key)
        .env("DISPATCHER_ORG", desired.variables.text("dispatcher_worker_org"))
        .run()
        .await?;
    Program::new(programs::WORKER)
        .args(["register", "--url", url])
        .run_with(Some(answer.as_bytes()))
        .await?;
    Ok(())
}

async fn operator_key(session: &Session, desired: &Desired) -> Result<Option<String>, Failure> {
    let secrets = desired.variables.secrets();
    let Some(secret) = secrets.iter().find(|secret| secret.setting == "PSK_AUTH_OPERATOR") else {
        return Ok(None);
    };
    Ok(Some(session.host.podman.secret_value(&secret.name).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_is_begun_again_and_again_is_stopped_too() {
        use Activity::{Activating, Active, Deactivating, Failed, Inactive};
        for activity in [Active, Activating, Deactivating] {
            assert!(is_there(Some(activity)), "{activity:?}");
        }
        for activity in [None, Some(Failed), Some(Inactive)] {
            assert!(!is_there(activity), "{activity:?}");
        }
    }

    #[test]
    fn programs_are_told_by_their_names() {
        assert_eq!(
            named(&[programs::WORKER, programs::CONTROL]),
            "dispatcher-worker and dispatchctl"
        );
    }
}
