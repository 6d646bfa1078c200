//! A PostgreSQL of our own: made in a temporary directory, reachable only by its socket in there,
//! shared by all tests of a process, gone with the process however that ends.
//!
//! Every test gets a fresh database. Nothing outside the directory is touched, and no server that
//! runs on the machine is used.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use dispatcher_api::{
    config::database::Postgres,
    store::{Stores, postgres::PostgresStore},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::guarded::is_gone;

/// Where a server keeps its socket: paths of sockets must be short, and the user `postgres` must
/// reach them.
const ROOT: &str = "/tmp";
/// Fast rather than safe: what these databases hold is worth nothing after the machine went down.
/// What was committed outlives the server's own end.
const OPTIONS: &str = "-c listen_addresses='' -c fsync=off -c full_page_writes=off \
    -c max_connections=400 -c shared_buffers=64MB";
/// Starts the server, waits for the end of its input (which is the end of the tests, also when they
/// are killed), then stops the server and removes everything.
const GUARD: &str = r#"
    trap : INT TERM HUP
    cd "$1" || exit 1
    start() {
        "$0/initdb" -D data -U postgres -A trust --no-sync -E UTF8 "$@" >log 2>&1 &&
        "$0/pg_ctl" -D data -w -t 120 -l log -o "$OPTIONS -k $PWD" start >>log 2>&1
    }
    # A collation that differs from the order of bytes, where there is one, finds statements that
    # depend on it.
    if start --locale=C.UTF-8 --locale-provider=icu --icu-locale=en-US ||
       { rm -rf data; start --locale=C.UTF-8; }
    then
        echo ready; read -r _
        # It may have been halted: then it would not hear of its end.
        kill -s CONT "$(head -n1 data/postmaster.pid)"
        "$0/pg_ctl" -D data -m immediate stop >>log 2>&1
    else cat log
    fi
    cd / && rm -rf "$1"
"#;

/// A running server.
pub struct PrivatePostgres {
    directory: PathBuf,
    options: String,
    programs: PathBuf,
    template: OnceCell<String>,
    _alive: ChildStdin,
}

/// A database of its own for one test.
pub struct Database {
    /// How the service opens it.
    pub config: Postgres,
    /// The same as `DATABASE_URL`.
    pub url: String,
}

/// How long work waits for a connection: a busy machine may take its time.
const WAIT: Duration = Duration::from_secs(60);

static SHARED: OnceCell<PrivatePostgres> = OnceCell::const_new();

impl PrivatePostgres {
    /// The server that all tests of this process share.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; says what to install.
    pub async fn shared() -> Result<&'static Self> {
        SHARED.get_or_try_init(|| async { tokio::task::spawn_blocking(Self::start).await? }).await
    }

    /// Starts a server. Blocks until it is ready.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; says what to install.
    pub fn start() -> Result<Self> {
        Self::start_with("", &[])
    }

    /// Starts a server with more options, in which `@` stands for its directory, where these files
    /// (name and content) are put first, private to it. Blocks until it is ready.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; says what to install.
    pub fn start_with(options: &str, files: &[(&str, &str)]) -> Result<Self> {
        let programs = programs()?;
        let directory = Path::new(ROOT).join(format!("dispatcher-pg-{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&directory)?;
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))?;
        let options = options.replace('@', &directory.display().to_string());
        let options = format!("{OPTIONS} {options}");
        for (name, content) in files {
            let path = directory.join(name);
            std::fs::write(&path, content)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            drop(as_nobody_special(&path)?);
        }
        let mut command = as_nobody_special(&directory)?;
        command.args(["sh", "-c", GUARD]).arg(&programs).arg(&directory);
        command.env("OPTIONS", &options).env("LC_ALL", "C").current_dir("/");
        let mut guard = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let alive = guard.stdin.take().context("the guard has an input")?;
        let mut told = BufReader::new(guard.stdout.take().context("the guard has an output")?);
        let mut first = String::new();
        told.read_line(&mut first)?;
        if first.trim() != "ready" {
            told.read_to_string(&mut first)?;
            guard.wait()?;
            bail!("the private PostgreSQL of {} did not start:\n{first}", programs.display());
        }
        // The guard ends after us; nobody waits for it.
        drop(guard);
        Ok(Self { directory, options, programs, template: OnceCell::new(), _alive: alive })
    }

    /// What it has logged.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.directory.join("log"))?).into_owned())
    }

    /// Ends the server at once, as a crash does. Blocks. Only for a server of the test's own.
    ///
    /// # Errors
    /// When it does not end.
    pub fn crash(&self) -> Result<()> {
        self.control(&["-m", "immediate", "stop"])
    }

    /// Kills every process of the server with SIGKILL and blocks until they are gone. Only for a
    /// server of the test's own.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        let processes = self.signal(Signal::KILL)?;
        while !processes.iter().all(|pid| is_gone(*pid)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Where nobody buries orphans, the dead server still looks alive to the next one.
        for lock in ["data/postmaster.pid", ".s.PGSQL.5432.lock"] {
            std::fs::remove_file(self.directory.join(lock)).context(lock)?;
        }
        Ok(())
    }

    /// Halts every process of the server until [`Self::resume`]. Only for a server of the test's
    /// own.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP).map(drop)
    }

    /// Lets a halted server go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT).map(drop)
    }

    /// Sends a signal to the server, which makes no more processes then, and to those it has made.
    fn signal(&self, signal: Signal) -> Result<Vec<Pid>> {
        let file = self.directory.join("data/postmaster.pid");
        let text = std::fs::read_to_string(&file).context("the private PostgreSQL does not run")?;
        let server = text.lines().next().and_then(|line| Pid::from_raw(line.parse().ok()?));
        let server = server.with_context(|| format!("{}: {text}", file.display()))?;
        if signal != Signal::CONT {
            kill_process(server, Signal::STOP)?;
        }
        let mut processes = children(server)?;
        processes.push(server);
        for process in &processes {
            // One that has ended in the meantime needs no signal.
            let _ = kill_process(*process, signal);
        }
        Ok(processes)
    }

    /// Starts the server again and blocks until it is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&self) -> Result<()> {
        let options = format!("{} -k {}", self.options, self.directory.display());
        self.control(&["-l", "log", "-o", &options, "start"])
    }

    /// The process that takes connections.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<i32> {
        let file = std::fs::read_to_string(self.directory.join("data/postmaster.pid"))?;
        Ok(file.lines().next().context("its first line is the process")?.parse()?)
    }

    fn control(&self, arguments: &[&str]) -> Result<()> {
        let mut command = as_nobody_special(&self.directory)?;
        command.arg(self.programs.join("pg_ctl")).args(["-D", "data", "-w", "-t", "120"]);
        command.args(arguments).env("LC_ALL", "C").current_dir(&self.directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status()?;
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        ensure!(status.success(), "pg_ctl {arguments:?} ended with {status}:\n{log}");
        Ok(())
    }

    /// A fresh, empty database.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn empty(&self) -> Result<Database> {
        self.made("template0").await
    }

    /// A fresh database, migrated.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn migrated(&self) -> Result<Database> {
        let template = self
            .template
            .get_or_try_init(|| async {
                let database = self.empty().await?;
                PostgresStore::migrate(&database.config).await?;
                let name = database.url.rsplit('/').next().unwrap_or_default();
                let name = name.split('?').next().unwrap_or_default();
                self.settled(name).await?;
                Ok::<_, anyhow::Error>(name.to_owned())
            })
            .await?;
        self.made(template).await
    }

    /// Waits until nobody is connected to a database any more.
    async fn settled(&self, name: &str) -> Result<()> {
        const OTHERS: &str = "
            SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1";
        let admin = client(&self.url("postgres")).await?;
        admin.query(OTHERS, &[&name]).await?;
        Ok(())
    }

    async fn made(&self, template: &str) -> Result<Database> {
        let name = format!("t{}", Uuid::new_v4().simple());
        let admin = client(&self.url("postgres")).await?;
        admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await?;
        let url = self.url(&name);
        let mut config = Postgres::at(url.as_str());
        config.wait = WAIT;
        Ok(Database { config, url })
    }

    /// The address of a database, by its socket.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        let directory = self.directory.display().to_string().replace('/', "%2F");
        format!("postgres://postgres@/{name}?host={directory}")
    }
}

impl Database {
    /// A fresh, empty database of the shared server.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn empty() -> Result<Self> {
        PrivatePostgres::shared().await?.empty().await
    }

    /// A fresh, migrated database of the shared server.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn migrated() -> Result<Self> {
        PrivatePostgres::shared().await?.migrated().await
    }

    /// Its stores.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn stores(&self) -> Result<Stores> {
        Ok(PostgresStore::connect(&self.config).await?)
    }

    /// A connection past the stores.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn client(&self) -> Result<Client> {
        client(&self.url).await
    }
}

async fn client(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // The connection ends with its client; its errors come out of the client's calls.
    drop(tokio::spawn(connection));
    Ok(client)
}

/// The processes that one has made.
fn children(parent: Pid) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let pid = entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name, in parentheses, may hold anything; state and parent follow.
        let of = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if of == Some(parent.as_raw_nonzero().get()) {
            found.extend(pid);
        }
    }
    Ok(found)
}

/// Where the server's programs are: on the path, or where distributions keep them, newest first.
fn programs() -> Result<PathBuf> {
    let complete = |directory: &PathBuf| {
        ["initdb", "pg_ctl", "postgres"].iter().all(|name| directory.join(name).exists())
    };
    let mut kept: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .collect();
    kept.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = kept.into_iter().map(|(_, path)| path).chain(std::env::split_paths(&path));
    all.find(complete).context(
        "PostgreSQL's server is not installed, and these tests start their own: \
         install postgresql (Debian, Ubuntu) or postgresql-server (Fedora)",
    )
}

/// PostgreSQL refuses to run as root: then it runs as `postgres`, who gets the directory.
fn as_nobody_special(directory: &Path) -> Result<Command> {
    if !rustix::process::getuid().is_root() {
        return Ok(Command::new("env"));
    }
    let id = |kind: &str| -> Result<u32> {
        let output = Command::new("id").args([kind, "postgres"]).output()?;
        ensure!(
            output.status.success(),
            "PostgreSQL does not run as root, and there is no user `postgres`: install postgresql \
             (Debian, Ubuntu) or postgresql-server (Fedora), which make it, or run as another user"
        );
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    };
    let (user, group) = (id("-u")?, id("-g")?);
    chown(directory, Some(user), Some(group))?;
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).arg("--clear-groups");
    Ok(command)
}
