//! The request that is being answered, for whatever works on it: its ids, which go along to the
//! services outside.
//!
//! Owns the place where they are kept while a task works on a request; who makes them is in `http`.

use std::{future::Future, sync::Arc};

tokio::task_local! {
    static CURRENT: Arc<Ids>;
}

/// The ids of a request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ids {
    /// Its own, taken over from the caller where that is acceptable.
    pub id: String,
    /// One that is fresh for every request.
    pub internal: String,
}

/// The ids of the request that is being answered; empty outside of one.
#[must_use]
pub fn ids() -> Arc<Ids> {
    CURRENT.try_with(Arc::clone).unwrap_or_default()
}

/// Works on behalf of a request. A task of its own has to be told so.
pub async fn within<F: Future>(ids: Arc<Ids>, work: F) -> F::Output {
    CURRENT.scope(ids, work).await
}
