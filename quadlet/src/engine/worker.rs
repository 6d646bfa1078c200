//! The worker on this host: its program out of the image, registered once, running. It is native,
//! since playbooks change the host itself.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    desired::Desired,
    failure::{Exit, Failure},
    inputs,
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
/// Where programs come from, and where they go.
const PROGRAMS: [(&str, &str); 2] = [
    ("/usr/bin/dispatcher-worker", "/usr/local/libexec/dispatcher/dispatcher-worker"),
    ("/usr/bin/dispatchctl", "/usr/local/bin/dispatchctl"),
];
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
    let is_up = session.host.systemd.activity(UNIT).await? == Some(Activity::Active);
    if !desired.variables.has_worker() {
        return end(session, is_up).await;
    }
    let mut done = 0;
    if session.record.programs_of().as_ref() != Some(&desired.pin.reference) || !all_there() {
        let since = Instant::now();
        session.record.forget_worker()?;
        session.record.forget_programs()?;
        take_out(session, &desired.pin.reference).await?;
        session.record.note_programs_of(&desired.pin.reference)?;
        session.progress.done(since, "dispatcher-worker and dispatchctl taken out of the image");
        done += 1;
    }
    session.progress.safe_point()?;
    if !Path::new(IDENTITY).exists() {
        let since = Instant::now();
        register(session, desired).await?;
        session.progress.done(since, "this host's worker registered");
        done += 1;
    }
    let files = desired.entries.iter().filter(|entry| entry.concerns == Concerns::Worker);
    let made_from = format!("{}+{}", inputs::of_entries(files), desired.pin.reference);
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
async fn end(session: &mut Session, is_up: bool) -> Result<usize, Failure> {
    if !is_up || session.record.programs_of().is_none() {
        return Ok(0);
    }
    let since = Instant::now();
    session.record.forget_worker()?;
    session.host.systemd.job(Verb::Stop, UNIT, WITHIN).await?;
    session.progress.done(since, "dispatcher-worker.service stopped: it is asked for no more");
    Ok(1)
}

fn all_there() -> bool {
    PROGRAMS.iter().all(|(_, to)| Path::new(to).exists())
}

/// Where programs were put that are not files of the manifest.
pub fn programs() -> impl Iterator<Item = PathBuf> {
    PROGRAMS.iter().map(|(_, to)| PathBuf::from(to))
}

/// Beside its place first, so that a program that runs is replaced and not overwritten.
async fn take_out(session: &Session, image: &str) -> Result<(), Failure> {
    for (from, to) in PROGRAMS {
        let to = Path::new(to);
        let failed = |error: std::io::Error| {
            Failure::new(Exit::Failed, format!("{}: {error}", to.display()))
        };
        if let Some(directory) = to.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let beside = to.with_extension("new");
        session.host.podman.copy_out(image, from, &beside).await?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o755))
            .map_err(failed)?;
        let copied = std::fs::File::open(&beside).map_err(failed)?;
        copied.sync_all().map_err(failed)?;
        std::fs::rename(&beside, to).map_err(failed)?;
    }
    Ok(())
}

/// A token made with the operator's key, used at once. Neither is ever an argument.
async fn register(session: &Session, desired: &Desired) -> Result<(), Failure> {
    let Some(key) = operator_key(session, desired).await? else {
        return Err(Failure::new(
            Exit::Lacking,
            format!(
                "the worker of this host cannot be registered without the operator's key: make a token (`dispatchctl recipients token \
                 create`), then `dispatcher-worker register --url {} --token-file FILE`, then `quadletgen apply`",
                desired.variables.local_url()
            ),
        ));
    };
    let [(_, worker), (_, control)] = PROGRAMS;
    let url = desired.variables.local_url();
    let label = format!("host={}", desired.variables.text("__dispatcher_hostname"));
    let arguments = ["recipients", "token", "create", "--label", &label];
    let answer = Program::new(control)
        .args(arguments)
        .env("DISPATCHER_URL", url)
        .env("DISPATCHER_KEY", &key)
        .env("DISPATCHER_ORG", desired.variables.text("dispatcher_worker_org"))
        .run()
        .await?;
    Program::new(worker).args(["register", "--url", url]).run_with(Some(answer.as_bytes())).await?;
    Ok(())
}

async fn operator_key(session: &Session, desired: &Desired) -> Result<Option<String>, Failure> {
    let secrets = desired.variables.secrets();
    let Some(secret) = secrets.iter().find(|secret| secret.setting == "PSK_AUTH_OPERATOR") else {
        return Ok(None);
    };
    Ok(Some(session.host.podman.secret_value(&secret.name).await?))
}
