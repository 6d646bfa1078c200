//! An inventory that was written for DCI's role: its documentation's example, with the names of role,
//! image and database changed and the store's address added, deploys; unchanged, it is told which.

use anyhow::{Result, ensure};

use crate::{
    playbook::Ansible,
    role::bare,
    services::{self, ACCESS_KEY, DATABASE_PASSWORD, SECRET_KEY},
};

/// The example of the documentation of DCI's role, as far as it names variables.
const PLAY: &str = "\
- hosts: dci_api_servers
  become: true
  vars:
    dci_api_container_scale: 4
    dci_api_container_network: quadlet.network
    dci_redis_url: 'redis://redis.example.com:6379/0'
    dci_api_auth_tracking_enabled: true
    dbhost: postgres.example.com
    dbuser: dci
    dbpassword: '{{ vault_db_password }}'
    DATABASE
    sqlalchemy_pool_size: 5
    sqlalchemy_max_overflow: 10
    apihost: 0.0.0.0
    api_log_level: INFO
    gunicorn_nb_workers: 4
    gunicorn_worker_connections: 200
    gunicorn_timeout: 60
    store_engine: s3
    store_files_container: dci-files
    store_components_container: dci-components
    store_s3_aws_access_key_id: '{{ vault_s3_access_key }}'
    store_s3_aws_secret_access_key: '{{ vault_s3_secret_key }}'
    store_s3_aws_region: us-east-1
    store_s3_endpoint_url: 'http://s3.example.com:9000'
    zmq_conn: 'tcp://zmq.example.com:5555'
    max_content_length_mb: 1024
    analytics_url: 'https://analytics.example.com'
    amqp_broker_url: 'amqp://rabbitmq.example.com'
    certification_url: 'https://certification.example.com'
    sso_public_key: '{{ vault_sso_public_key }}'
    sso_audiences: ['dci-api']
    sso_read_only_group: 'dci-readonly'
    sso_url: 'https://sso.example.com'
    sso_realm: 'dci'
    rhdl_service_account_access_key: '{{ vault_rhdl_access_key }}'
    rhdl_service_account_secret_key: '{{ vault_rhdl_secret_key }}'
    haproxy_config_dir: /etc/haproxy/conf.d
  roles:
    - dispatcher_api
";

fn vault(public_key: &str) -> String {
    let key = public_key.replace('\n', "\\n");
    format!(
        "vault_db_password: {DATABASE_PASSWORD}\nvault_s3_access_key: {ACCESS_KEY}\nvault_s3_secret_key: {SECRET_KEY}\n\
         vault_rhdl_access_key: one\nvault_rhdl_secret_key: two\nvault_sso_public_key: \"{key}\"\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inventory_for_dcis_role_deploys() -> Result<()> {
    let services = services::up("hrseedof").await?;
    let api = bare("hrseed").await?;
    let hosts = format!(
        "echo '{} postgres.example.com redis.example.com rabbitmq.example.com s3.example.com' >>/etc/hosts
         mkdir -p /etc/containers/systemd; printf '[Network]\\n' >/etc/containers/systemd/quadlet.network",
        services.address
    );
    api.host.run(&hosts).await?;
    let key =
        api.host.run("openssl genrsa 2048 2>/dev/null | openssl rsa -pubout 2>/dev/null").await?;
    let ansible = Ansible::new(&format!("[dci_api_servers]\n{}\n", api.host.inventory().await?))?;
    let vault = format!("@{}", ansible.file("vault.yml", &vault(&key))?.display());

    let theirs = ansible.file("theirs.yml", &PLAY.replace("DATABASE", "dbname: dci"))?;
    let (is_done, said) = ansible.attempt(&theirs, &["-e", &vault]).await?;
    ensure!(!is_done && said.contains("set dispatcher_db_name instead"), "{said}");

    let database =
        "dispatcher_db_name: dispatcher\n    dispatcher_api_image: localhost/dispatcher-api:1";
    let ours = ansible.file("ours.yml", &PLAY.replace("DATABASE", database))?;
    let said = ansible.play(&ours, &["-vv", "-e", &vault]).await?.text;
    for secret in [DATABASE_PASSWORD, SECRET_KEY] {
        ensure!(!said.contains(secret), "a secret is shown: {said}");
    }
    api.ensure_scale(4).await?;
    api.host.run("systemctl is-active dispatcher-auth-tracker.service").await?;
    ansible.play(&ours, &["-e", &vault]).await?.ensure_unchanged()?;
    let files = "grep -rlF -e secret-of-the-database -e store-secret /etc /usr/local/libexec || :";
    let found = api.host.run(files).await?;
    ensure!(found.trim().is_empty(), "a secret is in {found}");
    api.host.run("dispatcher-backup").await?;

    ansible
        .play(
            &ours,
            &["-e", &vault, "-e", "dispatcher_api_state=absent dispatcher_remove_data=true"],
        )
        .await?;
    let left = api.host.run("podman ps --all --quiet; podman secret ls --noheading").await?;
    ensure!(left.trim().is_empty(), "{left}");
    Ok(())
}
