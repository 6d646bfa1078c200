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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::config::source::Source;

    /// Answers what the identity says.
    struct Echo;

    #[async_trait]
    impl Rbac for Echo {
        async fn permissions(&self, identity: &HeaderValue) -> Result<Vec<Permission>, String> {
            match identity.to_str().unwrap() {
                "" => Err("away".to_owned()),
                "nothing" => Ok(Vec::new()),
                service => Ok(vec![Permission::to_read_runs_of(service, false)]),
            }
        }
    }

    fn access(rbac: Option<Arc<dyn Rbac>>) -> RunAccess {
        let settings = RbacSettings::read(&mut Source::new([].into()));
        assert_eq!(settings.cache_ttl, Duration::from_secs(5));
        RunAccess::new(rbac, &settings)
    }

    async fn asked(access: &RunAccess, identity: &'static str) -> Result<Vec<String>, AccessError> {
        access.services_for(&HeaderValue::from_static(identity)).await
    }

    #[test]
    fn what_rbac_says_counts_and_is_counted() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        metrics::with_local_recorder(&recorder, || {
            let access = access(Some(Arc::new(Echo)));
            let zero = recorder.handle().render();
            assert!(zero.contains("api_rbac_error_total 0"), "{zero}");
            assert!(zero.contains("api_rbac_rejected_total 0"), "{zero}");
            runtime.block_on(async {
                assert_eq!(asked(&access, "tasks").await, Ok(vec!["tasks".to_owned()]));
                for _ in 0..2 {
                    assert_eq!(asked(&access, "nothing").await, Err(AccessError::Forbidden));
                }
                for _ in 0..3 {
                    assert_eq!(asked(&access, "").await, Err(AccessError::Unknown));
                }
            });
        });
        let text = recorder.handle().render();
        assert!(text.contains("api_rbac_error_total 3"), "{text}");
        assert!(text.contains("api_rbac_rejected_total 2"), "{text}");
    }

    #[tokio::test]
    async fn without_rbac_every_service_is_shown() {
        assert_eq!(asked(&access(None), "anything").await, Ok(Vec::new()));
    }
}
