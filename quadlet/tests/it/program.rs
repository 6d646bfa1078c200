//! The program itself: `render`, `check`, `variables`.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn quadletgen(deploy: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("deploy.yml");
    fs::write(&file, deploy).unwrap();
    Command::new(env!("CARGO_BIN_EXE_quadletgen"))
        .arg("--deploy")
        .arg(file)
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn render_writes_below_a_directory_as_it_would_lie_on_the_host() {
    let out = tempfile::tempdir().unwrap();
    let below = out.path().display().to_string();
    let output = quadletgen("dispatcher_api_container_scale: 64\n", &["render", "--out", &below]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let quadlets = out.path().join("etc/containers/systemd");
    let link = fs::read_link(quadlets.join("dispatcher-api@63.container")).unwrap();
    assert_eq!(link, Path::new("dispatcher-api@.container"));
    assert!(!quadlets.join("dispatcher-api@64.container").exists());
    for line in text(&output.stdout).lines() {
        assert!(Path::new(line).symlink_metadata().is_ok(), "{line}");
    }
}

#[test]
fn check_does_what_it_can_and_says_loudly_what_it_cannot() {
    let output = quadletgen("", &["check"]);
    let said = text(&output.stdout);
    let has_generator = ["/usr/libexec/podman/quadlet", "/usr/lib/podman/quadlet"]
        .iter()
        .any(|path| Path::new(path).exists());
    let expected = if has_generator { "ok: Podman" } else { "NOT CHECKED: Podman's generator" };
    assert!(said.contains(expected), "{said}");
    assert!(said.contains("ok: units:"), "{said}");
    let output = quadletgen("dispatcher_api_container_options: ['ReadOnly=maybe']", &["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("ReadOnly is maybe"));
}

#[test]
fn mistakes_end_the_program_with_all_of_them() {
    let output = quadletgen("a: 1\nstore_engine: nfs\n", &["render"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("a is no variable") && said.contains("allowed is file, s3"), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn variables_are_listed() {
    let output = quadletgen("", &["variables"]);
    let said = text(&output.stdout);
    assert!(said.contains("dispatcher_api_container_scale (a whole number; 4)\n"), "{said}");
}
