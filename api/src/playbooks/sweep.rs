//! What is removed of stored playbooks: bodies that a crash has left behind, and contents that no
//! name points at any more, once no run can still want them.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use time::OffsetDateTime;

use super::{
    content::{self, CONTENTS},
    put::{INCOMING, PutError, Shelf},
};

/// How often it is looked for.
const INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// How long something is kept: longer than any request, and than any run that was dispatched with a
/// content may wait for it (a week).
const KEPT_FOR: time::Duration = time::Duration::days(8);

impl Shelf {
    /// Sweeps again and again.
    pub async fn keep_swept(self) {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            match self.sweep(OffsetDateTime::now_utc() - KEPT_FOR).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "playbooks that nothing names are removed"),
                Err(error) => tracing::warn!(%error, "stored playbooks were not swept"),
            }
        }
    }

    /// Removes what was written before then and is not needed; answers with how much.
    ///
    /// # Errors
    /// When a store fails; what was removed before stays removed.
    pub async fn sweep(&self, before: OffsetDateTime) -> Result<u64, PutError> {
        let mut removed = 0;
        let mut bodies = self.objects.list(INCOMING);
        while let Some(body) = bodies.try_next().await? {
            if body.written_at < before {
                self.objects.delete(&body.key).await?;
                removed += 1;
            }
        }
        let mut contents = self.objects.list(CONTENTS);
        while let Some(found) = contents.try_next().await? {
            if found.written_at < before {
                removed += u64::from(self.drop_unnamed(&found.key).await?);
            }
        }
        Ok(removed)
    }

    /// Looks at one old object. A description's age is that of the content's last use, so that a
    /// content is judged by it, and by itself only where it has none.
    async fn drop_unnamed(&self, key: &str) -> Result<bool, PutError> {
        let Some(content) = content::of_key(key) else { return Ok(false) };
        let is_content = content::key(&content) == key;
        let described = is_content && content::is_whole(&self.objects, &content).await?;
        // Removing a description a moment ago has removed its content as well.
        if described || !self.objects.exists(key).await? {
            return Ok(false);
        }
        let named = self.names.find_content(&content.org_id, &content.sha256).await?;
        if named.is_none() {
            content::remove(&self.objects, &content).await?;
        }
        Ok(named.is_none())
    }
}
