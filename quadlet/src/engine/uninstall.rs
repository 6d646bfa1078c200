//! `uninstall`: stops and removes what the manifest says quadletgen made, and nothing else; with
//! `--data` also volumes and secrets (`departure` finds all of it). Killed anywhere, it goes on when it is run again.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    balancer,
    departure::{self, Departure},
    desired::index,
    failure::{Exit, Failure},
    image, programs,
    record::Made,
    session::Session,
    worker,
};
use crate::{
    entry::Concerns,
    files::Change,
    host::systemd::{Activity, Verb},
    variables::Variables,
};

/// How long a unit may take to stop.
const WITHIN: Duration = Duration::from_secs(180);
const TARGET: &str = "dispatcher-api.target";
/// What instances listen on, in a directory of their own.
const SOCKET: &str = "api.sock";

/// Does it.
///
/// # Errors
/// When something cannot be stopped or removed.
pub async fn uninstall(session: &mut Session, has_data: bool) -> Result<(), Failure> {
    let departure = Departure::find(session).await?;
    if session.options.is_dry_run {
        return departure.show(session, has_data);
    }
    let Departure { changes, made, .. } = departure;
    // Noted before the files that tell it are gone, and until it is removed.
    session.record.note_made(&made)?;
    let (of_haproxy, others): (Vec<_>, Vec<_>) = changes
        .iter()
        .partition(|change| matches!(change.concerns, Concerns::Haproxy | Concerns::HaproxyUnit));
    let variables = Variables::load(&session.host.layout).ok();
    haproxy(session, variables.as_ref(), &of_haproxy).await?;
    stop(session).await?;
    remove(session, &others).await?;
    if has_data {
        data(session, &made).await?;
    }
    session.progress.say("nothing of Dispatcher runs here any more; deploy.yml was left");
    if has_data {
        let path = session.record.path().to_owned();
        return fs::remove_file(&path)
            .or_else(ignoring_absence)
            .map_err(|error| failed(&path, &error));
    }
    session
        .progress
        .say("volumes and secrets were left, too: `quadletgen uninstall --data` removes them");
    session.record.keep_only_made(&made)
}

async fn haproxy(
    session: &mut Session,
    variables: Option<&Variables>,
    changes: &[&Change],
) -> Result<(), Failure> {
    // What is noted tells that it was not told yet, where files are gone already.
    let is_told = session.record.haproxy_has_read().is_none();
    if changes.is_empty() && is_told {
        return Ok(());
    }
    let since = Instant::now();
    let had_unit = session.record.haproxy_unit().is_some()
        || changes.iter().any(|change| change.concerns == Concerns::HaproxyUnit);
    session.record.carry_out(changes.iter().copied())?;
    let systemd = &session.host.systemd;
    systemd.daemon_reload().await?;
    let words = variables.map(|known| known.words("dispatcher_haproxy_reload_command"));
    if let Some((program, arguments)) = words.as_deref().and_then(<[String]>::split_first) {
        balancer::told(Path::new(program), arguments).await?;
    } else if systemd.activity(balancer::UNIT).await? == Some(Activity::Active) {
        // With the files of its package again, where ours were all it had.
        systemd
            .job(if had_unit { Verb::Restart } else { Verb::Reload }, balancer::UNIT, WITHIN)
            .await?;
    }
    session.record.note_haproxy_unit(None)?;
    session.record.forget_haproxy()?;
    session.progress.done(since, "HAProxy without our files");
    Ok(())
}

async fn stop(session: &Session) -> Result<(), Failure> {
    let since = Instant::now();
    let systemd = &session.host.systemd;
    let units = departure::running(session).await?;
    // The instances first, all at once: the services are there until they have ended.
    let (instances, others): (Vec<String>, Vec<String>) =
        units.into_iter().partition(|unit| index(unit).is_some());
    futures_util::future::try_join_all(
        instances.iter().map(|unit| systemd.job(Verb::Stop, unit, WITHIN)),
    )
    .await?;
    for unit in &others {
        systemd.job(Verb::Stop, unit, WITHIN).await?;
    }
    if systemd.activity(TARGET).await?.is_some() {
        systemd.job(Verb::Stop, TARGET, WITHIN).await?;
    }
    session.progress.done(since, "everything stopped");
    Ok(())
}

async fn remove(session: &mut Session, changes: &[&Change]) -> Result<(), Failure> {
    let since = Instant::now();
    session.record.carry_out(changes.iter().copied())?;
    session.host.systemd.daemon_reload().await?;
    let names: Vec<String> = session.record.manifest.tags.keys().cloned().collect();
    for name in names {
        image::forget(session, &name).await?;
    }
    for line in programs::remove(&mut session.record)? {
        session.progress.say(&line);
    }
    sockets(&session.host.layout.runtime)?;
    for copier in programs::COPIERS {
        session.host.podman.remove_container(copier).await?;
    }
    session.progress.done(since, "files removed");
    Ok(())
}

/// The directories of the instances' sockets, which would stay until the next boot.
fn sockets(runtime: &Path) -> Result<(), Failure> {
    let Ok(entries) = fs::read_dir(runtime) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()) {
            fs::remove_file(path.join(SOCKET))
                .or_else(ignoring_absence)
                .and_then(|()| fs::remove_dir(&path))
                .map_err(|error| failed(&path, &error))?;
        }
    }
    // Whatever somebody else has put there keeps it.
    let _others = fs::remove_dir(runtime);
    Ok(())
}

async fn data(session: &Session, made: &Made) -> Result<(), Failure> {
    let since = Instant::now();
    // Secrets last: without its password a volume that is left is of no use.
    for volume in &made.volumes {
        session.host.podman.remove_volume(volume).await?;
    }
    for network in &made.networks {
        session.host.podman.remove_network(network).await?;
    }
    if made.has_worker {
        // Its identity is worth nothing without the database that knew it.
        let path = Path::new(worker::STATE);
        fs::remove_dir_all(path).or_else(ignoring_absence).map_err(|error| failed(path, &error))?;
    }
    for secret in &made.secrets {
        session.host.podman.remove_secret(secret).await?;
    }
    session.progress.done(since, "volumes and secrets removed");
    Ok(())
}

fn ignoring_absence(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
}
