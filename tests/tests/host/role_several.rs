//! Instances on two hosts, HAProxy on a third, the tracker on one: a host that dies takes along what is
//! in flight there, and is sent to again when it is back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dispatcher_tests::{caller::Caller, steady::Failure};

use crate::{
    host::{Host, PATIENCE},
    load,
    playbook::Ansible,
    role::{ensure_as_found, found},
    services::{self, ACCESS_KEY, BROKER_PASSWORD, DATABASE_PASSWORD, SECRET_KEY},
};

/// The variables of the example inventory for several hosts.
const BALANCERS: &str =
    include_str!("../../../inventories/several/group_vars/dispatcher_balancers.yml");
/// How long HAProxy may take to see that nobody answers: two checks, each with its own patience.
const SEEN_WITHIN: Duration = Duration::from_secs(8);

struct Several {
    services: Host,
    one: Host,
    two: Host,
    balancer: Host,
}

impl Several {
    async fn up() -> Result<Self> {
        Ok(Self {
            services: services::up("hrshared").await?,
            one: Host::with_images("hrone", &["dispatcher-api"]).await?,
            two: Host::with_images("hrtwo", &["dispatcher-api"]).await?,
            balancer: Host::with_images("hrfront", &["dispatcher-api"]).await?,
        })
    }

    async fn ansible(&self) -> Result<Ansible> {
        let ansible = Ansible::new(&format!(
            "[dispatcher_api]\n{} dispatcher_api_auth_tracking_enabled=true\n{}\n[dispatcher_balancers]\n{}\n",
            self.one.inventory().await?,
            self.two.inventory().await?,
            self.balancer.inventory().await?,
        ))?;
        let (shared, front) = (self.services.address, self.balancer.address);
        ansible.file(
            "group_vars/all.yml",
            &format!("dispatcher_api_image: localhost/dispatcher-api:1\ndispatcher_public_url: http://{front}\n"),
        )?;
        ansible.file(
            "group_vars/dispatcher_api.yml",
            &format!(
                "dispatcher_api_container_scale: 2\ndispatcher_api_auth_tracking_enabled: false\n\
                 dispatcher_haproxy_enabled: false\ndispatcher_api_publish_address: '{{{{ ansible_host }}}}'\n\
                 dispatcher_balancer_cidrs: [{front}/32]\ndispatcher_backup_enabled: false\n\
                 dbhost: {shared}\ndbuser: dci\ndbpassword: {DATABASE_PASSWORD}\n\
                 dispatcher_redis_url: redis://{shared}:6379/0\n\
                 amqp_broker_url: amqp://dispatcher:{BROKER_PASSWORD}@{shared}:5672/%2f\n\
                 store_engine: s3\nstore_files_container: dci-files\nstore_components_container: dci-components\n\
                 store_s3_aws_region: us-east-1\nstore_s3_endpoint_url: http://{shared}:9000\n\
                 store_s3_aws_access_key_id: {ACCESS_KEY}\nstore_s3_aws_secret_access_key: {SECRET_KEY}\n"
            ),
        )?;
        let plain = BALANCERS.lines().filter(|line| !line.contains("tls_certificate"));
        let plain: Vec<&str> = plain.collect();
        ansible.file("group_vars/dispatcher_balancers.yml", &plain.join("\n"))?;
        Ok(ansible)
    }

    async fn caller(&self) -> Result<Caller> {
        let show =
            "podman secret inspect --showsecret --format '{{.SecretData}}' dispatcher-psk-operator";
        let [key, other] = [self.one.run(show).await?, self.two.run(show).await?];
        ensure!(key == other, "the hosts have different keys");
        Ok(Caller::new(&format!("http://{}", self.balancer.address), key.trim()))
    }

    /// So many servers are up in HAProxy.
    async fn until_up(&self, count: u32) -> Result<()> {
        let up = format!(
            "test \"$(echo 'show stat' | socat stdio /run/haproxy/admin.sock | grep -c '^dispatcher_api,hr.*,UP,')\" = {count}"
        );
        self.balancer.until(&up).await
    }
}

/// The cable of a host: it is as good as dead without.
async fn cable(host: &Host, state: &str) -> Result<()> {
    let last = host.address.octets()[3];
    let link = format!("th-{last}");
    let set = tokio::process::Command::new("ip").args(["link", "set", &link, state]).status();
    ensure!(set.await.context("ip")?.success(), "ip link set {link} {state}");
    Ok(())
}

/// A host dies for a while, under load: only what was in flight when it died may fail.
async fn survives(several: &Several, host: &Host) -> Result<()> {
    let load = load::start(&several.caller().await?).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let died = load.elapsed();
    cable(host, "down").await?;
    several.until_up(2).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    cable(host, "up").await?;
    several.until_up(4).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let report = load.finish().await?;
    println!("a host dies: {}", report.summary());
    let is_stranger = |failure: &&Failure| failure.from > died + SEEN_WITHIN || failure.to < died;
    let strangers: Vec<String> =
        report.failures.iter().filter(is_stranger).map(Failure::line).collect();
    ensure!(strangers.is_empty(), "not in flight when the host died at {died:?}: {strangers:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_several_may_die() -> Result<()> {
    let several = Several::up().await?;
    let ansible = several.ansible().await?;
    let hosts = [&several.one, &several.two, &several.balancer];
    let mut before = Vec::new();
    for host in hosts {
        before.push(found(host).await?);
    }
    ansible.site(&[]).await?;
    several.until_up(4).await?;
    ansible.site(&[]).await?.ensure_unchanged()?;
    survives(&several, &several.two).await?;
    // The tracker's: instances go on with what they have, and ask the sources themselves.
    survives(&several, &several.one).await?;
    let begun = Instant::now();
    several.one.until("systemctl is-active dispatcher-auth-tracker.service").await?;
    ensure!(begun.elapsed() < PATIENCE);
    ansible.site(&["-e", "dispatcher_api_state=absent dispatcher_remove_data=true"]).await?;
    for (host, before) in hosts.into_iter().zip(&before) {
        ensure_as_found(host, before).await?;
    }
    Ok(())
}
