//! Who a request comes from: what callers may claim, and what they may not.

use crate::{
    balancer::Balancer,
    client::{header, once},
    instance::Instance,
};

const CLAIMS: &str = "x-rh-identity: forged\r\nx-forwarded-for: 9.9.9.9\r\n\
                      x-forwarded-host: evil\r\nforwarded: for=9.9.9.9\r\nx-real-ip: 9.9.9.9\r\n";

async fn head_of(variables: &str, headers: &str) -> String {
    let mut balancer =
        Balancer::prepared(&format!("{variables}dispatcher_api_container_scale: 1\n"));
    let instance = Instance::on_socket(balancer.socket(0));
    balancer.run().await;
    balancer.until_up(1).await;
    assert_eq!(once(balancer.port, "GET", "/x?token=s3cr3t", headers).await.status, 200);
    crate::balancer::until("logged the request", async || balancer.log().contains(" GET ")).await;
    let log = balancer.log();
    assert!(log.contains(r#""/x""#) && !log.contains("s3cr3t"), "queries are not logged: {log}");
    instance.heads().remove(0)
}

#[tokio::test]
async fn strangers_are_nobody_but_themselves() {
    let head = head_of("", CLAIMS).await;
    assert_eq!(header(&head, "x-rh-identity"), None);
    assert_eq!(header(&head, "x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(header(&head, "x-forwarded-proto").as_deref(), Some("http"));
    for name in ["x-forwarded-host", "forwarded", "x-real-ip"] {
        assert_eq!(header(&head, name), None, "{name}");
    }
}

#[tokio::test]
async fn a_gateway_speaks_for_others() {
    let head = head_of("dispatcher_gateway_cidrs: [10.0.0.0/8, 127.0.0.0/8]\n", CLAIMS).await;
    assert_eq!(header(&head, "x-rh-identity").as_deref(), Some("forged"));
    assert_eq!(header(&head, "x-forwarded-for").as_deref(), Some("9.9.9.9"));
    let head = head_of("dispatcher_gateway_cidrs: [10.0.0.0/8]\n", CLAIMS).await;
    assert_eq!(header(&head, "x-rh-identity"), None);
}

#[tokio::test]
async fn the_id_of_a_request_is_the_callers_or_a_fresh_one() {
    const ID: &str = "x-rh-insights-request-id";
    let id = async |headers: &str| header(&head_of("", headers).await, ID).unwrap();
    assert_eq!(id("").await.len(), 36);
    assert_eq!(id("x-rh-insights-request-id: mine\r\nx-request-id: other\r\n").await, "mine");
    assert_eq!(id("x-request-id: other\r\n").await, "other");
    let long = "x".repeat(256);
    for bad in ["with blank", "", long.as_str()] {
        assert_eq!(id(&format!("{ID}: {bad}\r\n")).await.len(), 36, "{bad:?}");
    }
}
