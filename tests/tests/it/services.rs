//! The private services themselves: each starts, can be killed, halted and started again, and
//! nothing of it survives the process that started it.

use std::time::Duration;

use dispatcher_tests::{
    authority::Authority,
    redis::{Options, PrivateRedis},
};
use redis::AsyncCommands as _;

#[tokio::test]
async fn redis_comes_back_with_what_it_held_or_empty() {
    let redis = PrivateRedis::start().await.unwrap();
    let mut client = redis.client().await.unwrap();
    let (): () = client.set("a", "kept").await.unwrap();
    redis.process().kill().unwrap();
    client.get::<_, Option<String>>("a").await.unwrap_err();
    redis.restart().await.unwrap();
    let mut client = redis.client().await.unwrap();
    assert_eq!(client.get::<_, String>("a").await.unwrap(), "kept");

    redis.process().pause().unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(300), redis.client()).await;
    assert!(waiting.is_err(), "a halted Redis answered");
    redis.process().resume().unwrap();
    redis.client().await.unwrap();

    redis.flush().await.unwrap();
    let mut client = redis.client().await.unwrap();
    assert_eq!(client.get::<_, Option<String>>("a").await.unwrap(), None);
    let (): () = client.set("a", "lost").await.unwrap();
    redis.process().kill().unwrap();
    redis.restart_empty().await.unwrap();
    let mut client = redis.client().await.unwrap();
    assert_eq!(client.get::<_, Option<String>>("a").await.unwrap(), None);
}

#[tokio::test]
async fn redis_with_a_password_over_tls() {
    let authority = Authority::new().unwrap();
    let options = Options { password: Some("sesame"), authority: Some(&authority) };
    let redis = PrivateRedis::start_with(&options).await.unwrap();
    let mut client = redis.client().await.unwrap();
    let (): () = client.set("a", "b").await.unwrap();
    let plain = format!("redis://:sesame@127.0.0.1:{}/", redis.port());
    let plain = redis::Client::open(plain).unwrap();
    plain.get_multiplexed_async_connection().await.unwrap_err();
}
