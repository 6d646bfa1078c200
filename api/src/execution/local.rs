//! The worker inside the process: the worker library over the same logic that HTTP workers reach,
//! without HTTP.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use dispatcher_wire::{
    RunStatus,
    event::RunnerEvent,
    execution::{AppendReply, ClaimedRun, Doorbell},
    inputs::RunInputs,
};
use dispatcher_worker::{
    AgentConfig, ansible,
    link::{EventSink, LinkError, RunSource},
    outbound::Outbound,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Execution, ExecutionError, model::Hold, now};
use crate::{
    app::App, config::execution::LocalSettings, recipients::model::Recipient, store::StoreError,
    tls,
};

/// How often a worker that takes nothing new looks for cancellations.
const DRAINING_PAUSE: Duration = Duration::from_secs(1);

/// Why there is no worker inside the process.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Somebody else has its address.
    #[error(
        "recipient {0} belongs to another organisation; give the local worker another \
         LOCAL_RECIPIENT, or its organisation as LOCAL_ORG"
    )]
    OtherOrg(Uuid),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The authorities that addresses of playbooks are checked by cannot be read.
    #[error("{0:#}")]
    Authorities(anyhow::Error),
}

/// The worker inside the process, registered and ready to work.
#[derive(Debug)]
pub struct LocalWorker {
    link: LocalLink,
    config: AgentConfig,
}

impl LocalWorker {
    /// Registers the local recipient, where there is to be one.
    ///
    /// # Errors
    /// See [`LocalLink::register`].
    pub async fn of(app: &App) -> Result<Option<Self>, LocalError> {
        let settings = &app.settings.local;
        if !settings.enabled {
            return Ok(None);
        }
        let link = LocalLink::register(Arc::clone(&app.execution), settings).await?;
        let link = link.takes_nothing_once(app.lifecycle.draining());
        let mut config = agent_config(settings, app.settings.execution.output_max);
        let authorities = tls::certificates(&app.settings.tls).map_err(LocalError::Authorities)?;
        config.outbound = Outbound::trusting(authorities);
        Ok(Some(Self { link, config }))
    }

    /// Executes runs until the process ends; a run under way is ended and reported then. Says at
    /// the start what is missing: without ansible-runner every run fails, with the cure as reason.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { link, config } = self;
        let runner = config.ansible_runner.clone();
        let checking = shutdown.clone().run_until_cancelled_owned(async move {
            match ansible::preflight(runner.as_deref()).await {
                Ok(found) => tracing::info!(found, "the local worker executes playbooks"),
                Err(cure) => tracing::error!(cure, "the local worker cannot execute playbooks"),
            }
        });
        let working = dispatcher_worker::run(config, Arc::new(link), shutdown);
        if let (Err(error), _) = tokio::join!(working, checking) {
            tracing::error!(%error, "there is no local worker; dispatches to it are refused");
        }
    }
}

fn agent_config(settings: &LocalSettings, output_max: u64) -> AgentConfig {
    let mut config = AgentConfig::new(&settings.work_dir);
    config.name.clone_from(&settings.name);
    config.ansible_runner.clone_from(&settings.ansible_runner);
    config.fetch.plain_http = settings.plain_http.into();
    config.output.bytes = output_max;
    config.grace = settings.cancel_grace;
    config
}

/// The link of the worker inside the process.
#[derive(Clone, Debug)]
pub struct LocalLink {
    execution: Arc<Execution>,
    recipient: Uuid,
    claimed_by: String,
    draining: CancellationToken,
}

impl LocalLink {
    /// Registers the recipient inside the process, which is present from then on, and links to it.
    ///
    /// # Errors
    /// When its address belongs to another organisation, or the database fails.
    pub async fn register(
        execution: Arc<Execution>,
        settings: &LocalSettings,
    ) -> Result<Self, LocalError> {
        let LocalSettings { recipient, org_id, name, .. } = settings;
        let registration = Recipient {
            id: *recipient,
            org_id: org_id.clone(),
            name: name.clone(),
            key_digest: None,
            last_seen: None,
            created_at: now(),
        };
        if !execution.parts.recipients.register(&registration).await? {
            return Err(LocalError::OtherOrg(*recipient));
        }
        execution.seen(*recipient).await?;
        let claimed_by = format!("{name}, process {}", std::process::id());
        let draining = CancellationToken::new();
        Ok(Self { execution, recipient: *recipient, claimed_by, draining })
    }

    /// Once the token is cancelled, no run is claimed any more: what waits is for other instances,
    /// or for the next process, and would only be interrupted here.
    #[must_use]
    pub fn takes_nothing_once(mut self, draining: CancellationToken) -> Self {
        self.draining = draining;
        self
    }

    const fn hold(&self, run_id: Uuid, claim: Uuid) -> Hold {
        Hold { run_id, claim, recipient: self.recipient }
    }
}

#[async_trait]
impl RunSource for LocalLink {
    async fn wait(&self, at_most: Duration, at_a_time: u32) -> Result<Doorbell, LinkError> {
        if !self.draining.is_cancelled() {
            return Ok(self.execution.wait(self.recipient, at_a_time, at_most).await?);
        }
        // Work that waits would answer at once, again and again.
        tokio::time::sleep(DRAINING_PAUSE.min(at_most)).await;
        let bell = self.execution.wait(self.recipient, at_a_time, Duration::ZERO).await?;
        Ok(Doorbell { work: false, ..bell })
    }

    async fn claim(&self, at_a_time: u32) -> Result<Option<ClaimedRun>, LinkError> {
        if self.draining.is_cancelled() {
            return Ok(None);
        }
        Ok(self.execution.claim(self.recipient, &self.claimed_by, at_a_time).await?)
    }

    async fn inputs(&self, run_id: Uuid, claim: Uuid) -> Result<RunInputs, LinkError> {
        Ok(self.execution.inputs(self.hold(run_id, claim)).await?)
    }
}

#[async_trait]
impl EventSink for LocalLink {
    async fn append(
        &self,
        run_id: Uuid,
        claim: Uuid,
        first_counter: u64,
        events: &[RunnerEvent],
    ) -> Result<AppendReply, LinkError> {
        let hold = self.hold(run_id, claim);
        Ok(self.execution.append_events(hold, first_counter, events).await?)
    }

    async fn finish(
        &self,
        run_id: Uuid,
        claim: Uuid,
        next_counter: u64,
    ) -> Result<RunStatus, LinkError> {
        Ok(self.execution.finish(self.hold(run_id, claim), next_counter).await?)
    }
}

impl From<ExecutionError> for LinkError {
    fn from(error: ExecutionError) -> Self {
        match error {
            // Whether the database is down or confused, the worker can only try again.
            ExecutionError::Store(error) => Self::Unavailable(error.to_string()),
            ExecutionError::NotYours => Self::NotYours,
            ExecutionError::Gap(next) => Self::Gap(next),
            ExecutionError::Batch(error) => Self::Refused(error.to_string()),
            ExecutionError::Inputs(error) => Self::Refused(error.to_string()),
        }
    }
}
