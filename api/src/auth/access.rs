//! Which runs somebody may look at whom a gateway vouches for: RBAC says so, its answers are
//! remembered for a short time. Without RBAC all runs of the organisation.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use reqwest::header::HeaderValue;

use super::{
    permissions::{Permission, Verdict, judge},
    shared_answers::SharedAnswers,
};
use crate::{config::rbac::RbacSettings, outside::rbac::Rbac};

/// Times that permissions could not be had.
const ERRORS: &str = "api_rbac_error_total";
/// Callers that may not look at runs.
const REJECTED: &str = "api_rbac_rejected_total";

/// What RBAC said, or why it said nothing.
type Said = Result<Arc<Verdict>, Arc<str>>;

/// Who may look at which runs.
pub struct RunAccess {
    rbac: Option<Arc<dyn Rbac>>,
    remembered: SharedAnswers<[u8; 32], Arc<Verdict>, Arc<str>>,
}

/// Why somebody may not look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AccessError {
    /// No permission to read runs.
    #[error("you have no permission to read runs")]
    Forbidden,
    /// Nobody can tell just now.
    #[error("your permissions are not known just now, since RBAC did not answer; try again")]
    Unknown,
}

impl std::fmt::Debug for RunAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunAccess").field("is_limited", &self.rbac.is_some()).finish()
    }
}

impl RunAccess {
    /// As this RBAC says; `None`: everybody may look at every run of their organisation.
    #[must_use]
    pub fn new(rbac: Option<Arc<dyn Rbac>>, settings: &RbacSettings) -> Self {
        begin();
        let remembered = SharedAnswers::new(settings.cache_ttl, settings.cache_size);
        Self { rbac, remembered }
    }

    /// The services whose runs whoever has this identity may look at; none named: every one.
    ///
    /// # Errors
    /// When they may look at none, or nobody can tell.
    pub async fn services_for(&self, identity: &HeaderValue) -> Result<Vec<String>, AccessError> {
        let Some(rbac) = &self.rbac else { return Ok(Vec::new()) };
        let (rbac, asked_for) = (Arc::clone(rbac), identity.clone());
        let ask = || async move { verdict(&rbac.permissions(&asked_for).await) };
        match self.remembered.get(print_of(identity), ask).await.as_deref() {
            Ok(Verdict::RunsOf(services)) => Ok(services.clone()),
            Ok(Verdict::Nothing) => {
                metrics::counter!(REJECTED).increment(1);
                Err(AccessError::Forbidden)
            }
            Err(_) => Err(AccessError::Unknown),
        }
    }
}

/// Counted and logged once for everybody who waits for it.
fn verdict(permissions: &Result<Vec<Permission>, String>) -> Said {
    let judged = match permissions {
        Ok(permissions) => judge(permissions).map_err(|error| error.to_string()),
        Err(error) => Err(error.clone()),
    };
    judged.map(Arc::new).map_err(|error| {
        metrics::counter!(ERRORS).increment(1);
        tracing::error!(error, "RBAC did not say what somebody may do");
        error.into()
    })
}

/// What an identity is remembered by: never itself.
fn print_of(identity: &HeaderValue) -> [u8; 32] {
    let mut print = [0; 32];
    print.copy_from_slice(digest(&SHA256, identity.as_bytes()).as_ref());
    print
}

fn begin() {
    metrics::describe_counter!(ERRORS, "Times that RBAC did not say what somebody may do.");
    metrics::describe_counter!(REJECTED, "Requests of callers that may not look at runs.");
    metrics::counter!(ERRORS).absolute(0);
    metrics::counter!(REJECTED).absolute(0);
}
