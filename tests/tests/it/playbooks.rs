//! Stored playbooks through HTTP: put, named, listed, served by signed addresses, refused.

use dispatcher_api::playbooks::{address, put::Shelf};
use dispatcher_tests::{
    foreign::gzip,
    process::BASE,
    service::{InProcess, ORG},
};
use dispatcher_wire::view::{Page, PlaybookView, Problem};
use reqwest::{Client, Method, Response, StatusCode};
use time::{Duration, OffsetDateTime};

const FILE: &str = "- hosts: all\n";

async fn put(service: &InProcess, name: &str, content: impl Into<reqwest::Body>) -> Response {
    let path = format!("{BASE}/playbooks/{name}");
    service.request(Method::PUT, &path).body(content).send().await.unwrap()
}

async fn stored(service: &InProcess, name: &str, content: Vec<u8>) -> PlaybookView {
    let answer = put(service, name, content).await;
    answer.error_for_status().unwrap().json().await.unwrap()
}

async fn code(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    (status, answer.json::<Problem>().await.unwrap().error_code)
}

fn signed(service: &InProcess, url: &str, seconds: i64) -> String {
    let expires = OffsetDateTime::now_utc() + Duration::seconds(seconds);
    let app = &service.app;
    address::sign(&app.keyring, &app.settings.dispatch.public_url, ORG, url, expires)
}

fn tar(paths: &[&str]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for path in paths {
        let mut header = tar::Header::new_ustar();
        header.set_size(FILE.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, FILE.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

#[tokio::test]
async fn a_file_is_stored_once_named_and_served() {
    let service = InProcess::start().await.unwrap();
    let first = put(&service, "site.yml", FILE).await;
    assert_eq!(first.status(), StatusCode::CREATED);
    let view: PlaybookView = first.json().await.unwrap();
    assert_eq!((view.name.as_str(), view.size, view.entry.as_deref()), ("site.yml", 13, None));
    assert!(view.url.ends_with(&format!("/playbook-content/{ORG}/{}", view.sha256)));
    assert_eq!(put(&service, "site.yml", FILE).await.status(), StatusCode::OK);
    let copy = stored(&service, "copy", FILE.into()).await;
    assert_eq!((&copy.url, &copy.sha256), (&view.url, &view.sha256));
    assert_eq!(service.objects("playbooks").unwrap(), 2, "one content and its description");
    assert_eq!(service.objects("playbooks-incoming").unwrap(), 0);

    let answer = Client::new().get(signed(&service, &view.url, 60)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "text/yaml");
    assert_eq!(answer.headers()["content-length"], "13");
    let tag = answer.headers()["etag"].clone();
    assert_eq!(tag.to_str().unwrap(), format!("\"{}\"", view.sha256));
    assert!(!answer.headers().contains_key("dispatcher-playbook-entry"));
    assert_eq!(answer.text().await.unwrap(), FILE);
    let again = Client::new().get(signed(&service, &view.url, 60)).header("if-none-match", tag);
    assert_eq!(again.send().await.unwrap().status(), StatusCode::NOT_MODIFIED);

    let one = service.request(Method::GET, &format!("{BASE}/playbooks/copy"));
    let one: PlaybookView = one.send().await.unwrap().json().await.unwrap();
    assert_eq!(one.url, view.url);
    let list = service.request(Method::GET, &format!("{BASE}/playbooks?limit=1"));
    let list: Page<PlaybookView> = list.send().await.unwrap().json().await.unwrap();
    assert_eq!((list.data[0].name.as_str(), list.meta.total), ("copy", 2));
    assert!(list.links.next.unwrap().ends_with("playbooks?limit=1&offset=1"));
}

#[tokio::test]
async fn a_bundle_is_served_with_its_entry() {
    let service = InProcess::start().await.unwrap();
    let plain = tar(&["site.yml", "roles/x/tasks/main.yml"]);
    for content in [plain.clone(), gzip(&plain).unwrap()] {
        let view = stored(&service, "bundle", content.clone()).await;
        assert_eq!(view.entry.as_deref(), Some("site.yml"));
        let answer = Client::new().get(signed(&service, &view.url, 60)).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/x-tar");
        assert_eq!(answer.headers()["dispatcher-playbook-entry"], "site.yml");
        assert_eq!(answer.bytes().await.unwrap(), content);
    }
    let other = put(&service, "other?entry=roles/x/tasks/main.yml", plain).await;
    assert_eq!(code(other).await, (409, "other_entry".to_owned()));
    let elsewhere = put(&service, "web?entry=web.yml", tar(&["web.yml"])).await;
    let elsewhere: PlaybookView = elsewhere.json().await.unwrap();
    assert_eq!(elsewhere.entry.as_deref(), Some("web.yml"));
}

#[tokio::test]
async fn replacing_a_playbook_changes_no_run_that_waits() {
    let service = InProcess::start().await.unwrap();
    let old = stored(&service, "site.yml", FILE.into()).await;
    let new = stored(&service, "site.yml", b"- hosts: none\n".to_vec()).await;
    assert_ne!(old.url, new.url);
    for (url, content) in [(old.url, FILE), (new.url, "- hosts: none\n")] {
        let answer = Client::new().get(signed(&service, &url, 60)).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), content);
    }
}

#[tokio::test]
async fn contents_without_a_name_are_swept_once_they_are_old() {
    let service = InProcess::start().await.unwrap();
    let old = stored(&service, "site.yml", FILE.into()).await;
    let new = stored(&service, "site.yml", b"- hosts: none\n".to_vec()).await;
    let body = futures_util::stream::iter([Ok::<_, String>(bytes::Bytes::from_static(b"x"))]);
    service.app.objects.write("playbooks-incoming/left", body, 10).await.unwrap();
    let shelf = Shelf::of(&service.app);
    let now = OffsetDateTime::now_utc();
    assert_eq!(shelf.sweep(now - Duration::hours(1)).await.unwrap(), 0);
    assert_eq!(shelf.sweep(now + Duration::hours(1)).await.unwrap(), 2);
    for (url, status) in [(&old.url, 404), (&new.url, 200)] {
        let answer = Client::new().get(signed(&service, url, 60)).send().await.unwrap();
        assert_eq!(answer.status(), status);
    }
    assert_eq!(service.objects("").unwrap(), 2);
    let again = stored(&service, "site.yml", FILE.into()).await;
    assert_eq!(again.url, old.url);
}

#[tokio::test]
async fn content_needs_its_own_signature() {
    let service = InProcess::start().await.unwrap();
    let view = stored(&service, "site.yml", FILE.into()).await;
    let good = signed(&service, &view.url, 60);
    let other = stored(&service, "other", b"- hosts: none\n".to_vec()).await;
    let query = good.split_once('?').unwrap().1;
    for bad in [
        view.url.clone(),
        signed(&service, &view.url, -1),
        format!("{good}0"),
        good.replace("expires=", "expires=1"),
        format!("{}?{query}", other.url),
        format!("{}?{query}", view.url.replace(ORG, "org-2")),
        format!("{}?{query}", view.url.to_uppercase().replace("HTTP", "http")),
        format!("{}?expires=x&signature=y", view.url),
    ] {
        let answer = Client::new().get(&bad).send().await.unwrap();
        let status = answer.status();
        assert!(status == 403 || status == 404 && bad.contains("PLAYBOOK"), "{bad}: {status}");
    }
    let missing = view.url.replace(&view.sha256, &"ab".repeat(32));
    let answer = Client::new().get(signed(&service, &missing, 60)).send().await.unwrap();
    assert_eq!(code(answer).await, (404, "content_not_found".to_owned()));
}

#[tokio::test]
async fn what_is_not_a_playbook_is_refused_and_leaves_nothing() {
    let service =
        InProcess::start_with(&[("PLAYBOOK_MAX_SIZE", "20480")], |stores| stores).await.unwrap();
    let long = vec![b'#'; 20_481];
    for (name, content, status, error) in [
        (".hidden", FILE.into(), 400, "playbook_name_invalid"),
        ("a%2Fb", FILE.into(), 400, "playbook_name_invalid"),
        ("long", long, 413, "playbook_too_large"),
        ("empty", Vec::new(), 400, "playbook_invalid"),
        ("binary", vec![0xFF, 0xFE], 400, "playbook_invalid"),
        ("no-entry", tar(&["other.yml"]), 400, "playbook_invalid"),
        ("cut", gzip(&tar(&["site.yml"])).unwrap()[..50].to_vec(), 400, "playbook_invalid"),
        ("site?entry=../site.yml", tar(&["site.yml"]), 400, "playbook_invalid"),
        ("site?entry=site.yml", FILE.into(), 400, "playbook_invalid"),
    ] {
        let answer = put(&service, name, content).await;
        assert_eq!(code(answer).await, (status, error.to_owned()), "{name}");
    }
    assert_eq!(service.objects("").unwrap(), 0);
    let list = service.request(Method::GET, &format!("{BASE}/playbooks"));
    let list: Page<PlaybookView> = list.send().await.unwrap().json().await.unwrap();
    assert_eq!(list.meta.total, 0);
    let one = service.request(Method::GET, &format!("{BASE}/playbooks/site.yml"));
    assert_eq!(code(one.send().await.unwrap()).await, (404, "playbook_not_found".to_owned()));
    let page = service.request(Method::GET, &format!("{BASE}/playbooks?limit=0"));
    assert_eq!(code(page.send().await.unwrap()).await, (400, "invalid_page".to_owned()));
}

#[tokio::test]
async fn organisations_do_not_see_each_others_playbooks() {
    let service = InProcess::start().await.unwrap();
    stored(&service, "site.yml", FILE.into()).await;
    let path = format!("{}{BASE}/playbooks/site.yml", service.url);
    let other = Client::new()
        .get(&path)
        .header("authorization", format!("PSK {}", dispatcher_tests::service::KEY))
        .header("x-dispatcher-org", "org-2");
    assert_eq!(other.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(Client::new().get(&path).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    let nobody = Client::new().put(&path).body(FILE).send().await.unwrap();
    assert_eq!(nobody.status(), StatusCode::BAD_REQUEST, "no identity, as the contract says");
}
