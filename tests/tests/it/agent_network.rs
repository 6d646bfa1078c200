//! The real worker in a network as there are: the service on PostgreSQL behind a balancer that speaks
//! TLS with a certificate of the company's own authority, and a proxy on the way out.

use dispatcher_tests::{
    agent_home::{self, AgentHome},
    authority::{Authority, CertificateFiles},
    haproxy::PrivateHaproxy,
    home::Home,
    ports,
    process::Service,
    proxy::ForwardProxy,
};
use dispatcher_wire::RunStatus;
use serde_json::json;

use crate::faults::executions;

/// A name that only the proxy can resolve.
const NAME: &str = "dispatcher.test";

/// A service whose address is that of the balancer.
struct Behind {
    home: Home,
    service: Service,
    _balancer: PrivateHaproxy,
    certificate: CertificateFiles,
    /// The address that everybody uses.
    url: String,
}

impl Behind {
    async fn start(host: &str) -> Self {
        let home = Home::postgres().await.unwrap();
        let address = format!("127.0.0.1:{}", ports::free().unwrap());
        // Where the service will listen.
        std::fs::write(home.path().join("address"), &address).unwrap();
        let authority = Authority::new().unwrap();
        let certificate = authority.issue(home.path(), &[host]).unwrap();
        let instances = [address.parse().unwrap()];
        let balancer = PrivateHaproxy::start_tls(&instances, &certificate).await.unwrap();
        let url = format!("https://{host}:{}", balancer.port());
        let variables = [("PUBLIC_URL", url.as_str()), ("LOCAL_WORKER", "false")];
        let service = home.start_with(&variables).await.unwrap();
        balancer.until_up(1).await.unwrap();
        Self { home, service, _balancer: balancer, certificate, url }
    }

    fn authority(&self) -> &str {
        self.certificate.authority.to_str().unwrap()
    }

    /// Registers a worker, which executes one run; its log.
    async fn executes(&self, variables: &[(&str, &str)]) -> String {
        let state = self.home.path().join("agent");
        let agent =
            AgentHome::register_at(&self.service, &state, "worker", &self.url, variables).await;
        let agent = agent.unwrap();
        let mut running = agent.start(&self.service, variables).await.unwrap();
        let marker = self.home.path().join("marker");
        let playbook = format!(
            "- hosts: all\n  gather_facts: false\n  tasks:\n    \
             - ansible.builtin.shell: echo executed >> {}\n    \
             - ansible.builtin.debug:\n        msg: \"{{{{ word }}}} all done\"\n",
            marker.display()
        );
        let stored = self.service.put_playbook("work", playbook).await.unwrap();
        assert!(stored.starts_with(&self.url), "{stored}");
        let inputs = json!({ "inputs": { "extra_vars": { "word": "inputs came," } } });
        let id = agent.dispatch(&self.service, &stored, &inputs).await.unwrap();
        let (run, log) = self.service.ended(id).await.unwrap();
        assert_eq!(run.status, RunStatus::Success, "{log}{}", running.log());
        assert!(log.contains("inputs came, all done"), "{log}");
        assert_eq!(executions(&marker), 1);
        running.stop().await.unwrap();
        running.log()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_by_an_authority_of_ones_own() {
    let behind = Behind::start("localhost").await;
    let untrusting = behind.home.path().join("untrusting");
    let token = agent_home::token(&behind.service, &json!({ "name": "x" })).await.unwrap();
    let arguments = ["register", "--url", &behind.url];
    let refused = agent_home::command(&untrusting, &arguments, &token).await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.to_lowercase().contains("certificate"), "{said}");
    behind.executes(&[("WORKER_TLS_CA_FILE", behind.authority())]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_proxy_that_wants_a_password() {
    let behind = Behind::start(NAME).await;
    let proxy = ForwardProxy::start().await.unwrap();
    let (address, authority) = (proxy.url(), behind.authority());
    let log =
        behind.executes(&[("WORKER_PROXY", &address), ("WORKER_TLS_CA_FILE", authority)]).await;
    let targets = proxy.targets();
    let wanted = behind.url.trim_start_matches("https://");
    assert!(!targets.is_empty() && targets.iter().all(|target| target == wanted), "{targets:?}");
    assert!(!log.contains("hunter2"), "{log}");
}
