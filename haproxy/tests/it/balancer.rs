//! An HAProxy of a test's own, with rendered files. It ends with the test's process, however that
//! ends: a shell waits for the end of its input and kills it.

use std::{
    fmt::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use dispatcher_haproxy::{
    check::Files,
    processes::Processes,
    reload::{Reload, ReloadError, Reloaded, Way},
    socket::Socket,
    stats::{Server, Stats},
};
use quadletgen::{
    entry::What,
    layout::Layout,
    render,
    variables::{Facts, Variables, deploy},
};
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Its group of processes is its own; at the end of its input it kills all of it.
const GUARD: &str = r#""$@" </dev/null >>"$LOG" 2>&1 & read -r _; kill -s KILL 0"#;

pub(crate) struct Balancer {
    directory: TempDir,
    guard: Option<Child>,
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
    pub(crate) stats_port: u16,
    variables: String,
}

/// A port that nobody uses now, and none of those that the kernel gives to outgoing connections:
/// one of them could take it until it is used. The one after it is given to nobody.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(97);
    let wishes = std::iter::repeat_with(|| {
        let wish = begin.wrapping_add(GIVEN.fetch_add(2, Ordering::Relaxed)) % 20_000;
        12_000 + u16::try_from(wish).unwrap()
    });
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    wishes.take(1_000).find(is_free).expect("a free port between 12000 and 32000")
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < PATIENCE, "it never {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Where a program is.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(more).map(|place| place.join(name));
    let missing = || panic!("{name} is not installed: apt-get install {name}, dnf install {name}");
    places.find(|file| file.is_file()).unwrap_or_else(missing)
}

fn own(option: &str) -> String {
    let output = Command::new("id").arg(option).output().unwrap().stdout;
    String::from_utf8(output).unwrap().trim().to_owned()
}

impl Balancer {
    /// Files for these variables, in a directory of their own; nothing runs.
    pub(crate) fn prepared(variables: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("haproxy-").tempdir_in("/tmp").unwrap();
        std::fs::create_dir(directory.path().join("conf.d")).unwrap();
        let (port, tls_port, stats_port) = (free_port(), free_port(), free_port());
        let variables = variables.to_owned();
        let mut balancer = Self { directory, guard: None, port, tls_port, stats_port, variables };
        balancer.render(&balancer.variables.clone());
        balancer
    }

    /// A running one, which serves.
    pub(crate) async fn start(variables: &str) -> Self {
        let mut balancer = Self::prepared(variables);
        balancer.run().await;
        balancer
    }

    /// Writes the files of other variables.
    pub(crate) fn render(&mut self, variables: &str) {
        self.variables = variables.to_owned();
        for (path, content) in self.rendered(variables) {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }

    /// HAProxy's files for these variables.
    pub(crate) fn rendered(&self, variables: &str) -> Vec<(PathBuf, String)> {
        let layout =
            Layout { runtime: self.path("run"), units: self.path("units"), ..Layout::system() };
        let facts = Facts { hostname: "balancer".to_owned(), ..Facts::default() };
        let text = self.with_defaults(variables);
        let checked = Variables::new(deploy::parse(&text).unwrap(), &facts);
        let checked = checked.unwrap_or_else(|error| panic!("{error}\n{text}"));
        let entries = render::render(&checked, &layout).unwrap().into_iter();
        let entries = entries.filter(|entry| entry.path.starts_with(self.directory.path()));
        let entries = entries.filter(|entry| entry.path.extension().is_some_and(|it| it == "cfg"));
        let file = |what| match what {
            What::File { content, .. } => content,
            What::Link { .. } => panic!("no link is a file of HAProxy"),
        };
        entries.map(|entry| (entry.path, file(entry.what))).collect()
    }

    fn with_defaults(&self, variables: &str) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        let mut text = variables.to_owned();
        let user = own("-un");
        let group = own("-gn");
        let defaults = [
            ("dispatcher_haproxy_addresses", "[127.0.0.1]".to_owned()),
            ("dispatcher_haproxy_http_port", self.port.to_string()),
            ("dispatcher_haproxy_https_port", self.tls_port.to_string()),
            ("dispatcher_haproxy_stats_address", format!("127.0.0.1:{}", self.stats_port)),
            ("dispatcher_haproxy_stats_socket", at("stats.sock")),
            ("dispatcher_haproxy_base_file", at("base.cfg")),
            ("haproxy_config_dir", at("conf.d")),
            ("dispatcher_haproxy_user", user),
            ("dispatcher_haproxy_group", group),
            ("dispatcher_haproxy_log", "stdout format raw daemon".to_owned()),
            ("dispatcher_haproxy_maxconn", "400".to_owned()),
            ("dispatcher_haproxy_check_interval_ms", "100".to_owned()),
            ("dispatcher_api_container_scale", "2".to_owned()),
        ];
        for (name, value) in defaults {
            if !variables.contains(&format!("{name}:")) {
                writeln!(text, "{name}: {value}").unwrap();
            }
        }
        text
    }

    /// Starts HAProxy, and waits until it serves.
    pub(crate) async fn run(&mut self) {
        let mut command = Command::new("setsid");
        command.args(["--wait", "sh", "-c", GUARD, "guard"]).arg(program("haproxy"));
        command.args(["-W", "-S"]).arg(self.path("master.sock"));
        command.arg("-f").arg(self.path("base.cfg")).arg("-f").arg(self.path("conf.d"));
        command.env("LOG", self.path("log"));
        self.guard = Some(command.stdin(Stdio::piped()).spawn().unwrap());
        let stats = self.stats();
        let started = Instant::now();
        while stats.info().await.is_err() {
            assert!(started.elapsed() < PATIENCE, "HAProxy did not start:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until so many instances take requests, and HAProxy knows it from a check of each.
    pub(crate) async fn until_up(&self, wanted: usize) {
        until(&format!("had {wanted} instances up:\n{}", self.log()), async || {
            let servers = self.servers().await;
            let is_checked = servers.iter().all(|one| one.check_status != "INI");
            let up = servers.iter().filter(|one| one.status.takes_requests()).count();
            is_checked && up == wanted
        })
        .await;
    }

    pub(crate) async fn servers(&self) -> Vec<Server> {
        self.stats().servers("dispatcher_api").await.unwrap_or_default()
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats::new(self.path("stats.sock"))
    }

    /// The master and its workers.
    pub(crate) async fn processes(&self) -> Processes {
        let master = Socket::new(self.path("master.sock"), PATIENCE);
        let mut found = None;
        until("listed its processes", async || {
            found = master.ask("show proc").await.ok().and_then(|text| Processes::of(&text));
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    pub(crate) fn files(&self) -> Files {
        let ours = vec![self.path("base.cfg"), self.backend_file()];
        let read = vec![self.path("base.cfg"), self.path("conf.d")];
        Files { program: program("haproxy"), read, ours }
    }

    pub(crate) fn backend_file(&self) -> PathBuf {
        self.path("conf.d/10_backend_dispatcher_api.cfg")
    }

    pub(crate) async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let way = Way::Master(self.path("master.sock"));
        Reload { way, stats: self.path("stats.sock"), within: PATIENCE }.run().await
    }

    /// The socket of an instance.
    pub(crate) fn socket(&self, instance: usize) -> PathBuf {
        let directory = self.path("run").join(instance.to_string());
        std::fs::create_dir_all(&directory).unwrap();
        directory.join("api.sock")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        read(&self.path("log"))
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}
