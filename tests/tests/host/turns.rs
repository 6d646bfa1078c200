//! From one image to another and back, what is only shown, what is said to programs: every command,
//! and the exit statuses that are documented.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    application,
    deployed::{Deployed, differences},
};

/// What the instances answer.
async fn versions(deployed: &Deployed) -> Result<String> {
    let ask = "for n in $(seq 12); do curl --silent --show-error http://127.0.0.1/; done | sort -u";
    Ok(deployed.host.run(ask).await?.trim().replace('\n', " "))
}

/// It ends with this status and says all of this.
async fn ended(deployed: &Deployed, arguments: &str, status: i32, said: &[&str]) -> Result<()> {
    let output = deployed.quadletgen(arguments).await?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(
        output.status.code() == Some(status),
        "quadletgen {arguments}: {}: {text}",
        output.status
    );
    for part in said {
        ensure!(text.contains(part), "quadletgen {arguments} does not say {part:?}: {text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_turned_over_and_back() -> Result<()> {
    let deployed = application::applied("hturns").await?;
    let before = deployed.everything().await?;
    ended(&deployed, "apply", 0, &["nothing to do"]).await?;
    ensure!(before == deployed.everything().await?, "a second apply changes something");
    ended(&deployed, "rollback", 2, &["no image to go back to"]).await?;
    only_shown(&deployed).await?;
    kept(&deployed).await?;
    back_by_digest(&deployed).await?;
    told(&deployed).await?;
    statuses(&deployed).await
}

/// `--dry-run` prints what it would do, and nothing is changed.
async fn only_shown(deployed: &Deployed) -> Result<()> {
    let edit = "echo 'dispatcher_settings: {COLOUR: red}' >>/etc/dispatcher-api/deploy.yml";
    deployed.host.run(edit).await?;
    let before = deployed.everything().await?;
    for (arguments, said) in [
        ("apply --dry-run", &["+COLOUR=", "restart dispatcher-api@0", "nothing was changed"][..]),
        ("scale 3 --dry-run", &["+dispatcher_api_container_scale: 3", "start dispatcher-api@2"]),
        ("scale 1 --dry-run", &["-    server dispatcher-api-1", "let dispatcher-api@1 drain"]),
        (
            "roll --dry-run --image localhost/app:two",
            &["+dispatcher_api_image: \"localhost/app:two\""],
        ),
    ] {
        ended(deployed, arguments, 0, said).await?;
        let after = deployed.everything().await?;
        let changed = differences(&before, &after);
        ensure!(changed.is_empty(), "{arguments} has changed {changed}");
    }
    ended(deployed, "diff", 2, &["+COLOUR="]).await?;
    deployed.host.run("sed -i /COLOUR/d /etc/dispatcher-api/deploy.yml; quadletgen diff").await?;
    Ok(())
}

/// An image that is never well stays where it was tried, and is left by a rollback.
async fn kept(deployed: &Deployed) -> Result<()> {
    let said = ["dispatcher-api@0.service did not", "I am three", "--keep", "quadletgen rollback"];
    ended(deployed, "roll --image localhost/app:three --keep --timeout 10", 6, &said).await?;
    let image = "podman ps --all --filter name=dispatcher-api-0 --format '{{.Image}}'";
    let three = "podman image inspect --format '{{.Digest}}' localhost/app:three";
    let same = format!("case $({image}) in *$({three})) ;; *) exit 1 ;; esac");
    deployed.host.until(&same).await.context("the image that failed is not left")?;
    ensure!(versions(deployed).await? == "one", "{}", versions(deployed).await?);
    ended(deployed, "status", 8, &["dispatcher-api@0"]).await?;
    ended(deployed, "rollback", 0, &[]).await?;
    deployed.ensure_scale(2).await?;
    ensure!(versions(deployed).await? == "one", "{}", versions(deployed).await?);
    ended(deployed, "status", 0, &[]).await
}

/// The image before this one, though another has its tag by now.
async fn back_by_digest(deployed: &Deployed) -> Result<()> {
    let host = &deployed.host;
    host.run("quadletgen roll --image localhost/app:two").await?;
    host.run("podman tag localhost/app:three localhost/app:one").await?;
    let before = deployed.everything().await?;
    ended(deployed, "rollback --dry-run", 0, &["+dispatcher_api_image: \"localhost/app:one\""])
        .await?;
    ensure!(before == deployed.everything().await?, "rollback --dry-run changes something");
    for version in ["one", "two", "one"] {
        host.run("quadletgen rollback").await?;
        ensure!(
            versions(deployed).await? == version,
            "not {version}: {}",
            versions(deployed).await?
        );
        host.run(&format!("grep -qx 'dispatcher_api_image: \"localhost/app:{version}\"' /etc/dispatcher-api/deploy.yml"))
            .await?;
        // And it stays: what its tag means by now is a matter of the next roll.
        ended(deployed, "apply", 0, &["nothing to do"]).await?;
    }
    deployed.ensure_scale(2).await
}

/// What programs and people read.
async fn told(deployed: &Deployed) -> Result<()> {
    let status: Value =
        serde_json::from_str(&deployed.host.run("quadletgen status --json").await?)?;
    ensure!(status["scale"] == 2 && status["drift"] == Value::Array(Vec::new()), "{status:#}");
    let instances = status["instances"].as_array().context("instances")?;
    let is_well = |one: &Value| {
        one["state"] == "active"
            && one["health"] == "healthy"
            && one["haproxy"] == "up"
            && one["is_current"] == true
    };
    ensure!(instances.len() == 2 && instances.iter().all(is_well), "{status:#}");
    let names = status["images"].as_array().context("images")?.iter().map(|image| &image["named"]);
    let expected = ["one", "two", "one", "two", "one"].map(|tag| format!("localhost/app:{tag}"));
    ensure!(names.eq(expected.iter()), "{status:#}");
    ended(deployed, "logs 1 -n 1000", 0, &["I am one", "I am two"]).await?;
    ended(deployed, "logs -n 5", 0, &["dispatcher-api-"]).await?;
    ended(deployed, "logs haproxy -n 5", 0, &["haproxy"]).await?;
    ended(deployed, "logs kitchen", 2, &["`kitchen`", "the number of an instance"]).await
}

/// The statuses that no other test is about.
async fn statuses(deployed: &Deployed) -> Result<()> {
    let host = &deployed.host;
    let held = "flock /var/lib/dispatcher-api/lock quadletgen apply";
    ensure!(host.attempt(held).await?.status.code() == Some(3), "the lock is not told");
    host.run("echo mine >'/etc/containers/systemd/dispatcher-api@2.container'").await?;
    ended(deployed, "scale 3", 4, &["dispatcher-api@2.container"]).await?;
    host.run("rm '/etc/containers/systemd/dispatcher-api@2.container'").await?;
    host.run("printf 'backend x\\n    colour red\\n' >/etc/haproxy/conf.d/90_x.cfg").await?;
    ended(deployed, "scale 3", 5, &["90_x.cfg"]).await?;
    host.run("rm /etc/haproxy/conf.d/90_x.cfg").await?;
    let user = "setpriv --reuid=65534 --clear-groups quadletgen status";
    ensure!(host.attempt(user).await?.status.code() == Some(7), "who is not root is not told");
    host.run("systemctl stop dispatcher-api@1.service").await?;
    ended(deployed, "status", 8, &["dispatcher-api@1"]).await?;
    ended(deployed, "apply", 0, &["dispatcher-api@1 healthy"]).await?;
    // Told to end while it works, it ends after the step it is at, and the next one does the rest.
    let told = "quadletgen scale 3 >/tmp/said 2>&1 & child=$!
                until grep -q 'files written' /tmp/said; do sleep 0.02; done
                kill -TERM $child; wait $child";
    let output = host.attempt(told).await?;
    ensure!(
        output.status.code() == Some(130),
        "{}: {}",
        output.status,
        host.run("cat /tmp/said").await?
    );
    ended(deployed, "apply", 0, &["3 instances"]).await?;
    deployed.ensure_scale(3).await
}
