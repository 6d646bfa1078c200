//! Finds ansible-runner, says in words when it is not there, and makes its command line and its
//! environment.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

/// The variable that names ansible-runner.
const RUNNER_VARIABLE: &str = "ANSIBLE_RUNNER";
/// How long programs may take to say their versions.
const PREFLIGHT_WITHIN: Duration = Duration::from_secs(30);
/// The system's own programs, where the worker itself has no search path.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a run gets of the worker's own environment, where it is set.
const PASSED: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "TZ",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];

/// An ansible-runner.
#[derive(Clone, Debug)]
pub(crate) struct Ansible {
    runner: PathBuf,
    search_path: OsString,
}

impl Ansible {
    /// The one that is configured, or the first that is found; otherwise the cure in words.
    pub(crate) fn find(configured: Option<&Path>) -> Result<Self, String> {
        Self::find_in(configured, &|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn find_in(
        configured: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, String> {
        let named = variable(RUNNER_VARIABLE).map(PathBuf::from);
        let path = variable("PATH").unwrap_or_else(|| SYSTEM_PATH.into());
        let runner = match configured.map(Path::to_owned).or(named) {
            Some(runner) if is_program(&runner) => Some(runner),
            Some(runner) => return Err(missing_at(&runner)),
            None => candidates(variable, &path).into_iter().find(|runner| is_program(runner)),
        };
        let runner = runner.ok_or_else(missing)?;
        let bin = runner.parent().unwrap_or(Path::new("/")).to_owned();
        let search_path =
            std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path)))
                .map_err(|error| format!("PATH cannot be used: {error}"))?;
        Ok(Self { runner, search_path })
    }

    /// The command that executes the playbook of a private data directory.
    pub(crate) fn command(&self, private: &Path, playbook: &str) -> Vec<OsString> {
        let mut command = vec![self.runner.clone().into_os_string()];
        command.extend(
            ["run", "--json", "--omit-env-files", "--ident", "run", "--playbook"].map(Into::into),
        );
        command.extend([playbook.into(), private.into()]);
        command
    }

    /// The whole environment of a run, whose temporary files go here.
    pub(crate) fn environment(&self, temporary: &Path) -> BTreeMap<OsString, OsString> {
        let passed = PASSED.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
        let mut environment: BTreeMap<OsString, OsString> = passed.collect();
        environment.entry("HOME".into()).or_insert_with(|| temporary.into());
        let temporary = temporary.as_os_str();
        let own = [
            ("PATH", self.search_path.as_os_str()),
            ("LANG", "C.UTF-8".as_ref()),
            ("LC_ALL", "C.UTF-8".as_ref()),
            ("TERM", "dumb".as_ref()),
            ("TMPDIR", temporary),
            ("ANSIBLE_LOCAL_TEMP", temporary),
            ("ANSIBLE_NOCOLOR", "1".as_ref()),
            ("ANSIBLE_FORCE_COLOR", "0".as_ref()),
            ("PYTHONUNBUFFERED", "1".as_ref()),
            // Results are not kept in events: nobody reads them, and they may hold secrets.
            ("MAX_EVENT_RES", "0".as_ref()),
        ];
        environment.extend(own.map(|(name, value)| (name.into(), value.into())));
        environment
    }

    async fn version(&self, program: &str) -> Result<String, String> {
        let program = self.runner.with_file_name(program);
        let run = Command::new(&program)
            .arg("--version")
            .env("PATH", &self.search_path)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let shown = program.display();
        let output = tokio::time::timeout(PREFLIGHT_WITHIN, run)
            .await
            .map_err(|_| format!("{shown} --version does not end. {CURE}"))?
            .map_err(|error| format!("{shown} cannot be started: {error}. {CURE}"))?;
        let first = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            text.lines().next().unwrap_or_default().trim().to_owned()
        };
        if output.status.success() {
            Ok(first(&output.stdout))
        } else {
            Err(format!(
                "{shown} --version fails ({}): {}. {CURE}",
                output.status,
                first(&output.stderr)
            ))
        }
    }
}

/// What runs are executed with.
#[derive(Clone, Debug)]
pub struct Versions {
    /// What ansible-runner says.
    pub runner: String,
    /// What ansible-playbook says.
    pub core: String,
    /// Where they are.
    pub program: PathBuf,
}

/// Asks ansible-runner and ansible-core for their versions.
///
/// # Errors
/// As [`preflight`].
pub async fn versions(configured: Option<&Path>) -> Result<Versions, String> {
    let ansible = Ansible::find(configured)?;
    let (runner, core) =
        tokio::try_join!(ansible.version("ansible-runner"), ansible.version("ansible-playbook"))?;
    Ok(Versions { runner, core, program: ansible.runner })
}

/// Says which ansible-runner and ansible-core runs are executed with, or what is missing and what
/// to do about it.
///
/// # Errors
/// The text for people: what was sought where, and the cure.
pub async fn preflight(configured: Option<&Path>) -> Result<String, String> {
    let Versions { runner, core, program } = versions(configured).await?;
    Ok(format!("ansible-runner {runner}, {core} ({})", program.display()))
}

const CURE: &str = "Install it with `make deps`, or put ansible-core and ansible-runner into a venv \
                    (`python3 -m venv /opt/dispatcher/ansible && /opt/dispatcher/ansible/bin/pip \
                    install ansible-core ansible-runner`), or name it with ANSIBLE_RUNNER";

fn missing() -> String {
    format!(
        "ansible-runner is not installed: sought in ANSIBLE_RUNNER, /opt/dispatcher/ansible/bin, \
         ~/.local/share/dispatcher/ansible/bin and PATH. {CURE}"
    )
}

fn missing_at(runner: &Path) -> String {
    format!("{} is named as ansible-runner and is no program. {CURE}", runner.display())
}

fn candidates(variable: &dyn Fn(&str) -> Option<OsString>, path: &OsString) -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from("/opt/dispatcher/ansible/bin")];
    folders.extend(
        variable("HOME").map(|home| Path::new(&home).join(".local/share/dispatcher/ansible/bin")),
    );
    folders.extend(std::env::split_paths(path));
    folders.into_iter().map(|folder| folder.join("ansible-runner")).collect()
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.is_absolute()
        && path
            .metadata()
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn program(folder: &Path) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join("ansible-runner");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_search_goes_in_order() {
        let root = tempfile::tempdir().unwrap();
        let in_path = program(&root.path().join("path"));
        let in_home = root.path().join("home/.local/share/dispatcher/ansible/bin");
        let home = root.path().join("home").into_os_string();
        let search = root.path().join("path").into_os_string();
        let variable = |name: &str| match name {
            "HOME" => Some(home.clone()),
            "PATH" => Some(search.clone()),
            _ => None,
        };
        let found = || Ansible::find_in(None, &variable).unwrap();
        // An installation in /opt would be found first; then this says nothing.
        if !is_program(Path::new("/opt/dispatcher/ansible/bin/ansible-runner")) {
            assert_eq!(found().runner, in_path);
            let in_home = program(&in_home);
            assert_eq!(found().runner, in_home);
        }
        let named = program(&root.path().join("named"));
        assert_eq!(Ansible::find_in(Some(&named), &variable).unwrap().runner, named);
        let paths: Vec<_> =
            std::env::split_paths(&Ansible::find_in(Some(&named), &variable).unwrap().search_path)
                .collect();
        assert_eq!(paths, [root.path().join("named"), root.path().join("path")]);
    }

    #[tokio::test]
    async fn what_is_missing_is_said_with_the_cure() {
        let told = preflight(Some(Path::new("/nonexistent/ansible-runner"))).await.unwrap_err();
        assert!(
            told.contains("/nonexistent/ansible-runner") && told.contains("make deps"),
            "{told}"
        );
        let nothing = |_: &str| Some(OsString::from("/nonexistent"));
        let unnamed = |name: &str| nothing(name).filter(|_| name != RUNNER_VARIABLE);
        if !is_program(Path::new("/opt/dispatcher/ansible/bin/ansible-runner")) {
            let told = Ansible::find_in(None, &unnamed).unwrap_err();
            assert!(told.contains("PATH") && told.contains("make deps"), "{told}");
        }
    }
}
