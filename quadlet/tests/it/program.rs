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
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stdout).contains("ReadOnly is maybe"));
}

#[test]
fn mistakes_end_the_program_with_all_of_them() {
    let output = quadletgen("a: 1\nstore_engine: nfs\n", &["render"]);
    assert_eq!(output.status.code(), Some(2));
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

/// A user's home, as `--user` sees it.
struct Home(tempfile::TempDir);

impl Home {
    fn new(deploy: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.write(".config/dispatcher-api/deploy.yml", deploy);
        home
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The status, and all that is said.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_quadletgen"))
            .env("HOME", self.0.path())
            .env("XDG_RUNTIME_DIR", self.0.path().join("run"))
            .arg("--user")
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
    }
}

#[test]
fn diff_tells_differences_from_what_is_in_the_way_and_from_what_is_broken() {
    let home = Home::new("dispatcher_api_container_scale: 1\n");
    let (status, said) = home.run(&["diff"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("+++ ") && said.contains("dispatcher-api@0.container"), "{said}");
    home.write(".config/containers/systemd/dispatcher-api@.container", "theirs");
    let (status, said) = home.run(&["diff"]);
    assert!(status == Some(4) && said.contains("dispatcher-api@.container"), "{status:?} {said}");
    home.write(".local/share/dispatcher-api/manifest.json", "{");
    let (status, said) = home.run(&["diff"]);
    assert!(status == Some(1) && said.contains("manifest.json is broken"), "{status:?} {said}");
    home.write(".local/share/dispatcher-api/manifest.json", "{\"form\": 99}");
    let (status, said) = home.run(&["diff"]);
    assert!(status == Some(7) && said.contains("newer quadletgen"), "{status:?} {said}");
}

#[test]
fn diff_is_silent_where_everything_is_there() {
    let home = Home::new("");
    let out = home.0.path().display().to_string();
    // `render --out /` would write the very places.
    let (status, said) = home.run(&["render", "--out", "/"]);
    assert!(status == Some(0) && said.contains(&out), "{status:?} {said}");
    assert_eq!(home.run(&["diff"]).0, Some(0));
    fs::remove_file(home.0.path().join(".config/dispatcher-api/deploy.yml")).unwrap();
    let (status, said) = home.run(&["diff"]);
    assert!(status == Some(2) && said.contains("is not there"), "{status:?} {said}");
}

#[test]
fn a_command_that_cannot_be_meant_is_wrong() {
    for arguments in [&["scale", "x"][..], &["scale", "-1"], &["nothing"], &["logs", "-n", "x"]] {
        assert_eq!(quadletgen("", arguments).status.code(), Some(2), "{arguments:?}");
    }
    let output = quadletgen("", &["status"]);
    assert_eq!(output.status.code(), Some(2), "--deploy is not for it");
    assert!(text(&output.stderr).contains("--deploy is for"));
    let output = Command::new(env!("CARGO_BIN_EXE_quadletgen"))
        .env_remove("XDG_RUNTIME_DIR")
        .args(["--user", "diff"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn a_deploy_file_that_was_made_to_harm_is_refused_in_time() {
    let many: String = (0..4000).map(|number| format!("{}{number}: 1\n", "k".repeat(90))).collect();
    let deep = format!("a: {}", "[".repeat(400_000));
    for (deploy, word) in [
        (deep.as_str(), "inside each other"),
        (&many, "3980 more names"),
        ("\"a\\e[31mred\": 1\n", "a\\u{1b}[31mred is no variable"),
        ("\"a\\e[31mred\": .nan\n", "a\\u{1b}[31mred: NaN"),
    ] {
        let started = std::time::Instant::now();
        let output = quadletgen(deploy, &["render"]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(word), "{said}");
        assert!(said.len() < 20_000 && started.elapsed().as_secs() < 20, "{}", said.len());
    }
}

#[test]
fn what_is_no_file_is_not_opened() {
    let home = Home::new("");
    let path = home.0.path().join(".config/dispatcher-api/deploy.yml");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/nowhere/deploy.yml", &path).unwrap();
    let (status, said) = home.run(&["render"]);
    assert!(status == Some(2) && said.contains("is a link to /nowhere/deploy.yml"), "{said}");
    fs::remove_file(&path).unwrap();
    // Opening it would wait for somebody who writes.
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (status, said) = home.run(&["render"]);
    assert!(status == Some(2) && said.contains("is no file"), "{said}");
    // One that is named may be a pipe.
    let program = env!("CARGO_BIN_EXE_quadletgen");
    let script = format!("echo 'a: 1' | '{program}' --deploy /dev/stdin render");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(text(&output.stderr).contains("a is no variable"), "{}", text(&output.stderr));
}
