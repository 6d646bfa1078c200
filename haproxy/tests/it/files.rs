//! HAProxy accepts what the templates make of any variables, and a mistake is found before it is
//! written, in whosever file it is.

use std::path::Path;

use dispatcher_haproxy::check::CheckError;

use crate::{
    balancer::Balancer,
    client::once,
    entrance::{certificate, other_certificate},
    instance::Instance,
};

#[tokio::test]
async fn every_shape_is_accepted_without_a_warning() {
    let mut balancer = Balancer::prepared("");
    let (own, authority) = (certificate(&balancer), other_certificate(&balancer, "ca"));
    let tls = format!("dispatcher_tls_certificate: {}\n", own.display());
    let shapes = [
        String::new(),
        "dispatcher_api_container_scale: 0\n".to_owned(),
        "dispatcher_api_container_scale: 64\n".to_owned(),
        "dispatcher_api_container_scale: 256\ndispatcher_api_upstream: tcp\n".to_owned(),
        "dispatcher_rate_limit_requests: 1\ndispatcher_gateway_cidrs: [\"::1/128\"]\n".to_owned(),
        "dispatcher_haproxy_stats_address: \"\"\ndispatcher_haproxy_source_maxconn: 0\n".to_owned(),
        "dispatcher_haproxy_addresses: [127.0.0.1, \"::1\"]\n".to_owned(),
        format!("{tls}dispatcher_haproxy_hsts_seconds: 100\n"),
        format!(
            "{tls}dispatcher_tls_client_ca: {}\ndispatcher_gateway_cidrs: [10.0.0.0/8]\n\
             dispatcher_gateway_certificate_names: [gate.example, \"a b {{}} %#\"]\n",
            authority.display()
        ),
    ];
    let mut rendered = String::new();
    for shape in shapes {
        balancer.render(&shape);
        rendered.extend(balancer.rendered(&shape).into_iter().map(|(_, text)| text));
        let warnings = balancer.files().check().await.unwrap_or_else(|e| panic!("{shape}: {e}"));
        assert!(warnings.is_empty(), "{shape}: {warnings:?}");
    }
    ensure_all_lines(&rendered);
}

/// The shape with the most in it serves, in whatever version of HAProxy this machine has; whatever a
/// status from 200 to 399 is, it is a healthy instance's, as it is for quadletgen.
#[tokio::test]
async fn everything_at_once_serves() {
    let mut balancer = Balancer::prepared("");
    let (own, authority) = (certificate(&balancer), other_certificate(&balancer, "ca"));
    balancer.render(&format!(
        "dispatcher_tls_certificate: {}\ndispatcher_tls_client_ca: {}\ndispatcher_haproxy_hsts_seconds: 100\n\
         dispatcher_gateway_cidrs: [10.0.0.0/8]\ndispatcher_gateway_certificate_names: [gate.example]\n\
         dispatcher_rate_limit_requests: 1000\ndispatcher_haproxy_source_maxconn: 10\n\
         dispatcher_api_container_scale: 1\n",
        own.display(),
        authority.display()
    ));
    assert_eq!(balancer.files().check().await.unwrap(), Vec::<String>::new());
    let instance = Instance::on_socket(balancer.socket(0));
    balancer.run().await;
    for (status, up) in [(200, 1), (503, 0), (204, 1), (400, 0), (302, 1), (500, 0), (399, 1)] {
        instance.says_of_its_health(status);
        balancer.until_up(up).await;
    }
    assert_eq!(once(balancer.port, "GET", "/x", "").await.status, 200);
    balancer.reload().await.unwrap();
    balancer.until_up(1).await;
    assert_eq!(once(balancer.port, "GET", "/x", "").await.status, 200);
    assert!(once(balancer.stats_port, "GET", "/metrics", "").await.status == 200);
}

/// Every line of the templates is in one of the shapes that were accepted.
fn ensure_all_lines(rendered: &str) {
    let templates = ["haproxy.cfg.j2", "10_backend_dispatcher_api.cfg.j2"];
    for template in templates {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates/haproxy").join(template);
        let text = std::fs::read_to_string(path).unwrap();
        for line in text.lines().filter(|line| !line.starts_with("{%")) {
            // What stands before the first value of a line.
            let fixed = line.split("{{").next().unwrap().trim_end();
            assert!(rendered.contains(fixed), "{template}: no shape has {fixed:?}");
        }
    }
}

#[tokio::test]
async fn somebody_elses_broken_file_is_named() {
    let balancer = Balancer::prepared("");
    let foreign = balancer.path("conf.d/20_other.cfg");
    std::fs::write(&foreign, "frontend other\n    bogus\n").unwrap();
    let error = balancer.files().check().await.unwrap_err();
    let CheckError::Refused { mistakes, .. } = &error else { panic!("{error}") };
    assert_eq!(mistakes.len(), 1);
    assert_eq!((&mistakes[0].file, mistakes[0].line, mistakes[0].is_ours), (&foreign, 2, false));
    let said = format!("{} line 2 (not a file of Dispatcher", foreign.display());
    assert!(error.to_string().contains(&said), "{error}");
}

#[tokio::test]
async fn files_are_checked_before_they_are_written() {
    let balancer = Balancer::prepared("");
    let files = balancer.files();
    let before = std::fs::read_to_string(balancer.backend_file()).unwrap();
    let candidate = balancer.rendered("dispatcher_api_container_scale: 3\n");
    files.check_with(&candidate).await.unwrap();
    let broken = vec![(balancer.backend_file(), before.replace("balance", "ballance"))];
    let error = files.check_with(&broken).await.unwrap_err();
    let CheckError::Refused { mistakes, output } = &error else { panic!("{error}") };
    assert_eq!((&mistakes[0].file, mistakes[0].is_ours), (&balancer.backend_file(), true));
    assert!(output.contains("ballance"), "{output}");
    assert_eq!(std::fs::read_to_string(balancer.backend_file()).unwrap(), before);
    // What is not there yet is checked, too: a first deployment.
    std::fs::remove_file(balancer.backend_file()).unwrap();
    files.check().await.unwrap_err();
    files.check_with(&candidate).await.unwrap();
    std::fs::remove_dir_all(balancer.path("conf.d")).unwrap();
    std::fs::remove_file(balancer.path("base.cfg")).unwrap();
    files.check_with(&candidate).await.unwrap();
}

#[tokio::test]
async fn the_backend_works_in_a_configuration_of_others() {
    let mut balancer = Balancer::prepared("dispatcher_api_container_scale: 1\n");
    let base = format!(
        "global\n    stats socket {}\n    maxconn 100\ndefaults\n    mode tcp\n    timeout client 5s\n    \
         timeout server 1ms\n    timeout connect 1ms\n    retries 0\nfrontend all\n    mode http\n    \
         bind 127.0.0.1:{}\n    default_backend dispatcher_api\n",
        balancer.path("stats.sock").display(),
        balancer.port
    );
    std::fs::write(balancer.path("base.cfg"), base).unwrap();
    let after = "backend after\n    server one 127.0.0.1:1\n";
    std::fs::write(balancer.path("conf.d/20_after.cfg"), after).unwrap();
    let instance = Instance::on_socket(balancer.socket(0));
    assert_eq!(balancer.files().check().await.unwrap(), Vec::<String>::new());
    balancer.run().await;
    balancer.until_up(1).await;
    let late = std::time::Duration::from_millis(300);
    instance.replies(crate::instance::Reply::Late(late));
    assert_eq!(once(balancer.port, "POST", "/x", "x-rh-identity: forged\r\n").await.status, 200);
    assert!(!instance.heads()[0].contains("forged"));
}
