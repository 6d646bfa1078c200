//! The oldest HAProxy that is said to do, in place of the host's: where this machine has another
//! version than hosts have, it is put onto one.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::{
    application::{self, Callers},
    host::Host,
};

/// Where it lies on the host.
const PROGRAM: &str = "/usr/local/sbin/haproxy-older";
/// Its version, `2.6`.
const VERSION: &str = "haproxy -v | sed -n 's/^HAProxy version \\([0-9]*\\.[0-9]*\\).*/\\1/p'";

/// This machine's, and its version.
async fn own() -> Result<Option<(Vec<u8>, String)>> {
    let path = Path::new("/usr/sbin/haproxy");
    if !path.exists() {
        return Ok(None);
    }
    let mut version = Command::new("sh");
    version.args(["-c", &format!("PATH=/usr/sbin:$PATH; {VERSION}")]);
    let version = String::from_utf8(version.output().await?.stdout)?;
    Ok(Some((std::fs::read(path)?, version.trim().to_owned())))
}

/// Puts it there with those of its libraries that the host lacks; whether it runs there.
async fn install(host: &Host, program: &[u8]) -> Result<bool> {
    host.feed(&format!("cat >{PROGRAM}; chmod 755 {PROGRAM}"), program).await?;
    let missing = host
        .run(&format!("ldd {PROGRAM} | sed -n 's/^[[:space:]]*\\([^ ]*\\) => not found/\\1/p'"))
        .await?;
    for library in missing.lines() {
        let directories =
            ["/lib", "/usr/lib"].map(|one| format!("{one}/{}-linux-gnu", std::env::consts::ARCH));
        let mut paths = directories.iter().map(|directory| Path::new(directory).join(library));
        let path = paths.find(|path| path.exists()).with_context(|| format!("no {library}"))?;
        host.feed(&format!("cat >/usr/local/lib/{library}"), &std::fs::read(path)?).await?;
    }
    host.run("ldconfig").await?;
    Ok(host.attempt(&format!("{PROGRAM} -v")).await?.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_haproxy_serves_as_well() -> Result<()> {
    let deployed = application::prepared("holder").await?;
    let host = &deployed.host;
    let of_host = host.run(VERSION).await?;
    let Some((program, version)) = own().await?.filter(|(_, own)| own != of_host.trim()) else {
        println!("SKIPPED, since this machine has no other HAProxy than hosts have, {of_host}");
        return Ok(());
    };
    if !install(host, &program).await? {
        println!("SKIPPED, since this machine's HAProxy {version} does not run on a host");
        return Ok(());
    }
    println!("HAProxy {version} in place of {of_host}");
    let lines =
        format!("dispatcher_haproxy_program: {PROGRAM}\ndispatcher_api_container_scale: 4\n");
    host.feed("sed -i /container_scale/d /etc/dispatcher-api/deploy.yml; cat >>/etc/dispatcher-api/deploy.yml", lines.as_bytes())
        .await?;
    host.run("quadletgen apply").await?;
    deployed.ensure_scale(4).await?;
    let running = host
        .run("echo 'show info' | socat stdio /run/haproxy/admin.sock | grep '^Version'")
        .await?;
    ensure!(running.contains(&version), "{running} runs instead of {version}");
    for (script, scale) in [
        ("quadletgen scale 6", 6),
        ("quadletgen scale 2", 2),
        ("systemctl reload haproxy", 2),
        ("quadletgen roll --image localhost/app:two", 2),
    ] {
        let callers = Callers::start(&deployed);
        let done = host.run(script).await;
        callers.finish(script).await?;
        done?;
        deployed.ensure_scale(scale).await?;
    }
    host.run("quadletgen status").await?;
    Ok(())
}
