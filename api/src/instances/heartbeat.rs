//! The sign of life of this process: one statement every two seconds, and at once where it has news.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::model::{BEAT, Instance, ProcessKind, Sign};
use crate::store::{StoreResult, instances::InstanceStore};

/// How long taking the row away may keep an ending process.
const GOODBYE: Duration = Duration::from_secs(2);

/// What this process tells the others; any part of it may have news. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<watch::Sender<Sign>>);

impl Default for Heartbeat {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Sign::default())))
    }
}

impl Heartbeat {
    /// From now on these keys are in force here.
    pub fn auth_version(&self, version: u64) {
        self.0.send_if_modified(|sign| {
            let news = sign.auth_version != version;
            sign.auth_version = version;
            news
        });
    }

    /// Tells the others until the end of the process, and then that it is gone. `draining` is
    /// cancelled when it begins to end.
    pub async fn keep(
        self,
        store: Arc<dyn InstanceStore>,
        own: Instance,
        draining: CancellationToken,
        shutdown: CancellationToken,
    ) {
        let mut news = self.0.subscribe();
        let mut silent = false;
        while !shutdown.is_cancelled() {
            let sign = Sign { draining: draining.is_cancelled(), ..*news.borrow_and_update() };
            note(&mut silent, store.beat(&own, sign).await);
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = draining.cancelled(), if !sign.draining => {}
                _ = news.changed() => {}
                () = tokio::time::sleep(BEAT) => {}
            }
        }
        // Whoever misses the goodbye sees the silence.
        let _ = tokio::time::timeout(GOODBYE, store.remove(own.id)).await;
    }
}

/// Says when the signs stop arriving and when they do again, not each time.
fn note(silent: &mut bool, told: StoreResult<()>) {
    match told {
        Err(error) if !*silent => {
            tracing::warn!(%error, "the registry of instances does not hear from this one");
            *silent = true;
        }
        Ok(()) if *silent => {
            tracing::info!("the registry of instances hears from this one again");
            *silent = false;
        }
        _ => {}
    }
}

impl Instance {
    /// This process, under the name that a setting gives, or its host's name and its number there.
    #[must_use]
    pub fn of_this_process(kind: ProcessKind, name: Option<&str>) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "localhost" } else { host.trim() };
        let of_host = || format!("{host}-{}", std::process::id());
        Self {
            id: Uuid::new_v4(),
            kind,
            name: name.map_or_else(of_host, str::to_owned),
            host: host.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: OffsetDateTime::now_utc().truncate_to_microsecond(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tokio::time::Instant;

    use super::{super::model::KnownInstance, *};

    #[derive(Default)]
    struct Told(Mutex<Vec<Option<Sign>>>);

    #[async_trait]
    impl InstanceStore for Told {
        async fn beat(&self, _: &Instance, sign: Sign) -> StoreResult<()> {
            self.0.lock().unwrap().push(Some(sign));
            Ok(())
        }
        async fn remove(&self, _: Uuid) -> StoreResult<()> {
            self.0.lock().unwrap().push(None);
            Ok(())
        }
        async fn seen_within(&self, _: Duration) -> StoreResult<Vec<KnownInstance>> {
            Ok(Vec::new())
        }
    }

    async fn until(told: &Told, count: usize) {
        let since = Instant::now();
        while told.0.lock().unwrap().len() < count {
            assert!(since.elapsed() < BEAT / 2, "news waits for the next beat");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn news_are_told_at_once_and_the_end_too() {
        let told = Arc::new(Told::default());
        let heartbeat = Heartbeat::default();
        let (draining, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let own = Instance::of_this_process(ProcessKind::Api, Some("one"));
        let kept = heartbeat.clone().keep(told.clone(), own, draining.clone(), shutdown.clone());
        let kept = tokio::spawn(kept);
        until(&told, 1).await;
        heartbeat.auth_version(7);
        until(&told, 2).await;
        heartbeat.auth_version(7);
        draining.cancel();
        until(&told, 3).await;
        shutdown.cancel();
        kept.await.unwrap();
        let sign = |auth_version, draining| Some(Sign { auth_version, draining });
        let all = [sign(0, false), sign(7, false), sign(7, true), None];
        assert_eq!(*told.0.lock().unwrap(), all);
    }
}
