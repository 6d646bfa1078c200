//! The object store in buckets, over a server that speaks S3 and checks signatures.

use bytes::Bytes;
use dispatcher_api::{
    config::{
        storage::S3Settings,
        tls::{Timeouts, TlsSettings},
    },
    storage::{Listed, Objects, StorageError},
    tls,
};
use dispatcher_tests::s3::{ACCESS_KEY, PrivateS3, REGION, SECRET_KEY};
use futures_util::{Stream, TryStreamExt, stream};

fn settings(s3: &PrivateS3) -> S3Settings {
    S3Settings {
        files: "made-for-uploads".to_owned(),
        components: "made-for-playbooks".to_owned(),
        key_id: ACCESS_KEY.to_owned(),
        key: SECRET_KEY.to_owned().into(),
        region: REGION.to_owned(),
        endpoint: Some(s3.url()),
    }
}

fn objects(settings: &S3Settings) -> Objects {
    let patience = std::time::Duration::from_secs(10);
    let timeouts = Timeouts { connect: patience, read: patience };
    let client = tls::http_client(&TlsSettings::default(), &timeouts).unwrap();
    Objects::buckets(settings, &client).unwrap()
}

fn pieces(sizes: &[usize]) -> impl Stream<Item = Result<Bytes, String>> + Unpin {
    stream::iter(sizes.iter().map(|size| Ok(Bytes::from(vec![7; *size]))).collect::<Vec<_>>())
}

async fn length(objects: &Objects, key: &str) -> Option<usize> {
    let read = objects.read(key).await.unwrap()?;
    let content: Vec<Bytes> = read.pieces.try_collect().await.unwrap();
    let length = content.iter().map(Bytes::len).sum();
    assert_eq!(read.size, length as u64);
    Some(length)
}

async fn keys(objects: &Objects, prefix: &str) -> Vec<String> {
    let mut all: Vec<Listed> = objects.list(prefix).try_collect().await.unwrap();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all.into_iter().map(|found| found.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_made_and_hold_objects_like_a_directory() {
    let s3 = PrivateS3::start().await.unwrap();
    let objects = objects(&settings(&s3));
    assert!(objects.check().await.unwrap_err().lasting, "there is no bucket yet");
    objects.prepare().await.unwrap();
    objects.prepare().await.unwrap();
    objects.check().await.unwrap();
    for (key, sizes) in [
        ("uploads/small", &[10, 20][..]),
        ("uploads/empty", &[]),
        ("playbooks-incoming/large", &[3 << 20, 4 << 20, 5 << 20, 1]),
    ] {
        let whole: usize = sizes.iter().sum();
        assert_eq!(objects.write(key, pieces(sizes), 1 << 30).await.unwrap(), whole as u64);
        assert_eq!(length(&objects, key).await, Some(whole), "{key}");
    }
    assert_eq!(keys(&objects, "uploads").await, ["uploads/empty", "uploads/small"]);
    for _ in 0..2 {
        objects.rename("playbooks-incoming/large", "playbooks/o/1").await.unwrap();
        assert!(!objects.exists("playbooks-incoming/large").await.unwrap());
    }
    assert_eq!(length(&objects, "playbooks/o/1").await, Some((12 << 20) + 1));
    assert!(objects.rename("playbooks/nothing", "playbooks/o/2").await.is_err());
    for _ in 0..2 {
        objects.delete("uploads/small").await.unwrap();
    }
    assert!(!objects.exists("uploads/small").await.unwrap());
    assert_eq!(length(&objects, "uploads/small").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_or_cut_is_not_kept_in_a_bucket() {
    let s3 = PrivateS3::start().await.unwrap();
    let objects = objects(&settings(&s3));
    objects.prepare().await.unwrap();
    for sizes in [&[600, 600][..], &[6 << 20, 6 << 20]] {
        let limit = sizes.iter().sum::<usize>() as u64 - 1;
        let long = objects.write("uploads/a", pieces(sizes), limit).await;
        assert!(matches!(long, Err(StorageError::TooLarge(_))));
        let first = Bytes::from(vec![7; sizes[0]]);
        let cut = stream::iter([Ok(first), Err("cut")]);
        let cut = objects.write("uploads/a", cut, 1 << 30).await;
        assert!(matches!(cut, Err(StorageError::Source(_))));
        assert!(!objects.exists("uploads/a").await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_no_reason_to_wait_and_a_server_that_is_away_is() {
    let s3 = PrivateS3::start().await.unwrap();
    let right = settings(&s3);
    let wrong = S3Settings { key: "hunter2".to_owned().into(), ..right.clone() };
    let refused = objects(&wrong).prepare().await.unwrap_err();
    let text = refused.to_string();
    assert!(refused.lasting && text.contains("AWS_SECRET_ACCESS_KEY"), "{text}");
    assert!(!text.contains("hunter2") && !format!("{wrong:?}").contains("hunter2"), "{text}");
    let objects = objects(&right);
    objects.prepare().await.unwrap();
    objects.write("uploads/a", pieces(&[10]), 10).await.unwrap();
    s3.process().kill().unwrap();
    let away = objects.check().await.unwrap_err();
    assert!(!away.lasting && away.to_string().contains("made-for"), "{away}");
    assert!(!away.to_string().contains("Signature"), "{away}");
    s3.restart().await.unwrap();
    objects.check().await.unwrap();
    assert_eq!(length(&objects, "uploads/a").await, Some(10));
}
