//! The image: what is in it, as whom it runs, that it needs no writable root, that names are
//! resolved and TLS peers verified from inside.

use anyhow::{Result, ensure};

use crate::host::{Host, IMAGES};

/// Beside the image on a network of Podman's: a server of TLS with two names, one of them in its
/// certificate, which an authority of its own has signed. The program is the host's.
const PEER: &str = r#"
mkdir -p /peer && cd /peer
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj /CN=peer -keyout key.pem -out csr.pem 2>/dev/null
printf 'subjectAltName=DNS:peer\n' >names
openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem 2>/dev/null
chmod 644 ca.pem key.pem
podman network create peers >/dev/null
podman run --detach --network peers:alias=peer,alias=other --volume /usr:/usr:ro --volume /peer:/peer:ro \
    --entrypoint /usr/bin/openssl localhost/dispatcher-api:1 \
    s_server -accept 8443 -cert /peer/cert.pem -key /peer/key.pem -www >/dev/null
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_image_carries_every_program_for_somebody_who_is_not_root() -> Result<()> {
    let host = Host::with_images("himage", &["dispatcher-api"]).await?;
    let image = IMAGES[0];
    for program in
        ["dispatcher-api", "auth-tracker", "dispatchctl", "dispatcher-worker", "quadletgen"]
    {
        let sealed = "--read-only --cap-drop=all --security-opt=no-new-privileges --network=none";
        host.run(&format!(
            "podman run --rm {sealed} --entrypoint /usr/bin/{program} {image} --version"
        ))
        .await?;
    }
    let user = host.run(&format!("podman image inspect --format '{{{{.User}}}}' {image}")).await?;
    ensure!(user.trim() == "10001:10001", "the image runs as {user}");
    let bundle = "test -s /etc/ssl/certs/ca-certificates.crt";
    host.run(&format!("podman run --rm --entrypoint sh {image} -c '{bundle}'")).await?;
    let different = host.run("podman image inspect --format '{{.Digest}}' localhost/dispatcher-api:1 localhost/dispatcher-api:2");
    let different = different.await?;
    let digests: Vec<&str> = different.lines().collect();
    ensure!(digests.len() == 2 && digests[0] != digests[1], "two images: {digests:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn inside_the_image_names_are_resolved_and_peers_verified() -> Result<()> {
    let host = Host::with_images("hpeer", &["dispatcher-api"]).await?;
    host.run(PEER).await?;
    let ask = |authority: &str, name: &str| {
        format!(
            "podman run --rm --network=peers {authority} --entrypoint /usr/bin/dispatchctl \
             --env DISPATCHER_KEY=anything {image} --url https://{name}:8443 --org 1 runs list 2>&1 || :",
            image = IMAGES[0],
        )
    };
    let trusted = "--volume /peer/ca.pem:/ca.pem:ro --env SSL_CERT_FILE=/ca.pem";
    let verified = host.run(&ask(trusted, "peer")).await?;
    ensure!(!verified.contains("certificate") && !verified.contains("cannot reach"), "{verified}");
    let unknown = host.run(&ask("", "peer")).await?;
    ensure!(unknown.contains("UnknownIssuer"), "{unknown}");
    let other = host.run(&ask(trusted, "other")).await?;
    ensure!(other.contains("not valid for name"), "{other}");
    Ok(())
}
