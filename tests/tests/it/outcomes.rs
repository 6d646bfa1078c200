//! How runs end: real playbooks, executed by ansible-runner on the embedded worker, read back
//! through the API.

use std::time::{Duration, Instant};

use dispatcher_tests::{
    home::Home,
    process::{BASE, Service},
};
use dispatcher_wire::{
    RunStatus,
    view::{Page, RunHostView, RunView},
};
use serde_json::json;
use uuid::Uuid;

/// A playbook of one play with these tasks (YAML list items at column 0).
pub(crate) fn play(hosts: &str, tasks: &str) -> String {
    let tasks: String = tasks.lines().map(|line| format!("    {line}\n")).collect();
    format!("- hosts: {hosts}\n  gather_facts: false\n  tasks:\n{tasks}")
}

/// A service, and what it takes to see runs through.
pub(crate) struct Bench {
    pub(crate) service: Service,
    _home: Home,
}

impl Bench {
    async fn start() -> Self {
        Self::at(Home::standalone().unwrap(), &[]).await
    }

    pub(crate) async fn at(home: Home, variables: &[(&str, &str)]) -> Self {
        Self { service: home.start_with(variables).await.unwrap(), _home: home }
    }

    pub(crate) async fn dispatch(&self, playbook: String, more: serde_json::Value) -> Uuid {
        let url = self.service.put_playbook("test", playbook).await.unwrap();
        let item = self.service.item(&url, &more);
        self.service.dispatch(&item, None).await.unwrap()
    }

    pub(crate) async fn ended(
        &self,
        playbook: String,
        more: serde_json::Value,
    ) -> (RunView, String) {
        let id = self.dispatch(playbook, more).await;
        self.service.ended(id).await.unwrap()
    }

    pub(crate) async fn hosts(&self, id: Uuid) -> Vec<(String, RunStatus, String)> {
        let path = format!("{BASE}/run_hosts?filter[run][id]={id}&fields[data]=host,status,stdout");
        let page: Page<RunHostView> = self.service.get(&path).await.unwrap();
        let of = |host: RunHostView| {
            (host.host.unwrap(), host.status.unwrap(), host.stdout.unwrap_or_default())
        };
        let mut hosts: Vec<_> = page.data.into_iter().map(of).collect();
        hosts.sort_by(|a, b| a.0.cmp(&b.0));
        hosts
    }

    /// Waits until the run has printed this.
    pub(crate) async fn printed(&self, id: Uuid, text: &str) {
        let since = Instant::now();
        while !self.service.log(id, false).await.unwrap().contains(text) {
            assert!(since.elapsed() < Duration::from_secs(180), "{text:?} is never printed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn success_failure_and_what_ansible_forgives() {
    let bench = Bench::start().await;
    let (run, log) = bench.ended(play("all", "- ansible.builtin.ping:"), json!({})).await;
    assert_eq!(run.status, RunStatus::Success, "{log}");
    assert!(log.contains("TASK [ansible.builtin.ping]") && log.contains("PLAY RECAP"), "{log}");
    assert!(!log.contains('\r') && !log.contains('\u{1b}'), "{log:?}");
    let hosts = bench.hosts(run.id).await;
    assert_eq!(hosts.len(), 1, "{hosts:?}");
    assert_eq!((hosts[0].0.as_str(), hosts[0].1), ("localhost", RunStatus::Success));
    assert_eq!(hosts[0].2, log, "every host has the whole log");

    let (run, log) =
        bench.ended(play("all", "- ansible.builtin.command: /bin/false"), json!({})).await;
    assert_eq!(run.status, RunStatus::Failure, "{log}");
    assert_eq!(bench.hosts(run.id).await[0].1, RunStatus::Failure);

    let ignored = "- ansible.builtin.command: /bin/false\n  ignore_errors: true";
    let (run, log) = bench.ended(play("all", ignored), json!({})).await;
    assert_eq!(run.status, RunStatus::Success, "{log}");

    let rescued = "- block:\n    - ansible.builtin.command: /bin/false\n  rescue:\n    - ansible.builtin.ping:";
    let (run, log) = bench.ended(play("all", rescued), json!({})).await;
    assert_eq!(run.status, RunStatus::Success, "{log}");
}

#[tokio::test]
async fn unreachable_hosts_fail_and_no_hosts_matched_is_a_success() {
    let bench = Bench::start().await;
    let inventory = "good ansible_connection=local\n\
                     gone ansible_host=127.0.0.1 ansible_port=1 ansible_ssh_common_args='-o ConnectTimeout=2'\n";
    let inputs = json!({ "inputs": { "inventory": inventory } });
    let (run, log) = bench.ended(play("all", "- ansible.builtin.raw: echo here"), inputs).await;
    assert_eq!(run.status, RunStatus::Failure, "{log}");
    assert!(log.contains("UNREACHABLE"), "{log}");
    let states: Vec<_> =
        bench.hosts(run.id).await.into_iter().map(|host| (host.0, host.1)).collect();
    assert_eq!(
        states,
        [("gone".to_owned(), RunStatus::Failure), ("good".to_owned(), RunStatus::Success)]
    );

    let (run, log) = bench.ended(play("nobody", "- ansible.builtin.ping:"), json!({})).await;
    assert_eq!(run.status, RunStatus::Success, "{log}");
    assert!(log.contains("no hosts matched"), "{log}");
}

#[tokio::test]
async fn playbooks_that_cannot_be_run_say_why() {
    let bench = Bench::start().await;
    let (run, log) = bench.ended("- hosts: all\n  tasks: [unclosed\n".to_owned(), json!({})).await;
    assert_eq!(run.status, RunStatus::Failure, "{log}");
    let error = run.error.unwrap();
    assert_eq!(error.code, "ANSIBLE_YAML_VALIDATION_FAILED", "{}", error.details);
    // What Ansible printed stands in the log once, and in the details.
    let told = "ansible-runner ended with status 4 before the playbook did";
    let (first, printed) = error.details.split_once(":\n").unwrap();
    assert_eq!(first, told);
    assert_eq!(log.matches(printed.lines().next().unwrap()).count(), 1, "{log}");
    assert!(log.ends_with(&format!("\n{told}\n")), "{log}");

    let missing = format!("{}/nowhere.yml?signature=hidden", bench.service.url);
    let item = bench.service.item(&missing, &json!({}));
    let id = bench.service.dispatch(&item, None).await.unwrap();
    let (run, log) = bench.service.ended(id).await.unwrap();
    let error = run.error.unwrap();
    assert_eq!(run.status, RunStatus::Failure);
    assert_eq!(log, format!("{}\n", error.details), "it ends in a line end");
    assert!(
        error.details.contains("404") && error.details.contains("/nowhere.yml"),
        "{}",
        error.details
    );
    assert!(!error.details.contains("hidden"), "{}", error.details);
}

#[tokio::test]
async fn inputs_reach_ansible_and_secrets_reach_nobody_else() {
    let bench = Bench::start().await;
    let tasks = "- name: greet\n  ansible.builtin.debug:\n    msg: \"{{ greeting }} {{ token | length }}\"\n  \
                 tags: [greet]\n\
                 - name: never\n  ansible.builtin.command: /bin/false\n  tags: [other]";
    let inputs = json!({ "inputs": {
        "extra_vars": { "greeting": "bonjour" }, "tags": ["greet"], "secrets": { "token": "s3cr3t-value" },
    }});
    let (run, log) = bench.ended(play("all", tasks), inputs).await;
    assert_eq!(run.status, RunStatus::Success, "{log}");
    assert!(log.contains("bonjour 12"), "{log}");
    let view = serde_json::to_string(&run).unwrap();
    assert!(!view.contains("s3cr3t-value"));
    let kept = walkdir::WalkDir::new(&bench.service.directory)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .filter(|entry| {
            let content = std::fs::read(entry.path()).unwrap_or_default();
            content.windows(12).any(|window| window == b"s3cr3t-value")
        });
    assert_eq!(kept.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test]
async fn cancel_ends_the_whole_tree_at_once() {
    let bench = Bench::start().await;
    let tasks = "- name: detach\n  ansible.builtin.command: sleep 3171\n  async: 4000\n  poll: 0\n\
                 - name: busy\n  ansible.builtin.command: sleep 3172";
    let id = bench.dispatch(play("all", tasks), json!({})).await;
    bench.printed(id, "TASK [busy]").await;
    let waiting = bench.dispatch(play("all", "- ansible.builtin.ping:"), json!({})).await;
    let reason = bench.service.run(waiting).await.unwrap().pending_reason.unwrap();
    assert!(reason.contains(&id.to_string()), "{reason}");

    let other = bench.dispatch(play("all", "- ansible.builtin.ping:"), json!({})).await;
    assert_eq!(bench.service.cancel(other).await.unwrap(), 202);
    assert_eq!(bench.service.run(other).await.unwrap().status, RunStatus::Canceled);

    assert_eq!(bench.service.cancel(id).await.unwrap(), 202);
    let (run, log) = bench.service.ended(id).await.unwrap();
    assert_eq!(run.status, RunStatus::Canceled, "{log}");
    assert_eq!(run.error.unwrap().code, "DISPATCHER_CANCELED");
    assert!(log.ends_with("\nthe run was canceled\n"), "{log}");
    assert_eq!(sleepers(&["3171", "3172"]), [""; 0], "left running");
    assert_eq!(bench.service.cancel(id).await.unwrap(), 409);
    let (run, log) = bench.service.ended(waiting).await.unwrap();
    assert_eq!(run.status, RunStatus::Success, "{log}");
    assert!(bench.service.log(other, true).await.unwrap().is_empty());
}

#[tokio::test]
async fn time_is_up_while_running_and_while_waiting() {
    let bench = Bench::start().await;
    let long = play("all", "- name: busy\n  ansible.builtin.command: sleep 3173");
    let running = bench.dispatch(long, json!({ "timeout": 6 })).await;
    let marker = bench.service.directory.join("must-not-exist");
    let touch = format!("- ansible.builtin.command: touch {}", marker.display());
    let waiting = bench.dispatch(play("all", &touch), json!({ "timeout": 2 })).await;

    let (run, log) = bench.service.ended(waiting).await.unwrap();
    assert_eq!(run.status, RunStatus::Timeout, "{log}");
    let (run, log) = bench.service.ended(running).await.unwrap();
    assert_eq!(run.status, RunStatus::Timeout, "{log}");
    // The next run starts only when everything of this one has ended.
    let (run, log) = bench.ended(play("all", "- ansible.builtin.ping:"), json!({})).await;
    assert_eq!(run.status, RunStatus::Success, "{log}");
    assert_eq!(sleepers(&["3173"]), [""; 0], "left running");
    assert!(!marker.exists(), "an expired run was started");
}

/// Command lines of processes that sleep for one of these times.
pub(crate) fn sleepers(times: &[&str]) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok())
        .map(|line| line.replace('\0', " ").trim().to_owned())
        .filter(|line| times.iter().any(|time| line.ends_with(&format!("sleep {time}"))))
        .collect()
}
