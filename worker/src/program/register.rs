//! `dispatcher-worker register`: the key is made and kept, then the token is spent.

use std::{
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use dispatcher_wire::registration::{RegisterReply, RegisterRequest, TOKEN_PREFIX};
use dispatcher_worker::{http::Service, identity::Identity, link::LinkError};

use super::{
    cli::{RegisterArgs, Settings},
    facts,
};

/// The credential of systemd that holds a token.
const CREDENTIAL: &str = "registration-token";
/// The most that a file with a token may have.
const MAX_TOKEN: u64 = 1024;
/// How often the dispatcher is asked where it is away.
const ATTEMPTS: u32 = 5;
/// How long is waited in between.
const PAUSE: Duration = Duration::from_secs(1);

/// Carries it out.
pub(super) async fn register(settings: &Settings, wish: &RegisterArgs) -> anyhow::Result<()> {
    let url = settings.url.as_deref().context(
        "no dispatcher is named: give its address with --url https://HOST or DISPATCHER_URL",
    )?;
    let service = settings.service(url)?;
    let token = token(wish)?;
    let files = settings.identity_files();
    let identity = files.prepare(url, wish.recipient)?;
    let request = RegisterRequest {
        recipient: identity.recipient,
        name: wish.name.clone().unwrap_or_else(facts::host_name),
        key: identity.key.clone(),
        facts: facts::gather(settings).await,
    };
    let RegisterReply { recipient, org_id, name } = spend(&service, &token, &request).await?;
    ensure!(
        recipient == identity.recipient,
        "the dispatcher registered another recipient: {recipient}"
    );
    files.confirm(&Identity { org_id: org_id.clone(), name: name.clone(), ..identity })?;
    println!("registered as {name} (recipient {recipient}) of organisation {org_id}");
    println!("start it: systemctl enable --now dispatcher-worker, or dispatcher-worker run");
    Ok(())
}

/// Repeats the same request until there is an answer: it is answered alike.
async fn spend(
    service: &Service,
    token: &str,
    request: &RegisterRequest,
) -> anyhow::Result<RegisterReply> {
    let mut attempt = 1;
    loop {
        match service.register(token, request).await {
            Ok(reply) => return Ok(reply),
            Err(LinkError::Unavailable(why)) if attempt < ATTEMPTS => {
                tracing::warn!(why, "no answer yet; the same registration is asked for again");
                tokio::time::sleep(PAUSE * attempt).await;
                attempt += 1;
            }
            Err(LinkError::Unavailable(why)) => bail!(
                "there is no answer: {why}. Nothing is lost: run the same command again, with the \
                 same token"
            ),
            Err(error) => bail!(error),
        }
    }
}

/// The token, from a file, from systemd, or from standard input.
fn token(wish: &RegisterArgs) -> anyhow::Result<String> {
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
        .map(|folder| PathBuf::from(folder).join(CREDENTIAL))
        .filter(|path| path.exists());
    let text = match wish.token_file.as_ref().or(credential.as_ref()) {
        Some(path) => from_file(path)?,
        None => from_stdin()?,
    };
    let token = text.trim();
    ensure!(
        token.starts_with(TOKEN_PREFIX),
        "what was given is no registration token: it does not begin with {TOKEN_PREFIX}; an operator \
         makes one with `dispatchctl recipients token create`"
    );
    Ok(token.to_owned())
}

fn from_file(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("the token cannot be read from {}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(cannot)?;
    file.take(MAX_TOKEN).read_to_string(&mut text).with_context(cannot)?;
    Ok(text)
}

fn from_stdin() -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("registration token:");
        let mut line = String::new();
        stdin.read_line(&mut line).context("the token cannot be read")?;
        return Ok(line);
    }
    let mut text = String::new();
    let read = stdin.lock().take(MAX_TOKEN).read_to_string(&mut text);
    read.context("the token cannot be read from standard input")?;
    Ok(text)
}
