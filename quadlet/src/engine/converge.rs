//! Carries a plan out, step by step. Killed anywhere, the next plan goes on from what is found.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    balancer::{self, Balancer},
    desired::Desired,
    failure::{Exit, Failure},
    instance::Instances,
    observe::{Observed, observe},
    plan::{Step, plan},
    progress::Progress,
    record::Record,
};
use crate::{
    check::{self, Severity},
    entry::Concerns,
    host::{Host, journal, program::Program, systemd::Verb},
};

/// How many instances are started at once; more only take the processors from each other.
const AT_ONCE: usize = 8;
/// The target that brings instances up at boot.
const TARGET: &str = "dispatcher-api.target";

/// One way from what is found to what is asked.
#[derive(Debug)]
pub struct Converge<'a> {
    /// The host.
    pub host: &'a Host,
    /// What is asked.
    pub desired: &'a Desired,
    /// What is remembered.
    pub record: &'a mut Record,
    /// What is said meanwhile.
    pub progress: &'a Progress,
    /// How long one instance may take to become healthy.
    pub within: Duration,
}

impl Converge<'_> {
    /// Looks, plans, checks, and does it.
    ///
    /// # Errors
    /// With the first step that fails; what was done so far stays.
    pub async fn run(&mut self) -> Result<usize, Failure> {
        let observed = observe(self.host, self.desired, self.record).await?;
        self.check(&observed).await?;
        self.adopt()?;
        let steps = plan(&self.desired.asked, &observed.found);
        for step in &steps {
            self.progress.safe_point()?;
            let since = Instant::now();
            self.step(step, &observed).await?;
            self.progress.done(since, &said(step));
        }
        self.host.systemd.job(Verb::Start, TARGET, self.within).await?;
        Ok(steps.len())
    }

    /// Takes up what is there as it is asked for.
    fn adopt(&mut self) -> Result<(), Failure> {
        let new = self.record.adopt(&self.desired.entries)?;
        let Some(first) = new.first() else { return Ok(()) };
        let others = match new.len() {
            1 => String::new(),
            count => format!(" and {} other files", count - 1),
        };
        self.progress.say(&format!(
            "note: {}{others} were there as they are asked for: they are quadletgen's now",
            first.display()
        ));
        Ok(())
    }

    /// One step by itself, with nothing to write.
    ///
    /// # Errors
    /// When it fails.
    pub async fn only(&mut self, step: &Step) -> Result<(), Failure> {
        self.progress.safe_point()?;
        let observed = observe(self.host, self.desired, self.record).await?;
        let since = Instant::now();
        self.step(step, &observed).await?;
        self.progress.done(since, &said(step));
        Ok(())
    }

    /// What Podman, systemd and HAProxy say to it. Nothing that they read is touched.
    ///
    /// # Errors
    /// When one of them refuses.
    pub async fn check(&self, observed: &Observed) -> Result<(), Failure> {
        if observed.has_new_units(&self.host.layout) {
            let findings = check::all(&self.desired.variables, &self.host.layout).await?;
            let wrong = findings.iter().filter(|finding| finding.severity == Severity::Wrong);
            let wrong: Vec<String> =
                wrong.map(|finding| format!("{}: {}", finding.about, finding.text)).collect();
            if !wrong.is_empty() {
                return Err(Failure::new(
                    Exit::Refused,
                    format!("nothing was changed:\n{}", wrong.join("\n")),
                ));
            }
        }
        if let Some(balancer) = self.balancer() {
            balancer.check(observed.to_write(true)).await?;
        }
        Ok(())
    }

    fn balancer(&self) -> Option<Balancer> {
        Balancer::of(self.desired)
    }

    async fn step(&mut self, step: &Step, observed: &Observed) -> Result<(), Failure> {
        match step {
            Step::Write => self.write(observed),
            Step::Reload => self.reload().await,
            Step::Unit(unit) => self.unit(unit).await,
            Step::Start(indices) => self.start(indices).await,
            Step::Balance => self.balance(observed).await,
            Step::Stop(indices) => self.stop(indices).await,
            Step::Renew(index) => {
                let balancer = self.balancer();
                self.instances(balancer.as_ref()).renew(*index).await
            }
            Step::End(unit) => self.end(unit).await,
            Step::Remove => self.remove(observed).await,
        }
    }

    fn instances<'b>(&'b self, balancer: Option<&'b Balancer>) -> Instances<'b> {
        Instances { host: self.host, desired: self.desired, balancer, within: self.within }
    }

    fn write(&mut self, observed: &Observed) -> Result<(), Failure> {
        if observed.to_write(false).any(|change| change.concerns == Concerns::Worker) {
            self.record.forget_worker()?;
        }
        self.record.forget_systemd()?;
        self.record.carry_out(observed.to_write(false))
    }

    async fn reload(&mut self) -> Result<(), Failure> {
        let directories =
            self.desired.entries.iter().filter(|entry| entry.concerns == Concerns::Tmpfiles);
        for entry in directories {
            Program::new("systemd-tmpfiles")
                .args(self.host.layout.is_user.then_some("--user"))
                .args(["--create".to_owned(), entry.path.display().to_string()])
                .run()
                .await?;
        }
        self.host.systemd.daemon_reload().await?;
        self.record.note_systemd(&self.desired.asked.units)
    }

    async fn unit(&self, unit: &str) -> Result<(), Failure> {
        let result = self.host.systemd.job(Verb::Restart, unit, self.within).await;
        let Err(error) = result else { return Ok(()) };
        let lines = journal::last_lines(self.host.layout.is_user, unit, 15).await;
        Err(Failure::new(
            Exit::Unhealthy,
            format!("{error}\nits last journal lines:\n  {}", lines.join("\n  ")),
        ))
    }

    async fn start(&self, indices: &BTreeSet<u16>) -> Result<(), Failure> {
        let instances = self.instances(None);
        let starts = stream::iter(indices).map(|index| instances.start(*index));
        starts.buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    async fn stop(&self, indices: &BTreeSet<u16>) -> Result<(), Failure> {
        let instances = self.instances(None);
        let stops = stream::iter(indices).map(|index| instances.stop(*index));
        stops.buffer_unordered(64).try_collect::<()>().await
    }

    async fn balance(&mut self, observed: &Observed) -> Result<(), Failure> {
        let Some(balancer) = self.balancer() else { return Ok(()) };
        let unit = self.desired.haproxy_unit();
        let noted = self.record.haproxy_unit();
        let restart = balancer::restart(self.host, noted.as_deref(), unit.as_deref()).await?;
        let is_restart = restart.is_some();
        if let Some(warning) = restart {
            self.progress.say(&format!("note: {warning}"));
        }
        self.record.forget_haproxy()?;
        self.record.carry_out(observed.to_write(true))?;
        if is_restart && unit.is_none() {
            self.without_drop_in(observed).await?;
        }
        let count = u16::try_from(self.desired.asked.instances.len()).unwrap_or(u16::MAX);
        balancer.take_up(self.host, is_restart).await?;
        self.record.note_haproxy_unit(unit.as_ref())?;
        if let Some(digest) = &self.desired.asked.balancer {
            self.record.note_haproxy(digest)?;
        }
        for index in 0..count {
            self.instances(Some(&balancer)).until_up(index).await?;
        }
        Ok(())
    }

    /// Gives HAProxy the unit of its package back: started with ours, it could not even be reloaded
    /// once the files are gone that ours names.
    async fn without_drop_in(&mut self, observed: &Observed) -> Result<(), Failure> {
        let drop_in = observed.to_remove().filter(|one| one.concerns == Concerns::HaproxyUnit);
        self.record.forget_systemd()?;
        self.record.carry_out(drop_in)?;
        Ok(self.host.systemd.daemon_reload().await?)
    }

    async fn end(&self, unit: &str) -> Result<(), Failure> {
        self.host.systemd.job(Verb::Stop, unit, Duration::from_secs(120)).await?;
        self.host.systemd.forget_failure(unit).await;
        Ok(())
    }

    async fn remove(&mut self, observed: &Observed) -> Result<(), Failure> {
        self.record.forget_systemd()?;
        self.record.carry_out(observed.to_remove())?;
        self.host.systemd.daemon_reload().await?;
        self.record.note_systemd(&self.desired.asked.units)
    }
}

/// A step in words, done.
fn said(step: &Step) -> String {
    match step {
        Step::Write => "files written".to_owned(),
        Step::Reload => "systemd read them".to_owned(),
        Step::Unit(unit) => format!("{unit} started"),
        Step::Start(indices) => format!("{} healthy", named(indices)),
        Step::Balance => "HAProxy sends to the instances of its file".to_owned(),
        Step::Stop(indices) => format!("{} drained and stopped", named(indices)),
        Step::Renew(index) => format!("dispatcher-api@{index} began anew, healthy, served"),
        Step::End(unit) => format!("{unit} stopped"),
        Step::Remove => "files that are not needed any more removed".to_owned(),
    }
}

/// A step in words, to come.
#[must_use]
pub fn announced(step: &Step) -> String {
    match step {
        Step::Write => "write these files".to_owned(),
        Step::Reload => "have systemd read its units (daemon-reload)".to_owned(),
        Step::Unit(unit) => format!("start {unit}, or begin it anew"),
        Step::Start(indices) => format!("start {}, wait until healthy", named(indices)),
        Step::Balance => "write HAProxy's files, check them, have HAProxy read them".to_owned(),
        Step::Stop(indices) => format!("let {} drain and stop", named(indices)),
        Step::Renew(index) => {
            format!("restart dispatcher-api@{index}, wait until it is healthy and served")
        }
        Step::End(unit) => format!("stop {unit}"),
        Step::Remove => "remove the files that are not needed any more".to_owned(),
    }
}

fn named(indices: &BTreeSet<u16>) -> String {
    let all: Vec<String> = indices.iter().map(u16::to_string).collect();
    format!("dispatcher-api@{}", all.join(","))
}
