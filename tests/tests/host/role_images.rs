//! Where the role takes packages and images from: an archive beside the playbook, a build on the host, a
//! registry that has a newer image of the same name. And what its handlers do.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use dispatcher_tests::ports;
use tokio::process::{Child, Command};

use crate::{
    deployed::Deployed,
    host::Host,
    playbook::Ansible,
    role::{ensure_as_found, found},
};

/// One instance, so that each step takes seconds, and a package that the host does not have.
const VARIABLES: &str = "\
dispatcher_api_image: localhost/dispatcher-api:1
dispatcher_postgresql_image: localhost/postgresql:test
dispatcher_redis_image: localhost/redis:test
dispatcher_rabbitmq_enabled: false
dispatcher_api_container_scale: 1
dispatcher_packages: [podman, haproxy, dispatcher-extra]
";

/// A repository of one package is all that the host's package manager has.
const REPOSITORY: &str = "\
mkdir -p /srv/packages/extra/DEBIAN /srv/packages/extra/usr/bin
printf '#!/bin/sh\\n' >/srv/packages/extra/usr/bin/dispatcher-extra
chmod 755 /srv/packages/extra/usr/bin/dispatcher-extra
printf 'Package: dispatcher-extra\\nVersion: 1\\nArchitecture: all\\nMaintainer: nobody <root@localhost>\\nDescription: a package\\n' \
    >/srv/packages/extra/DEBIAN/control
dpkg-deb --build /srv/packages/extra /srv/packages/dispatcher-extra_1_all.deb >/dev/null
cd /srv/packages
{ dpkg-deb --field dispatcher-extra_1_all.deb
  echo Filename: ./dispatcher-extra_1_all.deb
  echo Size: $(stat --format %s dispatcher-extra_1_all.deb)
  echo SHA256: $(sha256sum dispatcher-extra_1_all.deb | cut -d' ' -f1); } >Packages
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/packages ./' >/etc/apt/sources.list
apt-get update -q
";

/// Everything that a handler restarts notifies it.
const HANDLERS: &str = "\
- hosts: all
  become: true
  roles: [dispatcher_api]
  tasks:
    - ansible.builtin.command: 'true'
      changed_when: true
      notify: [Run backup, Restart dispatcher-api, Restart dispatcher-auth-tracker, Reload haproxy, Restart dispatcher-worker]
";

/// What shows that something was started anew, a line for each.
const SINCE: &str = "\
podman inspect --format '{{.State.StartedAt}}' dispatcher-api-0
podman inspect --format '{{.State.StartedAt}}' dispatcher-auth-tracker
systemctl show --property MainPID --value dispatcher-worker.service
echo 'show proc' | socat stdio /run/haproxy-master.sock | awk '$2 == \"worker\" { print $1; exit }'
ls /var/backups/dispatcher-api | wc -l
";

/// Where the archives of the hosts' images are.
fn archives() -> PathBuf {
    let cache = std::env::var_os("TESTHOST_DIR").unwrap_or_else(|| "/var/cache/testhost".into());
    PathBuf::from(cache).join("images")
}

/// A registry on this machine that one image is pushed to.
struct Registry {
    _process: Child,
    _files: tempfile::TempDir,
    /// Where hosts reach it.
    address: String,
}

impl Registry {
    async fn start(host: &Host) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let [one, two, three, _] = host.address.octets();
        let address = format!("{one}.{two}.{three}.1:{}", ports::free()?);
        let settings = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            files.path().join("images").display(),
        );
        let path = files.path().join("config.yml");
        std::fs::write(&path, settings)?;
        // Debian's name of it, and everybody else's.
        let process = serve("docker-registry", &path).or_else(|_| serve("registry", &path));
        let process = process.context("no docker-registry here: make test-host installs it")?;
        host.until(&format!("curl --silent --fail http://{address}/v2/")).await?;
        // Podman speaks plain HTTP only where it is told to.
        let plain = format!("[[registry]]\nlocation = '{address}'\ninsecure = true\n");
        host.feed("cat >/etc/containers/registries.conf.d/here.conf", plain.as_bytes()).await?;
        Ok(Self { _process: process, _files: files, address })
    }
}

fn serve(program: &str, settings: &Path) -> std::io::Result<Child> {
    let mut command = Command::new(program);
    command.arg("serve").arg(settings).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn()
}

/// The label of the image that the instance runs.
async fn made(host: &Host) -> Result<String> {
    let label = "podman inspect --format '{{index .Config.Labels \"made\"}}' dispatcher-api-0";
    Ok(host.run(label).await?.trim().to_owned())
}

/// An image around that of the service, told by a label.
fn context(made: &str) -> String {
    format!(
        "mkdir -p /srv/{made}; printf 'FROM localhost/dispatcher-api:1\\nLABEL made={made}\\n' >/srv/{made}/Containerfile"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_and_images_come_from_where_the_inventory_says() -> Result<()> {
    let deployed = Deployed { host: Host::up("hrfrom").await? };
    let host = &deployed.host;
    host.run(REPOSITORY).await?;
    let registry = Registry::start(host).await?;
    host.run(&[context("built"), context("pulled"), context("newer")].join("\n")).await?;
    let before = found(host).await?;

    let ansible = Ansible::new(&host.inventory().await?)?;
    let archive = |name: &str| archives().join(format!("{name}.tar")).display().to_string();
    let list = ["dispatcher-api", "postgresql", "redis"].map(archive).join(", ");
    ansible
        .file("group_vars/all.yml", &format!("{VARIABLES}dispatcher_image_archives: [{list}]\n"))?;
    ansible.site(&[]).await?;
    deployed.ensure_scale(1).await?;
    host.run("dispatcher-extra").await?;
    ansible.site(&[]).await?.ensure_unchanged()?;

    let built =
        "dispatcher_api_image=localhost/made-here:1 dispatcher_image_build_context=/srv/built";
    ansible.site(&["-e", built]).await?;
    ensure!(made(host).await? == "built");
    ansible.site(&["-e", built]).await?.ensure_unchanged()?;

    let name = format!("{}/dispatcher-api:stable", registry.address);
    // By another name, so that what the host has of this one is what the role has pulled.
    let push = |made: &str| {
        format!(
            "podman build --quiet --tag localhost/{made}:1 /srv/{made} >/dev/null
             podman push --quiet localhost/{made}:1 docker://{name}"
        )
    };
    host.run(&push("pulled")).await?;
    let pulled = format!("dispatcher_api_image={name} dispatcher_image_newest=true");
    ansible.site(&["-e", &pulled]).await?;
    ensure!(made(host).await? == "pulled");
    ansible.site(&["-e", &pulled]).await?.ensure_unchanged()?;
    host.run(&push("newer")).await?;
    ansible.site(&["-e", &pulled]).await?;
    ensure!(made(host).await? == "newer");
    ansible.site(&["-e", &pulled]).await?.ensure_unchanged()?;

    handlers(host, &ansible, &pulled).await?;
    ansible.site(&["-e", "dispatcher_api_state=absent dispatcher_remove_data=true"]).await?;
    ensure_as_found(host, &before).await
}

/// Whoever notifies a handler of the role's gets what it says.
async fn handlers(host: &Host, ansible: &Ansible, words: &str) -> Result<()> {
    let before = host.run(SINCE).await?;
    let play = ansible.file("handlers.yml", HANDLERS)?;
    ansible.play(&play, &["-e", words]).await?;
    let after = host.run(SINCE).await?;
    ensure!(before.lines().count() == 5 && after.lines().count() == 5, "{before}{after}");
    for (before, after) in before.lines().zip(after.lines()) {
        ensure!(before != after, "a handler did nothing: still {after}");
    }
    Ok(())
}
