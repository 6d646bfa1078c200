//! Output that no sane playbook prints, through the real process. ansible-runner is played by a
//! script here: Ansible itself needs minutes and gigabytes for 200 MiB in one task.

use std::{
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use dispatcher_tests::process::{PATIENCE, Service};
use dispatcher_wire::RunStatus;
use serde_json::json;

const MIB: u64 = 1024 * 1024;

/// Prints the events of one task with 200 MiB of output, NUL, half a surrogate and bytes that are
/// no UTF-8 among it.
const RUNNER: &str = r#"#!/usr/bin/env python3
import json, sys
if "--version" in sys.argv:
    print("2.4.3")
    sys.exit()
out = sys.stdout.buffer
def event(counter, name, stdout, data):
    members = {"uuid": str(counter), "counter": counter, "event": name, "event_data": data}
    head = json.dumps(dict(members, start_line=0, end_line=1))[:-1]
    out.write(head.encode() + b', "stdout": "' + stdout + b'"}\n')
event(1, "playbook_on_start", b"", {"playbook": "x.yml"})
line = b"x" * 98 + b"\\r\\n"
odd = b"\\u0000 \\ud800 \xff\xfe\\r\\n"
event(2, "runner_on_ok", odd + line * (200 * 1024 * 1024 // 100), {"host": "localhost", "res": {"stdout": "y" * 1000000}})
event(3, "playbook_on_stats", b"", {"processed": {"localhost": 1}, "failures": {}, "dark": {}})
"#;

fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn size_of(directory: &std::path::Path) -> u64 {
    let entries = walkdir::WalkDir::new(directory).into_iter().filter_map(Result::ok);
    entries.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
}

#[tokio::test]
async fn two_hundred_mib_in_one_task_are_stored_once_and_never_held_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let runner = directory.path().join("ansible-runner");
    for program in ["ansible-runner", "ansible-playbook"] {
        let program = directory.path().join(program);
        std::fs::write(&program, RUNNER).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let runner = runner.to_str().unwrap();
    let service = Service::start_with(&data, &[("ANSIBLE_RUNNER", runner)]).await.unwrap();
    let url = service.put_playbook("loud", "- hosts: all\n").await.unwrap();
    let id = service.dispatch(&service.item(&url, &json!({})), None).await.unwrap();
    // So much takes a slow machine minutes.
    let log = tokio::time::timeout(5 * PATIENCE, service.log(id, true)).await.unwrap().unwrap();
    let run = service.run(id).await.unwrap();

    assert_eq!(run.status, RunStatus::Success, "{:?}", run.error);
    let printed = log.len() as u64;
    assert!((200 * MIB * 98 / 100..202 * MIB).contains(&printed), "{printed} bytes");
    assert_eq!(run.output_bytes, printed);
    assert!(log.starts_with("\n\u{fffd}") && !log.contains('\0'), "{:?}", log.get(..20));
    let peak = peak_memory(service.pid().unwrap()) / MIB;
    assert!(peak < 150, "{peak} MiB of memory");
    // The worker removes what it had of it after the end.
    let since = Instant::now();
    while size_of(&data) / MIB >= 230 {
        assert!(since.elapsed() < PATIENCE, "{} MiB stored", size_of(&data) / MIB);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
