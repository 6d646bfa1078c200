//! The entrance of the base configuration: TLS, HTTP/2, client certificates, statistics.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use crate::{
    balancer::{Balancer, program},
    client::{header, once},
    instance::{Instance, Reply},
};

fn openssl(arguments: &[&str]) {
    let output = Command::new(program("openssl")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate for localhost that vouches for itself, with its key in the same file.
pub(crate) fn certificate(balancer: &Balancer) -> PathBuf {
    other_certificate(balancer, "localhost")
}

/// The same for a name.
pub(crate) fn other_certificate(balancer: &Balancer, name: &str) -> PathBuf {
    let at = |end: &str| balancer.path(&format!("{name}.{end}"));
    let (key, own, both) = (at("key"), at("crt"), at("pem"));
    let subject = format!("/CN={name}");
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        &subject,
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        key.to_str().unwrap(),
        "-out",
        own.to_str().unwrap(),
    ]);
    let text = [own, key].map(|file| std::fs::read_to_string(file).unwrap()).concat();
    std::fs::write(&both, text).unwrap();
    both
}

/// What curl gets; its last line is the version of HTTP and the status.
fn curl(balancer: &Balancer, arguments: &[&str]) -> Output {
    let certificate = balancer.path("localhost.crt");
    let url = format!("https://localhost:{}/x", balancer.tls_port);
    let resolve = format!("localhost:{}:127.0.0.1", balancer.tls_port);
    let mut command = Command::new(program("curl"));
    command.args(["-sS", "-m", "10", "-i", "-w", "\n%{http_version} %{http_code}"]);
    command.args(["--noproxy", "*", "--resolve", &resolve, "--cacert"]).arg(certificate);
    command.args(arguments).arg(url).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn with_tls(more: &str) -> (Balancer, Instance) {
    let mut balancer = Balancer::prepared("");
    let own = certificate(&balancer);
    other_certificate(&balancer, "gateway");
    other_certificate(&balancer, "stranger");
    let both = ["gateway.crt", "stranger.crt"]
        .map(|name| std::fs::read_to_string(balancer.path(name)).unwrap());
    std::fs::write(balancer.path("ca.pem"), both.concat()).unwrap();
    let variables = format!(
        "dispatcher_tls_certificate: {}\ndispatcher_tls_client_ca: {}\n{more}\
         dispatcher_api_container_scale: 1\n",
        own.display(),
        balancer.path("ca.pem").display()
    );
    balancer.render(&variables);
    let instance = Instance::on_socket(balancer.socket(0));
    balancer.run().await;
    balancer.until_up(1).await;
    (balancer, instance)
}

#[tokio::test(flavor = "multi_thread")]
async fn https_speaks_both_versions_and_says_what_it_is() {
    let (balancer, instance) = with_tls("dispatcher_haproxy_hsts_seconds: 60\n").await;
    for (version, expected) in [("--http2", "\n2 200"), ("--http1.1", "\n1.1 200")] {
        let answer = text(&curl(&balancer, &[version]));
        assert!(answer.ends_with(expected), "{answer}");
        assert!(answer.contains("strict-transport-security: max-age=60"), "{answer}");
    }
    let head = instance.heads().remove(0);
    assert_eq!(header(&head, "x-forwarded-proto").as_deref(), Some("https"));
    let old = curl(&balancer, &["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"]);
    assert!(!old.status.success());
    // Plain requests are sent there, but not those of this host, such as its worker's.
    assert_eq!(once(balancer.port, "GET", "/x", "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_certificate_of_a_gateway_speaks_for_others() {
    let names = "dispatcher_gateway_certificate_names: [other, gateway]\n";
    let (balancer, instance) = with_tls(names).await;
    let claim = ["-H", "x-rh-identity: claimed"];
    let with = |name: &str| balancer.path(&format!("{name}.pem")).display().to_string();
    let (gateway, stranger) = (with("gateway"), with("stranger"));
    let believed = |more: &[&str]| {
        let answer = text(&curl(&balancer, &[&claim, more].concat()));
        assert!(answer.ends_with(" 200"), "{answer}");
        header(instance.heads().last().unwrap(), "x-rh-identity").is_some()
    };
    assert!(!believed(&[]));
    assert!(believed(&["--cert", &gateway]));
    assert!(!believed(&["--cert", &stranger]));
    // One that no authority vouches for does not even get in.
    let unknown = other_certificate(&balancer, "unknown");
    assert!(!curl(&balancer, &["--cert", unknown.to_str().unwrap()]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_in_http2_is_not_cut() {
    let short = "dispatcher_haproxy_timeout_server: 1\ndispatcher_haproxy_timeout_client: 1\n\
                 dispatcher_haproxy_timeout_keep_alive: 1\n";
    let (balancer, instance) = with_tls(short).await;
    let apart = std::time::Duration::from_millis(2500);
    instance.replies(Reply::Stream { pieces: 1, apart });
    let answer = text(&curl(&balancer, &["--http2", "-H", "accept: text/event-stream"]));
    assert!(answer.contains(":\r\n") && answer.ends_with("\n2 200"), "{answer}");
}

#[tokio::test]
async fn statistics_are_for_people_and_for_prometheus() {
    let balancer = Balancer::start("").await;
    let page = once(balancer.stats_port, "GET", "/", "connection: close\r\n").await;
    assert_eq!(page.status, 200);
    let metrics = once(balancer.stats_port, "GET", "/metrics", "").await;
    assert_eq!(metrics.status, 200);
    let name = r#"haproxy_server_status{proxy="dispatcher_api",server="dispatcher-api-1""#;
    assert!(metrics.body.contains(name), "{}", metrics.body);
}
