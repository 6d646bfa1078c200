//! A user's own deployment: nobody's root, units of that user's systemd, instances on the loopback
//! address, and an HAProxy of the user's own that reads the rendered backend.

use anyhow::{Result, ensure};
use dispatcher_tests::{caller::Caller, steady::ensure_once};

use crate::{deployed::Deployed, load};

/// The user, with ids for containers and with services that outlive sessions; the images are that
/// user's, too.
const USER: &str = "\
useradd --create-home --shell /bin/bash op
grep -q '^op:' /etc/subuid && grep -q '^op:' /etc/subgid
loginctl enable-linger op
until test -S /run/user/$(id -u op)/bus; do sleep 0.1; done
";

/// HAProxy of a user: a base of that user's own, and the backend as it was rendered.
const BALANCER: &str = "\
mkdir -p ~/balancer
cat >~/balancer/base.cfg <<'END'
global
    stats socket /home/op/balancer/admin.sock mode 600 level operator
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend entrance
    bind *:8080
    default_backend dispatcher_api
END
haproxy -c -q -f ~/balancer/base.cfg -f ~/.config/dispatcher-api/haproxy
systemd-run --user --quiet --unit=balancer haproxy -W -db -f ~/balancer/base.cfg -f ~/.config/dispatcher-api/haproxy
";

/// What is rendered for it.
const BACKEND: &str = "~/.config/dispatcher-api/haproxy/10_backend_dispatcher_api.cfg";

/// A script of the shell as that user, in a session as a login makes one.
fn as_user(script: &str) -> String {
    let quoted = script.replace('\'', r"'\''");
    format!(
        "id=$(id -u op); cd /home/op; exec setpriv --reuid=op --regid=op --init-groups env -i HOME=/home/op USER=op \
         LANG=C.UTF-8 PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin XDG_RUNTIME_DIR=/run/user/$id \
         DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$id/bus sh -euc '{quoted}'"
    )
}

/// The host of a user who has been told nothing yet.
async fn lingering(name: &str) -> Result<Deployed> {
    let deployed = Deployed::bare(name).await?;
    let host = &deployed.host;
    host.run(USER).await?;
    host.run("podman save --quiet --multi-image-archive --output /home/op/images.tar $(podman images --format '{{.Repository}}:{{.Tag}}'); chown op /home/op/images.tar")
        .await?;
    host.run(&as_user("podman load --quiet --input images.tar")).await?;
    Ok(deployed)
}

async fn is_scale(deployed: &Deployed, wanted: usize) -> Result<()> {
    let list = "systemctl --user list-units --plain --no-legend --state=active 'dispatcher-api@*.service' | wc -l";
    let found = deployed.host.run(&as_user(list)).await?;
    ensure!(found.trim() == wanted.to_string(), "{found} instances instead of {wanted}");
    deployed.host.run(&as_user("quadletgen --user status")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_a_deployment_without_root() -> Result<()> {
    let deployed = lingering("huser").await?;
    let host = &deployed.host;
    let before = deployed.everything().await?;
    println!("{}", host.run(&as_user("quadletgen --user init; quadletgen --user apply")).await?);
    is_scale(&deployed, 4).await?;
    host.run(&as_user(BALANCER)).await?;
    let key =
        "podman secret inspect --showsecret --format '{{.SecretData}}' dispatcher-psk-operator";
    let key = host.run(&as_user(key)).await?;
    let caller = Caller::new(&format!("http://{}:8080", host.address), key.trim());
    // A run is dispatched, executed and followed, and much besides it, by way of that HAProxy.
    let load = load::start(&caller).await?;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let report = load.finish().await?;
    load::ensure_whole(&report, "a user's own")?;
    let names = "podman exec --interactive dispatcher-postgresql sh -c 'psql -U \"$POSTGRES_USER\" -d \"$POSTGRES_DB\" -At -c \"select playbook_name from runs\"'";
    ensure_once(&report, &host.run(&as_user(names)).await?)?;
    for (command, scale) in [
        ("scale 2", 2),
        ("roll --image localhost/dispatcher-api:2", 2),
        ("rollback", 2),
        ("scale 3", 3),
    ] {
        println!("{}", host.run(&as_user(&format!("quadletgen --user {command}"))).await?);
        is_scale(&deployed, scale).await?;
        // Whoever has an HAProxy has it read the backend again.
        host.run(&as_user(&format!("test $(grep -c '^    server ' {BACKEND}) = {scale}; systemctl --user kill --kill-whom=main --signal=USR2 balancer")))
            .await?;
        host.until("curl --silent --fail --max-time 5 http://127.0.0.1:8080/health/ready").await?;
    }
    ensure!(before == deployed.everything().await?, "the system's own files or containers changed");
    host.reboot().await?;
    host.until(&as_user("quadletgen --user status")).await?;
    gone(&deployed).await
}

async fn gone(deployed: &Deployed) -> Result<()> {
    let said = deployed.host.run(&as_user("quadletgen --user uninstall --data")).await?;
    let left = "podman ps --all --quiet; podman volume ls --quiet; podman secret ls --noheading
                find ~/.config/containers ~/.config/systemd -type f -name '*dispatcher*' 2>/dev/null || :
                systemctl --user list-units --all --plain --no-legend 'dispatcher-*'";
    let left = deployed.host.run(&as_user(left)).await?;
    ensure!(left.trim().is_empty(), "{left} is left: {said}");
    Ok(())
}
