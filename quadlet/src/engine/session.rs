//! One command's work on a host: the lock held, the host connected, what is remembered at hand.

use std::time::Duration;

use super::{failure::Failure, progress::Progress, record::Record};
use crate::{
    host::{Host, lock::Lock},
    layout::Layout,
};

/// How a command goes about its work.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether only what would be done is shown.
    pub is_dry_run: bool,
    /// Whether an image that fails is left where it is, to be looked at.
    pub is_keeping: bool,
    /// How long one instance may take to become healthy.
    pub within: Duration,
}

/// A command at work.
#[derive(Debug)]
pub struct Session {
    /// The host.
    pub host: Host,
    /// What is remembered of it.
    pub record: Record,
    /// What is said.
    pub progress: Progress,
    /// How to go about it.
    pub options: Options,
    _lock: Option<Lock>,
}

impl Session {
    /// Begins to change the host: with the lock, unless it is only shown what would be done.
    ///
    /// # Errors
    /// When another quadletgen is at work, or the host cannot be reached.
    pub async fn begin(layout: Layout, command: &str, options: Options) -> Result<Self, Failure> {
        let path = layout.state.join("lock");
        let lock = if options.is_dry_run { None } else { Some(Lock::take(&path, command)?) };
        let host = Host::connect(layout).await?;
        let mut record = Record::load(&host.layout)?;
        let progress = Progress::of_process();
        if !options.is_dry_run {
            record.sweep()?;
            progress.keep_signals();
        }
        Ok(Self { host, record, progress, options, _lock: lock })
    }
}
