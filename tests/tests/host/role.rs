//! The role, from bare hosts: a service, a worker on another host, nothing left to change; what somebody
//! does by hand is overruled; runs that are killed are repaired; removed, the hosts are as they were.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    deployed::{Deployed, differences},
    host::{Host, is_long},
    killed::random,
    playbook::Ansible,
};

const PLAYBOOK: &str = "\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.copy: {content: 'by Dispatcher', dest: /etc/dispatched, mode: '0640'}
";

/// Dispatched by the command line's own tool, through HAProxy.
const RUN: &str = "\
cat >/root/play.yml
DISPATCHER_KEY=$(podman secret inspect --showsecret --format '{{.SecretData}}' dispatcher-psk-operator)
export DISPATCHER_KEY DISPATCHER_ORG=default
dispatchctl --url http://127.0.0.1 run /root/play.yml --recipient hrworker --follow 2>&1
";

/// Everything that the toolkit may leave on a host: what Podman and systemd know, and every file, link and
/// directory where configuration, programs and state are. Dumps stay by intent. The directory of HAProxy's
/// further files, and that of Podman's networks which Podman makes, may stay empty.
const LEFT: &str = "\
podman ps --all --quiet; podman volume ls --quiet; podman secret ls --noheading
podman network ls --quiet --filter name=dispatcher
find /var/lib/dispatcher* /run/dispatcher* /srv 2>/dev/null || :
find /etc /usr/local -xdev -type f -exec sha256sum {} + | sort -k2
find /etc /usr/local -xdev ! -type f ! -path /etc/haproxy/conf.d ! -path /etc/containers/networks \
  -printf '%p %y %l\\n' | sort
systemctl list-units --all --plain --no-legend 'dispatcher-*'
";

/// What a host is like, as far as the toolkit may change it.
pub(crate) async fn found(host: &Host) -> Result<String> {
    host.run(LEFT).await
}

/// A host is as it was found.
pub(crate) async fn ensure_as_found(host: &Host, before: &str) -> Result<()> {
    let difference = differences(before, &found(host).await?);
    ensure!(difference.is_empty(), "not as it was found:\n{difference}");
    Ok(())
}

/// A host with images and nothing else, quadletgen included.
pub(crate) async fn bare(name: &str) -> Result<Deployed> {
    let deployed = Deployed::bare(name).await?;
    deployed.host.run("rm /usr/local/bin/quadletgen").await?;
    Ok(deployed)
}

async fn works(api: &Deployed, worker: &Host) -> Result<()> {
    api.ensure_scale(4).await?;
    api.host.until("systemctl is-active dispatcher-auth-tracker.service").await?;
    worker.run("rm -f /etc/dispatched").await?;
    worker.until("systemctl is-active dispatcher-worker.service").await?;
    let said = api.host.feed(RUN, PLAYBOOK.as_bytes()).await?;
    ensure!(said.contains("success"), "{said}");
    let file = worker.run("stat --format '%U %a' /etc/dispatched").await?;
    ensure!(file.trim() == "root 640", "{file}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_hosts_become_a_service_with_a_worker_elsewhere() -> Result<()> {
    let api = bare("hrapi").await?;
    let worker = Host::up("hrworker").await?;
    let ansible = Ansible::new(&format!(
        "[dispatcher_api]\n{}\n[dispatcher_workers]\n{}\n[all:vars]\ndispatcher_public_url=http://{}\n",
        api.host.inventory().await?,
        worker.inventory().await?,
        api.host.address,
    ))?;
    let before = [found(&api.host).await?, found(&worker).await?];
    let shown = ansible.site(&["--check", "--diff"]).await?.text;
    ensure!(shown.contains("+ContainerName=dispatcher-api-%i"), "no difference is shown: {shown}");
    ensure_as_found(&api.host, &before[0]).await?;

    ansible.site(&[]).await?;
    works(&api, &worker).await?;
    ansible.site(&[]).await?.ensure_unchanged()?;
    ansible.site(&["--check"]).await?.ensure_unchanged()?;
    api.host.reboot().await?;
    worker.reboot().await?;
    works(&api, &worker).await?;

    ansible.site(&["-e", "dispatcher_api_state=absent"]).await?;
    let kept = api.host.run("podman ps --quiet; podman volume ls --quiet").await?;
    ensure!(kept.trim().lines().count() == 4, "volumes are kept, and nothing runs: {kept}");
    ansible.site(&["-e", "dispatcher_api_state=absent"]).await?.ensure_unchanged()?;
    ansible.site(&["-e", "dispatcher_api_state=absent dispatcher_remove_data=true"]).await?;
    ensure_as_found(&api.host, &before[0]).await?;
    // What the playbook has put there is not the toolkit's.
    worker.run("rm /etc/dispatched").await?;
    ensure_as_found(&worker, &before[1]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_killed_are_repaired_by_the_next() -> Result<()> {
    let api = bare("hrkilled").await?;
    let ansible = Ansible::new(&api.host.inventory().await?)?;
    let before = found(&api.host).await?;
    let count: u32 = if is_long() { 20 } else { 4 };
    // Over the whole of a run, from its first tasks to the last instance.
    let (mut killed, mut longest) = (0, 40.0);
    while killed < count {
        let after = Duration::from_secs_f64(1.0 + longest * random());
        let scale = format!("dispatcher_api_container_scale={}", 2 + killed % 3);
        if ansible.killed(after, &["-e", &scale]).await? {
            killed += 1;
        } else {
            longest = after.as_secs_f64();
        }
    }
    ansible.site(&["-e", "dispatcher_api_container_scale=3"]).await?;
    api.ensure_scale(3).await?;
    ansible.site(&["-e", "dispatcher_api_container_scale=3"]).await?.ensure_unchanged()?;
    api.host.run("quadletgen status").await?;
    ansible.site(&["-e", "dispatcher_api_state=absent dispatcher_remove_data=true"]).await?;
    ensure_as_found(&api.host, &before).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dci_has_left_is_listed_and_removed_when_told_to() -> Result<()> {
    let host = Host::up("hradopt").await?;
    host.run(
        "mkdir -p /etc/containers/systemd /etc/dci-api /etc/haproxy/conf.d
         printf '[Container]\\nImage=localhost/none\\n' >/etc/containers/systemd/dci-api@.container
         ln -s dci-api@.container /etc/containers/systemd/dci-api@0.container
         echo DB_HOST=db >/etc/dci-api/dci-api.env
         echo '# a backend' >/etc/haproxy/conf.d/10_backend_dci_api.cfg",
    )
    .await?;
    let ansible = Ansible::new(&host.inventory().await?)?;
    let listed = ansible.site(&["--tags", "adopt"]).await?;
    listed.ensure_unchanged()?;
    for part in ["dci-api@0.container", "/etc/dci-api/dci-api.env", "10_backend_dci_api.cfg"] {
        ensure!(listed.text.contains(part), "{part}: {}", listed.text);
    }
    ansible.site(&["--tags", "adopt", "-e", "dispatcher_adopt_remove=true"]).await?;
    let left = host.run("find /etc -name '*dci*' ! -path '/etc/*/.*'").await?;
    ensure!(left.trim().is_empty(), "{left}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_in_a_container_or_elsewhere_is_told_by_a_command() -> Result<()> {
    let api = bare("hrtold").await?;
    let ansible = Ansible::new(&api.host.inventory().await?)?;
    let variables = "{dispatcher_haproxy_base: false, haproxy_config_dir: /srv/balancer, \
                     dispatcher_haproxy_program: /srv/none, dispatcher_haproxy_stats_socket: /srv/none.sock, \
                     dispatcher_haproxy_reload_command: [sh, -c, 'cat /srv/balancer/*.cfg >/srv/read || :'], \
                     dispatcher_api_upstream: tcp, dispatcher_redis_enabled: false, dispatcher_rabbitmq_enabled: false, \
                     dispatcher_worker_enabled: false, dispatcher_api_container_scale: 1}";
    ansible.site(&["-e", variables]).await?;
    let count = "grep -c '^    server dispatcher-api-' /srv/read";
    ensure!(api.host.run(count).await?.trim() == "1", "it was not told");
    ansible.site(&["-e", variables]).await?.ensure_unchanged()?;
    ansible.site(&["-e", variables, "-e", "dispatcher_api_container_scale=2"]).await?;
    ensure!(api.host.run(count).await?.trim() == "2", "it was not told of the second");
    api.host.run("rm /srv/read").await?;
    let absent = "dispatcher_api_state=absent dispatcher_remove_data=true";
    ansible.site(&["-e", variables, "-e", absent]).await?;
    let left = api.host.run("find /srv/balancer -type f; podman ps --all --quiet").await?;
    ensure!(left.trim().is_empty(), "{left}");
    Ok(())
}
