//! [`InstanceStore`] for one process, which is all that a SQLite database serves: kept in memory,
//! since a sign of life every two seconds is not worth a write to the disk.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{super::StoreResult, Store};
use crate::{
    instances::model::{Instance, KnownInstance, Sign},
    store::instances::InstanceStore,
};

/// Processes with their last sign and when it was given.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<BTreeMap<Uuid, (Instance, Sign, OffsetDateTime, Instant)>>);

#[async_trait]
impl InstanceStore for Store {
    async fn beat(&self, own: &Instance, sign: Sign) -> StoreResult<()> {
        let seen_at = OffsetDateTime::now_utc().truncate_to_microsecond();
        let row = (own.clone(), sign, seen_at, Instant::now());
        let mut all = self.instances.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(own.id, row);
        Ok(())
    }

    async fn remove(&self, id: Uuid) -> StoreResult<()> {
        self.instances.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        Ok(())
    }

    async fn seen_within(&self, age: Duration) -> StoreResult<Vec<KnownInstance>> {
        let all = self.instances.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.values().map(|(instance, sign, seen_at, at)| KnownInstance {
            instance: instance.clone(),
            sign: *sign,
            seen_at: *seen_at,
            silent_for: at.elapsed(),
        });
        let mut known: Vec<KnownInstance> = known.filter(|known| known.silent_for <= age).collect();
        known.sort_by_cached_key(|known| {
            let Instance { id, kind, name, .. } = &known.instance;
            (kind.as_str(), name.clone(), *id)
        });
        Ok(known)
    }
}
