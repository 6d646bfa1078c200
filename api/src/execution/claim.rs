//! Handing a run to a worker.

use dispatcher_wire::execution::{ClaimedRun, MAX_AT_A_TIME};
use dispatcher_worker::crash;
use uuid::Uuid;

use super::{
    Execution, ExecutionError, Parts,
    model::{ClaimRequest, ClaimedWork},
    now,
};
use crate::playbooks::address;

/// The most that is kept of a worker's own name, in bytes.
const MAX_CLAIMED_BY: usize = 255;

impl Execution {
    /// Claims the recipient's next run, if there is one and its worker holds fewer than it may. The claim is
    /// durable before it is answered; an answer that is lost is claimed again after the lease.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn claim(
        &self,
        recipient: Uuid,
        claimed_by: &str,
        at_a_time: u32,
    ) -> Result<Option<ClaimedRun>, ExecutionError> {
        self.seen(recipient).await?;
        let now = now();
        let request = ClaimRequest {
            recipient,
            claimed_by: shown(claimed_by),
            at_a_time: at_a_time.clamp(1, MAX_AT_A_TIME),
            claim: Uuid::new_v4(),
            now,
            lease_until: self.lease_until(now),
        };
        let claimed = self.parts.work.claim(&request).await?;
        Ok(claimed.map(|work| self.handed_out(work)))
    }

    fn handed_out(&self, work: ClaimedWork) -> ClaimedRun {
        crash::point("execution.claim.committed");
        let ClaimedWork { run_id, org_id, claim, attempt, correlation_id, name, .. } = work;
        let (deadline, has_inputs) = (work.deadline, work.has_inputs);
        let Parts { keyring, public_url, .. } = &self.parts;
        let url = address::sign(keyring, public_url, &org_id, &work.url, deadline);
        ClaimedRun { run_id, claim, attempt, correlation_id, name, url, deadline, has_inputs }
    }
}

/// A text that databases take and tables have room for.
fn shown(text: &str) -> String {
    let text = text.replace(char::is_control, "\u{FFFD}");
    text.get(..text.floor_char_boundary(MAX_CLAIMED_BY)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_name_is_cut_and_cleaned() {
        assert_eq!(shown("web-1 pid 7"), "web-1 pid 7");
        assert_eq!(shown("a\0b\n"), "a\u{FFFD}b\u{FFFD}");
        assert_eq!(shown(&"ä".repeat(200)).len(), 254);
    }
}
