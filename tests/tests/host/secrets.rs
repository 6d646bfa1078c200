//! Whatever is in a secret or a setting arrives in the process unchanged.

use anyhow::{Result, ensure};

use crate::rendered;

/// Secrets, with everything that a shell, systemd, Podman or YAML may take for something else.
const VALUES: [&str; 8] = [
    "$HOME ${PATH} $$ %i %% %n # ; & | < > ( ) * ? ~ !",
    "quotes \" and ' and ` and \\ and \\\\ and \\\" end",
    "  blanks before, after and  between\t ",
    "a line\nand another\n\nand one after an empty one",
    "not a line: \\n, not a tab: \\t, not a byte: \\x41 \\101",
    "grüße, 日本語, \u{1f512}, e\u{301}",
    "=leading equals, {{ braces }}, {% percent %}, @at, :colon, -dash",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo\n4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0/IzW7yWR7QkrmBL7jTKEn5u\n+qKhbwKfBstIs+bMY2Zkp18gnTxKLxoS2tFczGkPLPgizskuemMghRniWaoLcyeh\n-----END PUBLIC KEY-----\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_a_secret_arrives() -> Result<()> {
    let mut lines = String::from(
        "dispatcher_api_container_scale: 1\ndispatcher_worker_enabled: false\ndispatcher_secrets:\n",
    );
    for n in 0..VALUES.len() {
        lines.push_str(&format!("  VALUE_{n}: value-{n}\n"));
    }
    let deployed = rendered::written("hsecret", &lines).await?;
    let host = &deployed.host;
    for (n, value) in VALUES.iter().enumerate() {
        let create = format!("podman secret create value-{n} - >/dev/null");
        host.feed(&create, value.as_bytes()).await?;
    }
    host.run("systemctl start dispatcher-postgresql dispatcher-redis dispatcher-rabbitmq dispatcher-api@0").await?;
    let environment =
        "cat /proc/$(podman inspect --format '{{.State.Pid}}' dispatcher-api-0)/environ";
    let output = host.attempt(environment).await?;
    let found: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
    for (n, value) in VALUES.iter().enumerate() {
        let wanted = format!("VALUE_{n}={value}");
        let name = format!("VALUE_{n}=");
        let is = found.iter().find(|variable| variable.starts_with(name.as_bytes()));
        let is = is.map(|variable| String::from_utf8_lossy(variable));
        ensure!(is.as_deref() == Some(wanted.as_str()), "{wanted:?} arrives as {is:?}");
    }
    // Nowhere but there.
    let seen = host
        .run("journalctl --boot --no-pager -o cat; cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        .await?;
    ensure!(
        !seen.contains("MIIBIjANBgkqhkiG9w0"),
        "a secret is in the journal or on a command line"
    );
    Ok(())
}
