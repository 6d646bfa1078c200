//! An image that never becomes healthy: `roll` says why, every instance is back on the old image,
//! and at no time were more than one of them away.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{deployed::Deployed, load};

/// An image whose program never answers its check.
const BROKEN: &str = "\
printf '#!/bin/sh\\n[ \"$1\" != healthcheck ] || exit 1\\nexec sleep 3600\\n' >/broken
chmod 755 /broken
podman create --name hollow localhost/dispatcher-api:1 >/dev/null
podman cp /broken hollow:/usr/bin/dispatcher-api
podman commit --quiet hollow localhost/dispatcher-api:broken >/dev/null
podman rm hollow >/dev/null
";

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_to_an_image_that_never_gets_healthy_goes_back() -> Result<()> {
    let deployed = Deployed::applied("hbroken", "dispatcher_api_start_timeout: 15\n").await?;
    let host = &deployed.host;
    host.run(BROKEN).await?;
    let images = "podman inspect --format '{{.ImageDigest}}' dispatcher-api-0 dispatcher-api-1 dispatcher-api-2 dispatcher-api-3";
    let before = host.run(images).await?;
    let load = load::start(&deployed.caller().await?).await?;
    let watched = watch(&deployed);
    let rolled = async {
        let output = deployed.quadletgen("roll --image localhost/dispatcher-api:broken").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        output
    };
    let (least, output) = tokio::join!(watched, rolled);
    let (least, output) = (least?, output?);
    let report = load.finish().await?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{text}");
    ensure!(!output.status.success(), "it succeeded");
    ensure!(text.contains("dispatcher-api@"), "which instance is not said: {text}");
    ensure!(host.run(images).await? == before, "not all are back on the old image");
    ensure!(least >= 3, "{least} of 4 instances were left at a time");
    load::ensure_whole(&report, "a roll that fails")?;
    deployed.ensure_scale(4).await
}

/// The fewest instances that HAProxy took for healthy while the roll was under way.
async fn watch(deployed: &Deployed) -> Result<usize> {
    let script = "
        least=99; begun=0
        for _ in $(seq 1200); do
            up=$(echo 'show stat' | socat stdio /run/haproxy/admin.sock | grep -c '^dispatcher_api,dispatcher-api-.*,UP') || :
            [ \"$up\" -ge \"$least\" ] || least=$up
            if pgrep -x quadletgen >/dev/null; then begun=1; elif [ $begun = 1 ]; then break; fi
            sleep 0.1
        done
        echo $least";
    let output = deployed.host.attempt(script).await?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}
