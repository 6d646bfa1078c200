//! How far a version of the auth state has come: which processes have it in force.

use dispatcher_wire::admin::{Confirmations, Confirmed};

use crate::{
    instances::model::{KnownInstance, ProcessKind},
    store::{StoreResult, instances::InstanceStore},
};

/// Asks who lives, and counts.
///
/// # Errors
/// When the database fails.
pub async fn of(store: &dyn InstanceStore, version: u64) -> StoreResult<Confirmations> {
    Ok(confirmations(version, &store.live().await?))
}

/// Counts living processes, and those that have the version, or a later one.
fn confirmations(version: u64, living: &[KnownInstance]) -> Confirmations {
    let of = |kind: ProcessKind| {
        let those = living.iter().filter(|known| known.instance.kind == kind);
        let in_force = those.clone().filter(|known| known.sign.auth_version >= version);
        Confirmed { live: count(those), in_force: count(in_force) }
    };
    Confirmations {
        version,
        instances: of(ProcessKind::Api),
        trackers: of(ProcessKind::AuthTracker),
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::OffsetDateTime;

    use super::*;
    use crate::instances::model::{Instance, Sign};

    fn known(kind: ProcessKind, auth_version: u64) -> KnownInstance {
        KnownInstance {
            instance: Instance::of_this_process(kind, None),
            sign: Sign { auth_version, ..Sign::default() },
            seen_at: OffsetDateTime::UNIX_EPOCH,
            silent_for: Duration::ZERO,
        }
    }

    #[test]
    fn later_versions_confirm_and_kinds_are_apart() {
        let living = [
            known(ProcessKind::Api, 4),
            known(ProcessKind::Api, 5),
            known(ProcessKind::Api, 9),
            known(ProcessKind::AuthTracker, 5),
        ];
        let found = confirmations(5, &living);
        assert_eq!(found.instances, Confirmed { live: 3, in_force: 2 });
        assert_eq!(found.trackers, Confirmed { live: 1, in_force: 1 });
        assert_eq!(confirmations(10, &living).instances.in_force, 0);
        assert_eq!(confirmations(1, &[]).instances, Confirmed::default());
    }
}
