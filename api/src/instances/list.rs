//! The processes of the service as admins see them.

use dispatcher_wire::admin::InstanceView;

use super::model::{KnownInstance, SHOWN_WITHIN};
use crate::{
    events::model::timestamp,
    store::{StoreResult, instances::InstanceStore},
};

/// Every process that gave a sign of life within the last minute, by kind and name.
///
/// # Errors
/// When the database fails.
pub async fn shown(store: &dyn InstanceStore) -> StoreResult<Vec<InstanceView>> {
    Ok(store.seen_within(SHOWN_WITHIN).await?.into_iter().map(view).collect())
}

fn view(known: KnownInstance) -> InstanceView {
    let live = known.is_live();
    let KnownInstance { instance, sign, seen_at, .. } = known;
    InstanceView {
        id: instance.id,
        kind: instance.kind.as_str().to_owned(),
        name: instance.name,
        host: instance.host,
        version: instance.version,
        started_at: timestamp(instance.started_at),
        seen_at: timestamp(seen_at),
        live,
        draining: sign.draining,
        auth_version: sign.auth_version,
    }
}
