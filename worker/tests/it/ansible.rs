//! Real playbooks with the real ansible-runner.

use std::collections::BTreeMap;

use dispatcher_wire::{RunStatus, inputs::RunInputs};

use crate::{
    dispatcher::Known,
    player::{Player, eventually, processes_of},
};

async fn play(player: &Player, playbook: &str, inputs: Option<RunInputs>) -> Known {
    let url = player.web.playbook("/play.yml", playbook);
    let run_id = player.dispatcher.dispatch(&url, inputs, 600);
    player.dispatcher.end_of(run_id).await
}

async fn started() -> Player {
    let mut player = Player::new().await;
    if let Err(told) = dispatcher_worker::ansible::preflight(None).await {
        panic!("{told}");
    }
    player.start();
    player
}

const TWO_HOSTS: &str = "
[all]
a
b
[all:vars]
ansible_connection=local
ansible_python_interpreter='{{ ansible_playbook_python }}'
";

const GREETING: &str = "
- hosts: all
  gather_facts: false
  tasks:
  - name: greet
    debug: {msg: 'hello {{ name | default(\"nobody\") }}'}
  - name: fail and go on
    command: /bin/false
    ignore_errors: true
  - block:
    - command: /bin/false
    rescue:
    - debug: {msg: rescued}
";

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_those_of_the_playbook() {
    let player = started().await;
    let known = play(&player, GREETING, None).await;
    assert_eq!(known.finished, Some(RunStatus::Success), "{}", known.log());
    let log = known.log();
    assert!(log.contains("\nTASK [greet] ***") && log.contains("hello nobody"), "{log}");
    assert!(!log.contains('\r') && !log.contains('\u{1b}'), "{log:?}");
    assert!(known.records.iter().any(|event| event.host() == Some("localhost")));

    for (playbook, inputs, status, code) in [
        (
            "- hosts: all\n  gather_facts: false\n  tasks: [{command: /bin/false}]",
            None,
            RunStatus::Failure,
            None,
        ),
        ("- hosts: nobody", None, RunStatus::Success, None),
        (
            "- hosts: all\n  gather_facts: false\n  tasks: [{ping: }]",
            Some(RunInputs {
                inventory: Some("away ansible_host=127.0.0.1 ansible_port=1".to_owned()),
                ..RunInputs::default()
            }),
            RunStatus::Failure,
            None,
        ),
        ("- hosts: [\n", None, RunStatus::Failure, Some("ANSIBLE_YAML_VALIDATION_FAILED")),
        ("hello: world", None, RunStatus::Failure, Some("ANSIBLE_YAML_VALIDATION_FAILED")),
    ] {
        let known = play(&player, playbook, inputs).await;
        assert_eq!(known.finished, Some(status), "{playbook}: {}", known.log());
        assert_eq!(known.error().map(|(code, _)| code).as_deref(), code, "{playbook}");
    }
    player.nothing_on_disk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_reach_ansible_and_secrets_nobody_else() {
    let player = started().await;
    let playbook = "
- hosts: all
  gather_facts: false
  tasks:
  - debug: {msg: 'v={{ v }} templated={{ t }} check={{ ansible_check_mode }} on {{ inventory_hostname }}'}
    tags: [wanted]
  - debug: {msg: NOT WANTED}
    tags: [other]
  - debug: {msg: 'length={{ token | length }} braces={{ \"{\" ~ \"{\" in token }}'}
    tags: [wanted]
  - shell: until [ -e WAITED_FOR ]; do sleep 0.1; done
    check_mode: false
    tags: [wanted]
";
    let waited_for = player.root.path().join("waited-for");
    let task = format!("until [ -e {} ]", waited_for.display());
    let playbook = playbook.replace("until [ -e WAITED_FOR ]", &task);
    let secret = "s3cr3t-{{ v }}-\u{7f}'\"";
    let url = player.web.playbook("/play.yml", &playbook);
    let inputs = RunInputs {
        extra_vars: serde_json::from_str(r#"{"v": "one", "t": "{{ v }}!"}"#).unwrap(),
        inventory: Some(TWO_HOSTS.to_owned()),
        limit: Some("a".to_owned()),
        tags: vec!["wanted".to_owned()],
        check: true,
        secrets: Some(BTreeMap::from([("token".to_owned(), secret.into())])),
        ..RunInputs::default()
    };
    let run_id = player.dispatcher.dispatch(&url, Some(inputs), 600);
    eventually("it waits", || {
        assert!(
            player.dispatcher.get(run_id).finished.is_none(),
            "{}",
            player.dispatcher.get(run_id).log()
        );
        processes_of(run_id).iter().any(|line| line.contains(&task))
    })
    .await;
    // Neither in the arguments nor in the environment of any process, nor in what the runner
    // leaves; only in the one file that is meant for it.
    let told: String = visible(run_id);
    assert!(!told.contains("s3cr3t"), "{told}");
    let private = player.config.work_dir.join(format!("runs/{run_id}/private"));
    let holders = files_with(&private, b"s3cr3t");
    assert_eq!(holders, [private.join("env/extravars")]);
    std::fs::write(waited_for, "").unwrap();

    let known = player.dispatcher.end_of(run_id).await;
    let log = known.log();
    assert!(log.contains("v=one templated=one! check=True on a"), "{log}");
    assert!(log.contains(&format!("length={} braces=True", secret.chars().count())), "{log}");
    assert!(!log.contains("NOT WANTED") && !log.contains("on b"), "{log}");
    assert_eq!(known.finished, Some(RunStatus::Success));
    assert!(!serde_json::to_string(&known.records).unwrap().contains("s3cr3t"));
}

/// Arguments and environments of every process of a run.
fn visible(run_id: uuid::Uuid) -> String {
    let mut told = String::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        if environment.contains(&run_id.to_string()) {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            told += &format!("{}\n{environment}\n", String::from_utf8_lossy(&line));
        }
    }
    assert!(told.contains("ansible-playbook"), "{told}");
    told
}

fn files_with(folder: &std::path::Path, needle: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(needle.len()).any(|window| window == needle)
        {
            found.push(path);
        }
    }
    found
}

const ASYNC: &str = "
- hosts: all
  gather_facts: false
  tasks:
  - command: sleep 1000
    async: 2000
    poll: 0
";

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_run_leaves_neither_its_task_nor_its_async_tasks() {
    let player = started().await;
    let playbook = format!("{ASYNC}  - command: sleep 1001\n");
    let url = player.web.playbook("/play.yml", &playbook);
    let run_id = player.dispatcher.dispatch(&url, None, 600);
    eventually("it sleeps", || {
        let all = processes_of(run_id);
        ["sleep 1000", "sleep 1001"].iter().all(|part| all.iter().any(|line| line.contains(part)))
    })
    .await;
    player.dispatcher.cancel(run_id);
    let known = player.dispatcher.end_of(run_id).await;
    assert_eq!(known.finished, Some(RunStatus::Canceled), "{}", known.log());
    assert_eq!(processes_of(run_id), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn async_tasks_end_with_their_run() {
    let player = started().await;
    let known = play(&player, ASYNC, None).await;
    assert_eq!(known.finished, Some(RunStatus::Success), "{}", known.log());
    assert_eq!(processes_of(known.run.run_id), Vec::<String>::new());
}
