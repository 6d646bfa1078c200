//! One instance: started until it is healthy, begun anew until HAProxy sends to it again. What keeps
//! it from that is said with the last lines of its journal.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{
    balancer::Balancer,
    desired::{Desired, instance},
    failure::{Exit, Failure},
};
use crate::host::{
    Host, health, journal,
    systemd::{Activity, SystemdError, Verb},
};

/// How often something that is waited for is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// How many lines of the journal an error shows.
const LINES: usize = 15;

/// Instances of one deployment.
#[derive(Clone, Copy, Debug)]
pub struct Instances<'a> {
    /// The host they are on.
    pub host: &'a Host,
    /// What is asked of it.
    pub desired: &'a Desired,
    /// HAProxy in front of them, where there is one.
    pub balancer: Option<&'a Balancer>,
    /// How long one may take.
    pub within: Duration,
}

impl Instances<'_> {
    /// Starts an instance, whatever it was doing, and waits until it is healthy.
    ///
    /// # Errors
    /// When it does not become healthy in time.
    pub async fn start(&self, index: u16) -> Result<(), Failure> {
        // Anew: an attempt that systemd made meanwhile, with older files, must not be joined.
        self.restart(index).await?;
        self.until_healthy(index, Instant::now() + self.within).await
    }

    /// Stops an instance; it drains itself.
    ///
    /// # Errors
    /// When systemd cannot.
    pub async fn stop(&self, index: u16) -> Result<(), Failure> {
        let unit = instance(index);
        self.host.systemd.job(Verb::Stop, &unit, self.stop_limit()).await?;
        self.host.systemd.forget_failure(&unit).await;
        Ok(())
    }

    /// Begins an instance anew while all others are served, and waits until it is served, too.
    ///
    /// # Errors
    /// When another is down already, or it does not come up again.
    pub async fn renew(&self, index: u16) -> Result<(), Failure> {
        self.until_others_up(index).await?;
        self.restart(index).await?;
        self.until_healthy(index, Instant::now() + self.within).await?;
        self.until_up(index).await
    }

    /// Waits until HAProxy sends to an instance.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn until_up(&self, index: u16) -> Result<(), Failure> {
        let Some(balancer) = self.balancer else { return Ok(()) };
        let deadline = Instant::now() + self.within;
        loop {
            let last = match balancer.down(&[index]).await {
                Ok(down) if down.is_empty() => return Ok(()),
                Ok(down) => down.join(", "),
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                let why = format!("is healthy, but HAProxy does not send to it: {last}");
                return Err(self.unhealthy(index, &why).await);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn until_others_up(&self, index: u16) -> Result<(), Failure> {
        let Some(balancer) = self.balancer else { return Ok(()) };
        let count = u16::try_from(self.desired.asked.instances.len()).unwrap_or(u16::MAX);
        let others: Vec<u16> = (0..count).filter(|other| *other != index).collect();
        let deadline = Instant::now() + self.within;
        loop {
            let last = match balancer.down(&others).await {
                Ok(down) if down.is_empty() => return Ok(()),
                Ok(down) => down.join(", "),
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                return Err(Failure::new(
                    Exit::Unhealthy,
                    format!(
                        "{} was not restarted, since HAProxy does not send to all others: {last}; see `quadletgen status`",
                        instance(index)
                    ),
                ));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Has systemd start it anew. What it takes to end does not count, only what it takes to begin.
    async fn restart(&self, index: u16) -> Result<(), Failure> {
        let unit = instance(index);
        let mut result = self.attempt(&unit).await;
        if matches!(result, Err(SystemdError::Job { .. })) {
            // Once more: what it needs may just have been on its own way up.
            result = self.attempt(&unit).await;
        }
        match result {
            Ok(()) => Ok(()),
            Err(error @ (SystemdError::Job { .. } | SystemdError::Late { .. })) => {
                Err(self.unhealthy(index, &format!("did not come up: {error}")).await)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn attempt(&self, unit: &str) -> Result<(), SystemdError> {
        let whole = self.stop_limit() + self.within;
        tokio::select! {
            result = self.host.systemd.job(Verb::Restart, unit, whole) => result,
            () = self.begun_for_too_long(unit) => {
                Err(SystemdError::Late { unit: unit.to_owned(), verb: "become ready", limit: self.within })
            }
        }
    }

    /// Ends when the unit has been on its way up for longer than it may; never otherwise.
    async fn begun_for_too_long(&self, unit: &str) {
        let mut since = None;
        loop {
            sleep(LOOK_AGAIN * 4).await;
            match self.host.systemd.activity(unit).await {
                Ok(Some(Activity::Activating)) => {
                    let since = since.get_or_insert_with(Instant::now);
                    if since.elapsed() > self.within {
                        return;
                    }
                }
                _ => since = None,
            }
        }
    }

    async fn until_healthy(&self, index: u16, deadline: Instant) -> Result<(), Failure> {
        let question = self.desired.question(&self.host.layout, index);
        loop {
            let Err(last) = health::ask(&question).await else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(self
                    .unhealthy(index, &format!("did not become healthy: {last}"))
                    .await);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn unhealthy(&self, index: u16, why: &str) -> Failure {
        let unit = instance(index);
        let lines = journal::last_lines(self.host.layout.is_user, &unit, LINES).await;
        let text = format!("{unit} {why}\nits last journal lines:\n  {}", lines.join("\n  "));
        Failure { exit: Exit::Unhealthy, text, instance: Some(index) }
    }

    /// What systemd gives a stop, and a little for systemd itself.
    fn stop_limit(&self) -> Duration {
        let seconds = self.desired.variables.number("__dispatcher_stop_timeout");
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default() + 30)
    }
}
