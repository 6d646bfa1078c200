//! `make image`: its script builds an image of programs, on a host with nothing but Podman.

use anyhow::{Result, ensure};

use crate::host::{Host, IMAGES};

/// What `scripts/image.sh` needs of the repository, and programs that were built elsewhere.
const SOURCE: [(&str, &str); 2] = [
    ("/source/Containerfile", include_str!("../../../Containerfile")),
    ("/source/scripts/image.sh", include_str!("../../../scripts/image.sh")),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_built_where_podman_is() -> Result<()> {
    let host = Host::with_images("hbuild", &["debian", "dispatcher-api"]).await?;
    host.run("mkdir -p /source/scripts /programs").await?;
    for (path, text) in SOURCE {
        host.feed(&format!("cat >{path}"), text.as_bytes()).await?;
    }
    let programs =
        ["dispatcher-api", "auth-tracker", "dispatchctl", "dispatcher-worker", "quadletgen"];
    host.run(&format!("podman create --name parts {} >/dev/null", IMAGES[0])).await?;
    for program in programs {
        host.run(&format!("podman cp parts:/usr/bin/{program} /programs/")).await?;
    }
    // Podman's own limits are more than this machine may allow its root.
    let limits = r#"printf '[containers]\ndefault_ulimits=["nofile=1024:%s","nproc=%s:%s"]\n' $(ulimit -Hn) $(ulimit -Su) $(ulimit -Hu)"#;
    let limits = format!("bash -euc '{}'", limits.replace('\'', "'\\''"));
    host.run(&format!("{limits} >/etc/containers/containers.conf.d/limits.conf")).await?;
    let build = "cd /; PREBUILT=programs BASE=localhost/debian:test IMAGE=localhost/built:9 bash source/scripts/image.sh 2>&1";
    println!("{}", host.run(build).await?);
    for program in programs {
        let version = format!(
            "podman run --rm --network none --read-only --entrypoint {program} localhost/built:9 --version"
        );
        host.run(&version).await?;
    }
    let about = "podman image inspect --format '{{.User}} {{.Config.Entrypoint}} {{.Config.StopSignal}}' localhost/built:9";
    let about = host.run(about).await?;
    ensure!(about.trim() == "10001:10001 [/usr/bin/dispatcher-api] SIGTERM", "{about}");
    let missing = host
        .attempt("rm /programs/dispatchctl; PREBUILT=/programs bash /source/scripts/image.sh")
        .await?;
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    ensure!(!missing.status.success() && said.contains("/programs/dispatchctl"), "{said}");
    let left = host.run("ls -d /tmp/tmp.* 2>/dev/null || :").await?;
    ensure!(left.is_empty(), "the context is left: {left}");
    Ok(())
}
