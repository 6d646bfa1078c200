//! `uninstall`: stops and removes what the manifest says quadletgen made, and nothing else; with
//! `--data` also volumes and secrets. Killed anywhere, it goes on when it is run again.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    balancer,
    desired::index,
    failure::{Exit, Failure},
    image, programs,
    record::Made,
    session::Session,
    worker,
};
use crate::{
    entry::{Concerns, What},
    files::{self, Change},
    host::systemd::{Activity, Verb},
    variables::Variables,
};

/// How long a unit may take to stop.
const WITHIN: Duration = Duration::from_secs(180);
const TARGET: &str = "dispatcher-api.target";

/// Does it.
///
/// # Errors
/// When something cannot be stopped or removed.
pub async fn uninstall(session: &mut Session, has_data: bool) -> Result<(), Failure> {
    // What only the variables know has to be known before they are gone; without them, less is removed.
    let variables = Variables::load(&session.host.layout).ok();
    let mut made = session.record.made();
    made.volumes.extend(named(session, "volume", "VolumeName="));
    made.networks.extend(named(session, "network", "NetworkName="));
    made.has_worker |= !session.record.manifest.programs.is_empty();
    let changes = files::changes(&[], &session.record.manifest)?;
    if session.options.is_dry_run {
        for change in &changes {
            session.progress.say(&format!("remove {}", change.path.display()));
        }
        session.progress.say("nothing was changed (--dry-run)");
        return Ok(());
    }
    // Noted before the files that tell it are gone, and until it is removed.
    session.record.note_made(&made)?;
    let (of_haproxy, others): (Vec<_>, Vec<_>) = changes
        .iter()
        .partition(|change| matches!(change.concerns, Concerns::Haproxy | Concerns::HaproxyUnit));
    haproxy(session, &of_haproxy).await?;
    stop(session).await?;
    remove(session, &others).await?;
    let names: Vec<String> = session.record.manifest.tags.keys().cloned().collect();
    for name in names {
        image::forget(session, &name).await?;
    }
    if has_data {
        data(session, variables.as_ref(), &made).await?;
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

async fn haproxy(session: &mut Session, changes: &[&Change]) -> Result<(), Failure> {
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
    if systemd.activity(balancer::UNIT).await? == Some(Activity::Active) {
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
    let ours = own_units(session);
    let listed = systemd.list("dispatcher-*.service").await?;
    let running = listed.iter().filter(|unit| unit.activity != Activity::Inactive);
    let units: Vec<&str> = running
        .map(|unit| unit.unit.as_str())
        .filter(|unit| index(unit).is_some() || ours.iter().any(|our| our == unit))
        .collect();
    // The instances first, all at once: the services are there until they have ended.
    let (instances, others): (Vec<&str>, Vec<&str>) =
        units.into_iter().partition(|unit| index(unit).is_some());
    futures_util::future::try_join_all(
        instances.iter().map(|unit| systemd.job(Verb::Stop, unit, WITHIN)),
    )
    .await?;
    for unit in others {
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
    for line in programs::remove(&mut session.record)? {
        session.progress.say(&line);
    }
    for copier in programs::COPIERS {
        session.host.podman.remove_container(copier).await?;
    }
    session.progress.done(since, "files removed");
    Ok(())
}

async fn data(
    session: &Session,
    variables: Option<&Variables>,
    made: &Made,
) -> Result<(), Failure> {
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
    for secret in variables.map(Variables::secrets).unwrap_or_default() {
        session.host.podman.remove_secret(&secret.name).await?;
    }
    session.progress.done(since, "volumes and secrets removed");
    Ok(())
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

fn ignoring_absence(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
}
