//! An image that is not Dispatcher's scales, rolls and goes back like Dispatcher itself, and nothing
//! of Dispatcher's goes with it.

use anyhow::{Result, ensure};

use crate::{
    application::{self, Callers},
    deployed::Deployed,
};

/// What answers, asked often enough that every instance is.
async fn versions(deployed: &Deployed) -> Result<String> {
    let ask = "for n in $(seq 12); do curl --silent --show-error http://127.0.0.1/; done | sort -u";
    Ok(deployed.host.run(ask).await?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_http_image_scales_and_rolls() -> Result<()> {
    let deployed = application::prepared("hforeign").await?;
    let host = &deployed.host;
    let said = host.run("quadletgen init; quadletgen apply").await?;
    let secrets = host.run("podman secret ls --noheading").await?;
    ensure!(secrets.trim().is_empty(), "secrets for an image that knows none: {secrets} {said}");
    deployed.ensure_scale(2).await?;
    let units = "systemctl list-units --plain --no-legend 'dispatcher-*.service' | grep -v '^dispatcher-api@' || :";
    let units = host.run(units).await?;
    ensure!(units.lines().all(|unit| unit.starts_with("dispatcher-network.service")), "{units}");
    ensure!(versions(&deployed).await? == "one");
    for (script, scale, version) in [
        ("quadletgen scale 4", 4, "one"),
        ("quadletgen scale 2", 2, "one"),
        ("quadletgen roll --image localhost/app:two", 2, "two"),
        ("quadletgen rollback", 2, "one"),
        ("quadletgen scale 1", 1, "one"),
    ] {
        let callers = Callers::start(&deployed);
        let done = host.run(script).await;
        callers.finish(script).await?;
        done?;
        deployed.ensure_scale(scale).await?;
        ensure!(versions(&deployed).await? == version, "{script}: {}", versions(&deployed).await?);
    }
    host.run("quadletgen status").await?;
    goes(&deployed).await
}

async fn goes(deployed: &Deployed) -> Result<()> {
    deployed.host.run("quadletgen uninstall --data").await?;
    let left = "podman ps --all --quiet; find /etc/containers/systemd /etc/haproxy/conf.d -type f 2>/dev/null || :";
    let left = deployed.host.run(left).await?;
    ensure!(left.trim().is_empty(), "{left}");
    Ok(())
}
