//! Waiting until a change of a key is in force where requests are answered.

use std::time::{Duration, Instant};

use dispatcher_wire::admin::Confirmations;

use crate::{
    client::Client,
    output::note,
    trouble::{Result, Trouble, status},
};

/// How long to wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits until every living instance has the version in force, and says how many have. None at all
/// is a failure.
pub(super) async fn wait(client: &Client, version: u64) -> Result<u8> {
    let until = Instant::now() + PATIENCE;
    let mut found = ask(client, version).await;
    while Instant::now() < until && !found.as_ref().is_ok_and(is_everywhere) {
        tokio::time::sleep(PAUSE).await;
        found = ask(client, version).await;
    }
    if let Err(trouble) = &found
        && trouble.is_refused()
    {
        note(&format!(
            "the dispatcher answers this key with: {}; was it the one that changed? Then that is \
             in force where it answered",
            trouble.message()
        ));
        return Ok(status::SUCCESS);
    }
    let found = found.map_err(|trouble| {
        Trouble::connection(format!("the change is made, and not confirmed: {}", trouble.message()))
            .hint("look again with dispatchctl keys list, and at the instances")
    })?;
    if found.instances.in_force == 0 && found.trackers.in_force == 0 {
        return Err(nobody(&found));
    }
    note(&told(&found));
    Ok(status::SUCCESS)
}

async fn ask(client: &Client, version: u64) -> Result<Confirmations> {
    let query = [("version".to_owned(), version.to_string())];
    client.get(&["auth", "confirmations"], &query).await
}

fn is_everywhere(found: &Confirmations) -> bool {
    found.instances.live > 0 && found.instances.in_force >= found.instances.live
}

fn told(found: &Confirmations) -> String {
    let of = |count: u64| if count == 1 { "instance" } else { "instances" };
    let (force, live) = (found.instances.in_force, found.instances.live);
    let all = format!("in force on {force} of {live} {}", of(live));
    if is_everywhere(found) {
        return all;
    }
    let tracker = if found.trackers.in_force > 0 { ", published by the tracker" } else { "" };
    format!("{all}{tracker}; the others have not said so within {}s", PATIENCE.as_secs())
}

fn nobody(found: &Confirmations) -> Trouble {
    Trouble::failed(format!(
        "the change is made, and nobody has confirmed it within {}s: it is in force on 0 of {} \
         instances, and no tracker has published it",
        PATIENCE.as_secs(),
        found.instances.live
    ))
    .hint(
        "the key may go on working until an instance sees the change; are the instances and the \
         auth-tracker running, and do they reach the database?",
    )
}

#[cfg(test)]
mod tests {
    use dispatcher_wire::admin::Confirmed;

    use super::*;

    fn found(live: u64, in_force: u64, trackers: u64) -> Confirmations {
        let trackers = Confirmed { live: 1, in_force: trackers };
        Confirmations { version: 2, instances: Confirmed { live, in_force }, trackers }
    }

    #[test]
    fn what_is_said_is_what_is_known() {
        assert_eq!(told(&found(4, 4, 1)), "in force on 4 of 4 instances");
        assert_eq!(told(&found(1, 1, 0)), "in force on 1 of 1 instance");
        let partly = told(&found(4, 3, 1));
        assert!(partly.contains("3 of 4") && partly.contains("tracker"), "{partly}");
        assert!(!is_everywhere(&found(0, 0, 1)));
        assert!(nobody(&found(4, 0, 0)).message().contains("0 of 4"));
    }
}
