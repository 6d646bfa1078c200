//! A host on which the toolkit has been told to deploy: the image and those of the bundled
//! services are there, quadletgen comes out of the image.

use std::process::Output;

use anyhow::{Context, Result, ensure};

use dispatcher_tests::caller::Caller;

use crate::host::Host;

/// The variables with their defaults, which the images must answer to.
const SPECS: &str = include_str!("../../../ansible-role/meta/argument_specs.yml");

/// A host with a deployment.
pub(crate) struct Deployed {
    /// The host.
    pub(crate) host: Host,
}

/// The default of a variable.
fn default(variable: &str) -> Result<&'static str> {
    let of = SPECS.split_once(&format!("      {variable}:\n")).context(variable.to_owned())?.1;
    let line = of.lines().find_map(|line| line.trim().strip_prefix("default: "));
    line.with_context(|| format!("{variable} has no default"))
}

/// Puts quadletgen onto a host: the image's, or the program that `QUADLETGEN` names, for whoever
/// works on it.
pub(crate) async fn install_tool(host: &Host) -> Result<()> {
    if let Some(program) = std::env::var_os("QUADLETGEN") {
        let install = "cat >/usr/local/bin/quadletgen; chmod 755 /usr/local/bin/quadletgen";
        host.feed(install, &std::fs::read(&program).context("QUADLETGEN")?).await?;
        return Ok(());
    }
    let copy = "podman create --name tools localhost/dispatcher-api:1 >/dev/null
                podman cp tools:/usr/bin/quadletgen /usr/local/bin/quadletgen
                podman rm tools >/dev/null";
    host.run(copy).await?;
    Ok(())
}

/// The lines that only one of two texts has.
pub(crate) fn differences(before: &str, after: &str) -> String {
    let only = |one: &str, other: &str, sign: char| {
        let lines = one.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.map(|line| format!("{sign}{line}\n")).collect::<String>()
    };
    only(before, after, '-') + &only(after, before, '+')
}

impl Deployed {
    /// A bare host with the images and quadletgen, and nothing else.
    pub(crate) async fn bare(name: &str) -> Result<Self> {
        let archives = ["dispatcher-api", "postgresql", "redis", "rabbitmq"];
        let host = Host::with_images(name, &archives).await?;
        let mut names = String::new();
        for (image, variable) in [
            ("dispatcher-api:1", "dispatcher_api_image"),
            ("postgresql:test", "dispatcher_postgresql_image"),
            ("redis:test", "dispatcher_redis_image"),
            ("rabbitmq:test", "dispatcher_rabbitmq_image"),
        ] {
            names.push_str(&format!("podman tag localhost/{image} {}\n", default(variable)?));
        }
        host.run(&names).await?;
        install_tool(&host).await?;
        Ok(Self { host })
    }

    /// The same, initialised and applied: with these lines in `deploy.yml`, or none.
    pub(crate) async fn applied(name: &str, lines: &str) -> Result<Self> {
        let deployed = Self::bare(name).await?;
        deployed.host.run("quadletgen init").await?;
        deployed.host.feed("cat >>/etc/dispatcher-api/deploy.yml", lines.as_bytes()).await?;
        deployed.host.run("quadletgen apply").await?;
        Ok(deployed)
    }

    /// Who has the operator's key, at HAProxy.
    pub(crate) async fn caller(&self) -> Result<Caller> {
        let show =
            "podman secret inspect --showsecret --format '{{.SecretData}}' dispatcher-psk-operator";
        let key = self.host.run(show).await?;
        Ok(Caller::new(&format!("http://{}", self.host.address), key.trim()))
    }

    /// A statement for the bundled PostgreSQL: its rows, a line each.
    pub(crate) async fn sql(&self, statement: &str) -> Result<String> {
        let client = "podman exec --interactive dispatcher-postgresql sh -c \
                      'psql -U \"$POSTGRES_USER\" -d \"$POSTGRES_DB\" -v ON_ERROR_STOP=1 -At'";
        self.host.feed(client, statement.as_bytes()).await
    }

    /// The numbers of the instances that run.
    pub(crate) async fn running(&self) -> Result<Vec<u32>> {
        let list = "systemctl list-units --plain --no-legend --state=active 'dispatcher-api@*.service' || :";
        let units = self.host.run(list).await?;
        let number = |line: &str| {
            let name = line.split_whitespace().next()?.strip_prefix("dispatcher-api@")?;
            name.strip_suffix(".service")?.parse().ok()
        };
        let mut numbers: Vec<u32> = units.lines().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// How many instances are asked for.
    pub(crate) async fn wanted(&self) -> Result<u32> {
        let file =
            "sed -n 's/^dispatcher_api_container_scale: *//p' /etc/dispatcher-api/deploy.yml";
        let scale = self.host.run(file).await?;
        if scale.trim().is_empty() { Ok(4) } else { Ok(scale.trim().parse()?) }
    }

    /// So many instances run, and HAProxy has as many and takes all of them for healthy.
    pub(crate) async fn ensure_scale(&self, wanted: u32) -> Result<()> {
        let numbers = self.running().await?;
        ensure!(
            numbers == (0..wanted).collect::<Vec<_>>(),
            "of {wanted} instances run {numbers:?}"
        );
        self.host.until(&self.healthy(wanted)).await
    }

    fn healthy(&self, wanted: u32) -> String {
        format!(
            "test \"$(echo 'show stat' | socat stdio {socket} | grep -c '^dispatcher_api,dispatcher-api-.*,UP,')\" = {wanted}",
            socket =
                default("dispatcher_haproxy_stats_socket").unwrap_or("/run/haproxy/admin.sock"),
        )
    }

    /// Runs quadletgen, however it ends.
    pub(crate) async fn quadletgen(&self, arguments: &str) -> Result<Output> {
        self.host.attempt(&format!("quadletgen {arguments}")).await
    }

    /// Runs quadletgen, which must fail and say all of this, and nothing may have changed.
    pub(crate) async fn refused(&self, arguments: &str, said: &[&str]) -> Result<()> {
        let before = self.state().await?;
        let output = self.quadletgen(arguments).await?;
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(!output.status.success(), "quadletgen {arguments} succeeded: {text}");
        for part in said {
            ensure!(text.contains(part), "quadletgen {arguments} does not say {part:?}: {text}");
        }
        let after = self.state().await?;
        ensure!(before == after, "quadletgen {arguments} has changed {before} to {after}: {text}");
        Ok(())
    }

    /// Files, links, and which processes run since when: what a refused command must not change.
    pub(crate) async fn state(&self) -> Result<String> {
        self.host
            .run(
                "find /etc/containers/systemd /etc/systemd/system /etc/haproxy /etc/dispatcher-api /etc/tmpfiles.d \
                   -type f -exec sha256sum {} + -o -type l -printf '%p -> %l\\n' 2>/dev/null | sort || :
                 systemctl show --property=Id,MainPID,ActiveState 'dispatcher-*.service' haproxy.service",
            )
            .await
    }
    /// The same, and all else that a command which only shows something must leave: all of `/etc`,
    /// what quadletgen remembers, the programs, containers, images and units.
    pub(crate) async fn everything(&self) -> Result<String> {
        let more = "find /etc /var/lib/dispatcher-api /usr/local -type f ! -name lock -exec sha256sum {} + -o -type l -printf '%p -> %l\\n' | sort
                    podman ps --all --no-trunc --format '{{.ID}} {{.Names}}' | sort
                    podman images --no-trunc --format '{{.Digest}}' | sort -u
                    podman secret ls --quiet | sort
                    ls /run/systemd/generator";
        Ok(self.state().await? + &self.host.run(more).await?)
    }
}
