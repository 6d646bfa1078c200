//! What several hosts of the service share, on a host of its own: PostgreSQL, Redis, RabbitMQ, a store.

use anyhow::{Context, Result};

use crate::host::Host;

/// The password of PostgreSQL, whose user is `dci` and whose database `dispatcher`.
pub(crate) const DATABASE_PASSWORD: &str = "secret-of-the-database";
/// The password of RabbitMQ, whose user is `dispatcher`.
pub(crate) const BROKER_PASSWORD: &str = "broker";
/// The key id of the store.
pub(crate) const ACCESS_KEY: &str = "store-key";
/// Its secret.
pub(crate) const SECRET_KEY: &str = "store-secret";
/// Its buckets.
pub(crate) const BUCKETS: [&str; 2] = ["dci-files", "dci-components"];

/// A host with all of them, on their usual ports; the store is on 9000.
pub(crate) async fn up(name: &str) -> Result<Host> {
    let host = Host::with_images(name, &["postgresql", "redis", "rabbitmq"]).await?;
    let home = std::env::var("HOME").context("HOME")?;
    let store = format!("{home}/.local/share/dispatcher/tools/bin/s3s-fs");
    let store = std::fs::read(&store).with_context(|| format!("{store}: run `make deps`"))?;
    host.feed("cat >/usr/local/bin/s3s-fs; chmod 755 /usr/local/bin/s3s-fs", &store).await?;
    host.run(&format!(
        "mkdir -p /srv/store/{} /srv/store/{}
         systemd-run --quiet s3s-fs --host 0.0.0.0 --port 9000 --access-key {ACCESS_KEY} --secret-key {SECRET_KEY} /srv/store
         podman run --quiet --detach --publish 5432:5432 --env POSTGRES_USER=dci --env POSTGRES_DB=dispatcher \
           --env 'POSTGRES_PASSWORD={DATABASE_PASSWORD}' --name postgresql localhost/postgresql:test
         podman run --quiet --detach --publish 6379:6379 --name redis localhost/redis:test \
           redis-server --bind 0.0.0.0 --protected-mode no
         podman run --quiet --detach --publish 5672:5672 --env RABBITMQ_DEFAULT_USER=dispatcher \
           --env RABBITMQ_DEFAULT_PASS={BROKER_PASSWORD} --name rabbitmq localhost/rabbitmq:test",
        BUCKETS[0], BUCKETS[1],
    ))
    .await?;
    host.until("podman exec postgresql pg_isready --quiet --host 127.0.0.1").await?;
    host.until("podman exec rabbitmq rabbitmq-diagnostics -q check_port_connectivity").await?;
    Ok(host)
}
