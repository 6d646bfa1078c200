//! Handing out work: to one at a time, in order, again while nothing was started, never after.

use std::collections::BTreeMap;

use dispatcher_api::{
    execution::model::{ClaimRequest, Hold, MAX_CLAIM_ATTEMPTS, Waiting, WorkState},
    runs::model::{CancelOutcome, CancelRequest, NewRoute},
};
use dispatcher_wire::{RunStatus, execution::Doorbell};
use time::Duration;
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{
        LEASE, append, batch, claimed, create, detail, doorbell, finished, foreign_run,
        host_states, hosts, now, org, request, run, started, stats, status,
    },
};

/// The oldest first, with everything a worker needs; the next only when it is finished.
pub async fn one_run_per_recipient_oldest_first(subject: &Subject) {
    let (org, at, recipient) = (org(), now(), Uuid::new_v4());
    let mut runs: Vec<_> = (0..3).map(|_| run(&org)).collect();
    for (run, age) in runs.iter_mut().zip([2, 3, 1]) {
        (run.recipient, run.created_at) = (recipient, at - Duration::seconds(age));
    }
    create(&subject.stores, &runs).await;
    create(&subject.stores, &[foreign_run(&org), run(&org)]).await;
    for (nth, index) in [1, 0, 2].into_iter().enumerate() {
        let bell = doorbell(&subject.stores, recipient, at).await;
        assert_eq!((bell.work, bell.cancel), (true, vec![]), "before run {nth}");
        let hold = claimed(&subject.stores, &runs[index], at).await;
        let second = subject.stores.work.claim(&request(recipient, at)).await.unwrap();
        assert_eq!(second, None, "claimed work makes busy");
        assert!(!doorbell(&subject.stores, recipient, at).await.work);
        append(&subject.stores, hold, &batch(0, &[""], at)).await;
        let second = subject.stores.work.claim(&request(recipient, at)).await.unwrap();
        assert_eq!(second, None, "started work makes busy");
        finished(&subject.stores, hold, 1, stats(&[]), at).await;
    }
    assert_eq!(subject.stores.work.claim(&request(recipient, at)).await.unwrap(), None);
    assert!(!doorbell(&subject.stores, recipient, at).await.work);
}

/// Equal ages: by id.
pub async fn ties_by_id(subject: &Subject) {
    let (org, at, recipient) = (org(), now(), Uuid::new_v4());
    let mut runs: Vec<_> = (0..4).map(|_| run(&org)).collect();
    runs.iter_mut().for_each(|run| (run.recipient, run.created_at) = (recipient, at));
    create(&subject.stores, &runs).await;
    runs.sort_by_key(|run| run.id);
    for run in &runs {
        let hold = started(&subject.stores, run, at).await;
        finished(&subject.stores, hold, 1, stats(&[]), at).await;
    }
}

/// What is handed out says what there is.
pub async fn claimed_work_is_complete(subject: &Subject) {
    let at = now();
    let mut runs = [run(&org()), run(&org())];
    let inputs = serde_json::json!({"tags": ["a", "b\u{1F980}"], "check": true});
    runs[0].route =
        NewRoute::Worker { inputs: Some(inputs.clone()), sealed_secrets: Some(vec![0, 255, 7]) };
    runs[1].name = None;
    create(&subject.stores, &runs).await;
    for (run, has_inputs) in runs.iter().zip([true, false]) {
        let request = request(run.recipient, at);
        let work = subject.stores.work.claim(&request).await.unwrap().unwrap();
        assert_eq!((work.run_id, work.claim, work.attempt), (run.id, request.claim, 1));
        assert_eq!((&work.org_id, &work.name), (&run.org_id, &run.name));
        assert_eq!((&work.url, work.correlation_id), (&run.url, run.correlation_id));
        assert_eq!((work.deadline, work.has_inputs), (run.row().expires_at(), has_inputs));
        let hold = Hold { run_id: run.id, claim: request.claim, recipient: run.recipient };
        let stored = subject.stores.work.inputs(hold).await.unwrap().unwrap();
        assert_eq!(stored.inputs, has_inputs.then(|| inputs.clone()));
        assert_eq!(stored.sealed_secrets, has_inputs.then(|| vec![0, 255, 7]));
        let nil = Uuid::nil();
        for foreign in [
            Hold { claim: nil, ..hold },
            Hold { recipient: nil, ..hold },
            Hold { run_id: nil, ..hold },
        ] {
            assert!(subject.stores.work.inputs(foreign).await.unwrap().is_none());
        }
    }
}

/// Many at once for the same work: one gets it.
pub async fn sixteen_at_once(subject: &Subject) {
    let (org, at) = (org(), now());
    let recipients = [Uuid::new_v4(), Uuid::new_v4()];
    let mut runs: Vec<_> = (0..6).map(|_| run(&org)).collect();
    for (index, run) in runs.iter_mut().enumerate() {
        run.recipient = recipients[index % 2];
    }
    create(&subject.stores, &runs).await;
    for round in 1..=3 {
        let at = at + LEASE * round;
        let tasks: Vec<_> = (0..16)
            .map(|index| {
                let work = subject.stores.work.clone();
                let request = request(recipients[index % 2], at);
                tokio::spawn(async move { work.claim(&request).await.unwrap() })
            })
            .collect();
        let mut handed_out = Vec::new();
        for task in tasks {
            handed_out.extend(task.await.unwrap());
        }
        assert_eq!(handed_out.len(), 2, "one per recipient");
        assert!(handed_out.iter().all(|work| work.attempt == round));
    }
}

/// A request whose answer was lost may be repeated: the same answer, no other attempt.
pub async fn repeated_requests_get_the_same_answer(subject: &Subject) {
    let at = now();
    let mut runs = [run(&org()), run(&org())];
    runs[1].recipient = runs[0].recipient;
    create(&subject.stores, &runs).await;
    let request = request(runs[0].recipient, at);
    let first = subject.stores.work.claim(&request).await.unwrap().unwrap();
    let again = subject.stores.work.claim(&request).await.unwrap().unwrap();
    assert_eq!(again, first);
    assert_eq!(again.attempt, 1);
    let hold = Hold { run_id: first.run_id, claim: first.claim, recipient: request.recipient };
    append(&subject.stores, hold, &batch(0, &[""], at)).await;
    let started = subject.stores.work.claim(&request).await.unwrap();
    assert_eq!(started, None, "what was started is handed out to nobody");
}

/// A lease that is over frees work that was not started, at its very moment.
pub async fn leases_end_before_the_start(subject: &Subject) {
    let at = now();
    let run = run(&org());
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let first = claimed(&subject.stores, &run, at).await;
    let moment = Duration::microseconds(1);
    let early = request(run.recipient, at + LEASE - moment);
    assert_eq!(subject.stores.work.claim(&early).await.unwrap(), None);
    let on_time = request(run.recipient, at + LEASE);
    assert!(doorbell(&subject.stores, run.recipient, at + LEASE).await.work);
    let again = subject.stores.work.claim(&on_time).await.unwrap().unwrap();
    assert_eq!((again.run_id, again.attempt), (run.id, 2));
    let lost = subject.stores.work.append(first, &batch(0, &["x"], at)).await.unwrap();
    assert_eq!(lost, dispatcher_api::execution::model::AppendOutcome::NotYours);
    assert!(subject.stores.work.inputs(first).await.unwrap().is_none());
}

/// An empty batch renews the lease.
pub async fn empty_batches_renew(subject: &Subject) {
    let at = now();
    let run = run(&org());
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hold = claimed(&subject.stores, &run, at).await;
    let half = at + LEASE / 2;
    assert_eq!(append(&subject.stores, hold, &batch(0, &[], half)).await, (0, false));
    let late = ClaimRequest { now: at + LEASE, ..request(run.recipient, at) };
    assert_eq!(subject.stores.work.claim(&late).await.unwrap(), None);
    assert_eq!(detail(&subject.stores, &run).await.work.unwrap().state, WorkState::Claimed);
    assert!(
        subject.stores.work.claim(&request(run.recipient, half + LEASE)).await.unwrap().is_some()
    );
}

/// What was started is never handed out again, however long its worker is silent.
pub async fn started_work_is_never_handed_out_again(subject: &Subject) {
    let at = now();
    let mut runs = [run(&org()), run(&org())];
    runs[1].recipient = runs[0].recipient;
    runs[1].timeout = 7200;
    runs[1].created_at = runs[0].created_at + Duration::seconds(1);
    create(&subject.stores, &runs).await;
    started(&subject.stores, &runs[0], at).await;
    for later in [LEASE, LEASE * 5, Duration::minutes(50)] {
        let claim = request(runs[0].recipient, at + later);
        assert_eq!(subject.stores.work.claim(&claim).await.unwrap(), None, "after {later}");
    }
    // Its time is over and so is its lease: the recipient is free for the next.
    let end = runs[0].row().expires_at() + LEASE;
    assert!(doorbell(&subject.stores, runs[0].recipient, end).await.work);
    claimed(&subject.stores, &runs[1], end).await;
}

/// A worker that still renews keeps its recipient busy beyond the run's time.
pub async fn a_late_worker_stays_busy(subject: &Subject) {
    let mut runs = [run(&org()), run(&org())];
    runs[1].recipient = runs[0].recipient;
    runs[1].timeout = 7200;
    runs[1].created_at = runs[0].created_at + Duration::seconds(1);
    create(&subject.stores, &runs).await;
    let end = runs[0].row().expires_at();
    let before = end - Duration::seconds(1);
    let hold = started(&subject.stores, &runs[0], before).await;
    subject.stores.upkeep.expire(end, 10).await.unwrap();
    assert_eq!(subject.stores.work.claim(&request(hold.recipient, end)).await.unwrap(), None);
    assert_eq!(append(&subject.stores, hold, &batch(1, &[], end)).await, (1, true));
    let renewed = end + LEASE - Duration::seconds(1);
    assert_eq!(subject.stores.work.claim(&request(hold.recipient, renewed)).await.unwrap(), None);
    claimed(&subject.stores, &runs[1], end + LEASE).await;
}

/// Work that is handed out again and again without a start is given up, and the next has its turn.
pub async fn five_attempts_then_failed(subject: &Subject) {
    let at = now();
    let mut runs = [run(&org()), run(&org())];
    runs[0].hosts = hosts(&["a"]);
    runs[1].recipient = runs[0].recipient;
    runs[1].created_at = runs[0].created_at + Duration::seconds(1);
    create(&subject.stores, &runs).await;
    for attempt in 1..=MAX_CLAIM_ATTEMPTS {
        let claim = request(runs[0].recipient, at + LEASE * attempt);
        let work = subject.stores.work.claim(&claim).await.unwrap().unwrap();
        assert_eq!((work.run_id, work.attempt), (runs[0].id, attempt));
    }
    let end = at + LEASE * (MAX_CLAIM_ATTEMPTS + 1);
    claimed(&subject.stores, &runs[1], end).await;
    let detail = detail(&subject.stores, &runs[0]).await;
    assert_eq!((detail.run.status, detail.run.updated_at), (RunStatus::Failure, end));
    assert!(detail.error.is_some(), "it says why");
    let failed = ("a".to_owned(), RunStatus::Failure);
    assert_eq!(host_states(&subject.stores, &runs[0]).await, [failed]);
    let told = [
        "run create running",
        "run update failure",
        "run_host create running",
        "run_host update failure",
    ];
    assert_eq!(subject.told(runs[0].id).await, told);
}

/// Runs whose time is over, and runs that are final, are not handed out.
pub async fn only_runs_that_run(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut over = run(&org);
    (over.created_at, over.timeout) = (at - Duration::seconds(5), 5);
    let ended = run(&org);
    create(&subject.stores, &[over.clone(), ended.clone()]).await;
    let (run_id, org_id) = (ended.id, org.clone());
    let cancel = CancelRequest { run_id, org_id, principal: "somebody".to_owned() };
    let canceled = subject.stores.runs.cancel(&[cancel], at, None).await.unwrap();
    assert_eq!(canceled, [CancelOutcome::Canceled]);
    for run in [&over, &ended] {
        assert!(!doorbell(&subject.stores, run.recipient, at).await.work);
        let claim = request(run.recipient, at);
        assert_eq!(subject.stores.work.claim(&claim).await.unwrap(), None);
    }
    assert_eq!(status(&subject.stores, &over).await, RunStatus::Running);
    let unknown = request(Uuid::new_v4(), at);
    assert_eq!(subject.stores.work.claim(&unknown).await.unwrap(), None);
}

/// A waiting run says which other run its recipient is busy with.
pub async fn busy_with(subject: &Subject) {
    let at = now();
    let mut runs = [run(&org()), run(&org())];
    runs[1].recipient = runs[0].recipient;
    runs[1].created_at = runs[0].created_at + Duration::seconds(1);
    runs[1].org_id = runs[0].org_id.clone();
    create(&subject.stores, &runs).await;
    let view = |index: usize| detail(&subject.stores, &runs[index]);
    assert_eq!(view(1).await.work.unwrap().busy_with, None);
    let hold = started(&subject.stores, &runs[0], at).await;
    assert_eq!(view(1).await.work.unwrap().busy_with, Some(runs[0].id));
    assert_eq!(view(0).await.work.unwrap().busy_with, None);
    assert_eq!(view(0).await.work.unwrap().state, WorkState::Started);
    finished(&subject.stores, hold, 1, stats(&[]), at).await;
    assert_eq!(view(1).await.work.unwrap().busy_with, None);
    assert_eq!(view(1).await.work.unwrap().state, WorkState::Pending);
}

/// Asked for many at once, those are named whose bell rings, each with its own reason.
pub async fn bells_of_many(subject: &Subject) {
    let (org, at) = (org(), now());
    let [mut idle, pending, busy, to_end] = [(); 4].map(|()| run(&org));
    let mut queued = run(&org);
    queued.recipient = busy.recipient;
    queued.created_at = busy.created_at + Duration::microseconds(1);
    let runs = [pending.clone(), busy.clone(), queued.clone(), to_end.clone()];
    create(&subject.stores, &runs).await;
    idle.recipient = Uuid::new_v4();
    claimed(&subject.stores, &busy, at).await;
    claimed(&subject.stores, &to_end, at).await;
    let (run_id, org_id) = (to_end.id, org.clone());
    let cancel = CancelRequest { run_id, org_id, principal: "somebody".to_owned() };
    subject.stores.runs.cancel(&[cancel], at, None).await.unwrap();
    let bells = async |at_a_time| {
        let all = [&idle, &pending, &busy, &to_end, &pending];
        let waiting = all.map(|run| Waiting { recipient: run.recipient, at_a_time });
        subject.stores.work.doorbells(&waiting, at).await.unwrap()
    };
    let work = Doorbell { work: true, cancel: Vec::new() };
    let end = Doorbell { work: false, cancel: vec![to_end.id] };
    let expected = BTreeMap::from([(pending.recipient, work.clone()), (to_end.recipient, end)]);
    assert_eq!(bells(1).await, expected);
    let mut expected = expected;
    expected.insert(busy.recipient, work);
    assert_eq!(bells(2).await, expected, "busy with one of two");
    assert_eq!(subject.stores.work.doorbells(&[], at).await.unwrap(), BTreeMap::new());
}

/// As many at a time as the request allows, oldest first; a smaller number later takes nothing.
pub async fn as_many_as_the_worker_may_hold(subject: &Subject) {
    let (org, at, recipient) = (org(), now(), Uuid::new_v4());
    let mut runs: Vec<_> = (0..4).map(|_| run(&org)).collect();
    for (run, age) in runs.iter_mut().zip([4, 3, 2, 1]) {
        (run.recipient, run.created_at) = (recipient, at - Duration::seconds(age));
    }
    create(&subject.stores, &runs).await;
    let claim = async |at_a_time| {
        let request = ClaimRequest { at_a_time, ..request(recipient, at) };
        let claimed = subject.stores.work.claim(&request).await.unwrap();
        claimed.map(|work| Hold { run_id: work.run_id, claim: work.claim, recipient })
    };
    let first = claim(1).await.unwrap();
    assert_eq!(claim(1).await, None);
    let second = claim(3).await.unwrap();
    append(&subject.stores, second, &batch(0, &[""], at)).await;
    let third = claim(3).await.unwrap();
    assert_eq!([first.run_id, second.run_id, third.run_id], [0, 1, 2].map(|n| runs[n].id));
    assert_eq!(claim(3).await, None, "claimed and started work count alike");
    assert_eq!(claim(2).await, None);
    finished(&subject.stores, second, 1, stats(&[]), at).await;
    assert_eq!(claim(3).await.unwrap().run_id, runs[3].id);
}
