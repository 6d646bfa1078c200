//! HAProxy in front of the instances: its files checked before and after they are written, its
//! reload (or its first start with our files) waited for, its view of the instances read.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use dispatcher_haproxy::{
    check::{CheckError, Files},
    leaving::Serving,
    reload::{Reload, Way},
    stats::{Server, Stats, Status},
};

use super::{
    desired::Desired,
    failure::{Exit, Failure},
};
use crate::{
    entry::{Concerns, Entry, What},
    files::Change,
    host::{
        Host, journal,
        program::Program,
        systemd::{Activity, Verb},
    },
    variables::Variables,
};

/// Its unit.
pub const UNIT: &str = "haproxy.service";
/// Its backend of ours.
const BACKEND: &str = "dispatcher_api";
/// The file of its package.
const PACKAGED: &str = "/etc/haproxy/haproxy.cfg";
/// How long a reload or a start may take.
const WITHIN: Duration = Duration::from_secs(60);
/// Keys of its unit that a process keeps from its start to its end. What other keys say holds from
/// the next reload or start on.
const LASTING: [&str; 6] = ["Type", "User", "Group", "Environment", "EnvironmentFile", "ExecStart"];

/// What HAProxy is started with by our drop-in for its unit; nothing where there is none.
#[must_use]
pub fn started_with(entries: &[Entry]) -> Option<String> {
    let drop_in = entries.iter().find(|entry| entry.concerns == Concerns::HaproxyUnit)?;
    let What::File { content, .. } = &drop_in.what else { return None };
    let lasts =
        |line: &&str| line.split_once('=').is_some_and(|(key, _)| LASTING.contains(&key.trim()));
    Some(content.lines().filter(lasts).collect::<Vec<_>>().join("\n"))
}

/// What is to be known before HAProxy is begun anew, where a reload is not enough: what it was
/// started with by our unit, and what is asked.
#[must_use]
pub fn warning(noted: Option<&str>, asked: Option<&str>) -> Option<&'static str> {
    match (noted, asked) {
        _ if noted == asked => None,
        (None, _) => Some(
            "HAProxy is restarted once, where it runs, to begin with our files: connections that are open then are cut",
        ),
        (Some(_), Some(_)) => Some(
            "HAProxy is restarted, since it is to be started with another command, which no reload brings about: \
             connections that are open then are cut",
        ),
        (Some(_), None) => Some(
            "HAProxy is restarted with the unit of its package, since ours goes: connections that are open then are cut",
        ),
    }
}

/// The same for a host whose HAProxy can be looked at: one that runs with the command that is asked
/// for is not begun anew, whoever began it.
///
/// # Errors
/// When systemd does not answer.
pub async fn restart(
    host: &Host,
    noted: Option<&str>,
    asked: Option<&str>,
) -> Result<Option<&'static str>, Failure> {
    let Some(warning) = warning(noted, asked) else { return Ok(None) };
    let runs = host.systemd.command_line(UNIT).await?;
    let is_as_asked = asked.is_some_and(|asked| is_started_with(&runs, asked));
    Ok((!is_as_asked).then_some(warning))
}

/// Whether a command line is the one of these lines of a unit; a reload adds words of its own.
fn is_started_with(runs: &[String], asked: &str) -> bool {
    let command = asked.lines().filter_map(|line| line.strip_prefix("ExecStart=")).next_back();
    let words: Vec<&str> = command.unwrap_or_default().split_whitespace().collect();
    let Some((program, arguments)) = words.split_first() else { return false };
    runs.first().is_some_and(|first| first == program)
        && runs.windows(arguments.len().max(1)).any(|part| part == arguments)
}

/// HAProxy on this host.
#[derive(Clone, Debug)]
pub struct Balancer {
    files: Files,
    master: PathBuf,
    stats: PathBuf,
    is_ours: bool,
    /// The names of the servers in its file.
    asked: Vec<String>,
    /// The command that has it read its files, where it is no unit of this host.
    command: Option<(PathBuf, Vec<String>)>,
    /// The drop-in that makes it ours.
    drop_in: Option<PathBuf>,
}

impl Balancer {
    /// The one that these variables speak of; nothing in a user's own deployment, or where another host has it.
    #[must_use]
    pub fn of(desired: &Desired) -> Option<Self> {
        let variables = &desired.variables;
        let path = |name: &str| PathBuf::from(variables.text(name));
        let is_ours = variables.is("dispatcher_haproxy_base");
        let base = path("__dispatcher_haproxy_base_file");
        let drop_in = desired.entries.iter().find(|one| one.concerns == Concerns::HaproxyUnit);
        let mut words = variables.words("dispatcher_haproxy_reload_command").into_iter();
        let command = words.next().map(|program| (PathBuf::from(program), words.collect()));
        let own = 0..desired.asked.instances.len();
        let own = own.map(|index| format!("dispatcher-api-{index}"));
        variables.has_haproxy().then(|| Self {
            files: Files {
                program: path("dispatcher_haproxy_program"),
                read: vec![base, path("haproxy_config_dir")],
                ours: desired.balancer().map(|entry| entry.path.clone()).collect(),
            },
            master: path("dispatcher_haproxy_master_socket"),
            stats: path("dispatcher_haproxy_stats_socket"),
            is_ours,
            asked: own.chain(elsewhere(variables)).collect(),
            command,
            drop_in: drop_in.map(|entry| entry.path.clone()),
        })
    }

    /// Whether it is a unit of this host.
    #[must_use]
    pub fn has_unit(&self) -> bool {
        self.command.is_none()
    }

    /// Whether it can be asked how it is.
    #[must_use]
    pub fn tells(&self) -> bool {
        self.is_ours || self.stats.exists()
    }

    /// One in a container or elsewhere whose program is not here checks its files itself.
    fn is_unchecked(&self) -> bool {
        self.command.is_some() && !self.files.program.exists()
    }

    /// Asks HAProxy what it would say to these changes. Nothing is touched.
    ///
    /// # Errors
    /// When it refuses, with its words.
    pub async fn check<'a>(
        &self,
        changes: impl Iterator<Item = &'a Change>,
    ) -> Result<(), Failure> {
        if self.is_unchecked() {
            return Ok(());
        }
        self.serves_nobody_else()?;
        let replaced: Vec<(PathBuf, String)> = changes.filter_map(content).collect();
        self.files.check_with(&replaced).await.map(drop).map_err(refused)
    }

    /// Before HAProxy becomes ours it reads the file of its package. Who takes requests by that file
    /// would be cut off.
    fn serves_nobody_else(&self) -> Result<(), Failure> {
        if self.drop_in.as_ref().is_none_or(|path| path.exists()) {
            return Ok(());
        }
        let files = Files { read: vec![PACKAGED.into()], ours: Vec::new(), ..self.files.clone() };
        // Where there is no such file nobody is served by it.
        let entrances = files.foreign_entrances().unwrap_or_default();
        if entrances.is_empty() {
            return Ok(());
        }
        let names = entrances.join(", ");
        let text = format!(
            "HAProxy serves others already: {PACKAGED} has {names}, and would not be read any more; \
             set dispatcher_haproxy_base: false to share HAProxy with them, or remove them from \
             that file if nobody needs them"
        );
        Err(Failure::new(Exit::Refused, text))
    }

    /// Has HAProxy read its files: by a restart where no reload can do it, or it does not run; by a
    /// reload otherwise.
    ///
    /// # Errors
    /// When it refuses; it then serves on as before.
    pub async fn take_up(&self, host: &Host, is_restart: bool) -> Result<(), Failure> {
        if !self.is_unchecked() {
            self.files.check().await.map_err(refused)?;
        }
        if let Some((program, arguments)) = &self.command {
            return told(program, arguments).await;
        }
        let activity = host.systemd.activity(UNIT).await?;
        if is_restart || activity != Some(Activity::Active) {
            return start(host).await;
        }
        let command =
            || Way::Command("systemctl".into(), vec!["reload".to_owned(), "haproxy".to_owned()]);
        let way = if self.master.exists() { Way::Master(self.master.clone()) } else { command() };
        let reload = Reload { way, stats: self.stats.clone(), within: WITHIN };
        let leaving = self.let_go().await?;
        let Err(error) = reload.run().await else { return Ok(()) };
        let mut text = error.to_string();
        if let Err(error) = self.serving().take_back(BACKEND, &leaving).await {
            let names = leaving.join(", ");
            text.push_str(&format!("; it sends nothing to {names} until it is reloaded: {error}"));
        }
        Err(Failure::new(Exit::Refused, text))
    }

    /// Has the process that serves let go of the instances that are asked for no more, where it has
    /// a master that can be asked: their names.
    async fn let_go(&self) -> Result<Vec<String>, Failure> {
        if !self.master.exists() || !self.stats.exists() {
            return Ok(Vec::new());
        }
        let failed = |error: String| Failure::new(Exit::Failed, error);
        let stays = |server: &Server| self.asked.contains(&server.name);
        let servers = self.servers().await.map_err(failed)?;
        let leaving = servers.into_iter().filter(|server| !stays(server));
        let leaving: Vec<String> = leaving.map(|server| server.name).collect();
        let let_go = self.serving().let_go(BACKEND, &leaving).await;
        let_go.map_err(|error| failed(error.to_string()))?;
        Ok(leaving)
    }

    fn serving(&self) -> Serving {
        Serving::new(&self.master)
    }

    /// Of these instances those that it does not send to, each with what it says of it.
    ///
    /// # Errors
    /// In words, when it does not answer.
    pub async fn down(&self, instances: &[u16]) -> Result<Vec<String>, String> {
        if !self.tells() {
            // Somebody else's HAProxy that does not let us look.
            return Ok(Vec::new());
        }
        let servers = self.servers().await?;
        let says = |index: &u16| {
            let name = format!("dispatcher-api-{index}");
            match servers.iter().find(|server| server.name == name) {
                Some(server) if server.status == Status::Up => None,
                Some(server) => Some(format!(
                    "{name} is {} ({} {})",
                    server.status, server.check_status, server.check_text
                )),
                None => Some(format!("{name} is not known to it")),
            }
        };
        Ok(instances.iter().filter_map(says).collect())
    }

    /// Its view of the instances.
    ///
    /// # Errors
    /// In words, when it does not answer.
    pub async fn servers(&self) -> Result<Vec<Server>, String> {
        Stats::new(&self.stats).servers(BACKEND).await.map_err(|error| error.to_string())
    }
}

/// The names of the servers that are on other hosts.
#[must_use]
pub fn elsewhere(variables: &Variables) -> Vec<String> {
    let servers = variables.words("dispatcher_haproxy_servers").into_iter();
    servers.filter_map(|server| Some(server.split_once(' ')?.0.to_owned())).collect()
}

/// Has one that is no unit of this host read its files, by the command that is given for that.
///
/// # Errors
/// When the command fails.
pub async fn told(program: &Path, arguments: &[String]) -> Result<(), Failure> {
    let command = Program::new(&program.display().to_string()).args(arguments.iter().cloned());
    command.run().await.map(drop).map_err(|error| {
        Failure::new(Exit::Refused, format!("dispatcher_haproxy_reload_command: {error}"))
    })
}

async fn start(host: &Host) -> Result<(), Failure> {
    let Err(error) = host.systemd.job(Verb::Restart, UNIT, WITHIN).await else { return Ok(()) };
    let lines = journal::last_lines(false, UNIT, 10).await;
    Err(Failure::new(
        Exit::Failed,
        format!("{error}\nits last journal lines:\n  {}", lines.join("\n  ")),
    ))
}

fn content(change: &Change) -> Option<(PathBuf, String)> {
    match &change.after {
        Some(What::File { content, .. }) if change.concerns == Concerns::Haproxy => {
            Some((change.path.clone(), content.clone()))
        }
        _ => None,
    }
}

fn refused(error: CheckError) -> Failure {
    let exit = match error {
        CheckError::Refused { .. } => Exit::Refused,
        CheckError::Program(_) => Exit::Lacking,
        CheckError::Layout { .. } => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        layout::Layout,
        render::render,
        variables::{Facts, Variables, deploy},
    };

    fn entries(text: &str) -> Vec<Entry> {
        let variables = Variables::new(deploy::parse(text).unwrap(), &Facts::default()).unwrap();
        render(&variables, &Layout::system()).unwrap()
    }

    #[test]
    fn only_what_a_process_keeps_from_its_start_asks_for_a_restart() {
        let before = started_with(&entries("")).unwrap();
        assert!(before.contains("ExecStart=/usr/sbin/haproxy -Ws"), "{before}");
        for (text, is_another) in [
            ("dispatcher_haproxy_timeout_client: 77", false),
            ("dispatcher_api_container_scale: 9", false),
            ("dispatcher_haproxy_program: /opt/haproxy", true),
            ("dispatcher_haproxy_master_socket: /run/other.sock", true),
            ("haproxy_config_dir: /etc/haproxy/other.d", true),
        ] {
            assert_eq!(started_with(&entries(text)).unwrap() != before, is_another, "{text}");
        }
        assert_eq!(started_with(&entries("dispatcher_haproxy_base: false")), None);
    }

    #[test]
    fn other_lines_of_the_drop_in_wait_for_a_reload_or_the_next_start() {
        let mut changed = entries("");
        let before = started_with(&changed);
        let drop_in = changed.iter_mut().find(|one| one.concerns == Concerns::HaproxyUnit).unwrap();
        let What::File { content, .. } = &mut drop_in.what else { panic!("a file") };
        *content = content
            .replace("PrivateTmp=true", "# Other words.\nExecReload=/bin/true\nProtectHome=true");
        assert_eq!(started_with(&changed), before);
    }

    #[test]
    fn a_process_that_runs_as_asked_is_known_by_its_words() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let asked = "Environment=\nExecStart=\nExecStart=/usr/sbin/haproxy -Ws -S /m -f /a -f /b";
        for (runs, expected) in [
            ("/usr/sbin/haproxy -Ws -S /m -f /a -f /b", true),
            ("/usr/sbin/haproxy -sf 12 -x sockpair@4 -Ws -S /m -f /a -f /b", true),
            ("/usr/sbin/haproxy -Ws -f /a -f /b", false),
            ("/opt/haproxy -Ws -S /m -f /a -f /b", false),
            ("/usr/sbin/haproxy -Ws -S /m -f /a -f /other", false),
        ] {
            assert_eq!(is_started_with(&words(runs), asked), expected, "{runs}");
        }
        assert!(!is_started_with(&[], asked) && !is_started_with(&words("a b"), "User=x"));
    }

    #[test]
    fn who_is_cut_off_is_told_before() {
        for (noted, asked, word) in [
            (None, Some("a"), "once"),
            (Some("a"), Some("b"), "another command"),
            (Some("a"), None, "its package"),
        ] {
            assert!(warning(noted, asked).unwrap().contains(word));
        }
        assert_eq!(warning(Some("a"), Some("a")), None);
        assert_eq!(warning(None, None), None);
    }
}
