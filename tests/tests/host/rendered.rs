//! A deployment made by hand of what the templates say: files as rendered, secrets as asked for,
//! units started with systemctl. Tells what the units themselves do, without quadletgen's work.

use std::{fmt::Write as _, path::Path};

use anyhow::{Result, anyhow};
use quadletgen::{
    entry::{Entry, What},
    layout::Layout,
    render,
    variables::{Facts, Variables, deploy, secrets::Making},
};
use uuid::Uuid;

use crate::deployed::Deployed;

/// The key that DISPATCHER_SECRET_KEYS gets.
const SECRET_KEYS: &str = "test:dGhlIHNlY3JldCB0aGF0IG9ubHkgdGVzdHMgaGF2ZSwga25vd24gdG8gYWxs";

/// What is rendered of these lines of `deploy.yml`.
pub(crate) fn variables(host: &str, lines: &str) -> Result<Variables> {
    let facts = Facts { hostname: host.to_owned(), ..Facts::default() };
    let set = deploy::parse(lines).map_err(|reason| anyhow!(reason))?;
    Variables::new(set, &facts).map_err(|problems| anyhow!("{problems}"))
}

/// A host on which this was rendered; nothing is started.
pub(crate) async fn written(name: &str, lines: &str) -> Result<Deployed> {
    let deployed = Deployed::bare(name).await?;
    store_secrets(&deployed, &variables(name, lines)?).await?;
    write(&deployed, name, lines).await?;
    Ok(deployed)
}

/// Writes what is rendered of these lines.
pub(crate) async fn write(deployed: &Deployed, name: &str, lines: &str) -> Result<()> {
    let entries = render::render(&variables(name, lines)?, &Layout::system())?;
    deployed.host.feed("tar -C / -x --no-same-owner", &archive(&entries)?).await?;
    deployed.host.run("systemd-tmpfiles --create; systemctl daemon-reload").await?;
    Ok(())
}

/// The same, with everything started and healthy.
pub(crate) async fn started(name: &str, lines: &str) -> Result<Deployed> {
    let deployed = written(name, lines).await?;
    deployed
        .host
        .run("systemctl start dispatcher-api.target dispatcher-postgresql dispatcher-redis dispatcher-rabbitmq")
        .await?;
    deployed.host.run("systemctl restart haproxy.service").await?;
    deployed.ensure_scale(variables(name, lines)?.scale()).await?;
    Ok(deployed)
}

fn archive(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        let path = entry.path.strip_prefix("/").unwrap_or(&entry.path);
        let mut header = tar::Header::new_gnu();
        match &entry.what {
            What::File { content, mode } => {
                header.set_size(u64::try_from(content.len())?);
                header.set_mode(*mode);
                archive.append_data(&mut header, path, content.as_bytes())?;
            }
            What::Link { target } => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                header.set_mode(0o777);
                archive.append_link(&mut header, path, Path::new(target))?;
            }
        }
    }
    Ok(archive.into_inner()?)
}

async fn store_secrets(deployed: &Deployed, variables: &Variables) -> Result<()> {
    let mut script = String::new();
    let password = |name: &str| Uuid::new_v5(&Uuid::NAMESPACE_DNS, name.as_bytes()).simple();
    for secret in variables.secrets() {
        let value = match secret.making {
            Making::SecretKeys => SECRET_KEYS.to_owned(),
            Making::Password => password(&secret.name).to_string(),
            Making::RedisUrl(of) => format!("redis://:{}@dispatcher-redis:6379/0", password(of)),
            Making::AmqpUrl(of) => {
                format!("amqp://dispatcher:{}@dispatcher-rabbitmq:5672/%2f", password(of))
            }
            Making::Given => continue,
        };
        writeln!(
            script,
            "printf %s '{value}' | podman secret create {} - >/dev/null",
            secret.name
        )?;
    }
    deployed.host.feed("sh -eu", script.as_bytes()).await?;
    Ok(())
}
