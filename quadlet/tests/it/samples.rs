//! Many different sets of variables: for each variable values that are allowed, by trial, then sets
//! of them by chance with a fixed seed. A new variable takes part without a word here.

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use quadletgen::{
    jinja::Context,
    variables::{Facts, Variables, spec},
};
use serde_json::{Value, json};

/// What is tried for every variable. What it does not allow is sorted out.
fn candidates() -> Vec<Value> {
    let texts = [
        "plain",
        "a b  c ",
        "a$b${c}$$",
        "#x # y",
        "50%i %% %n",
        "say \"hi\" 'x'",
        "back\\slash \\n \\\\",
        "żółć ✓ 日本",
        "{{ not }} {% a %} {# template #}",
        "true",
        "-----BEGIN PUBLIC KEY-----\nabc+/=\n-----END PUBLIC KEY-----\n",
        "http://example.com:8080/x",
        "redis://redis.example.com:6379/0",
        "registry.example.com/d:1.2@sha256:0123",
        "other.network",
        "1000:1000",
        "0",
        "512M",
        "150%",
        "10.1.2.3",
        "10.1.0.0/16",
        "/srv/some/where",
        "/health/ready",
        "unix",
        "tcp",
        "healthy",
        "s3",
        "file",
        "s3v4",
        "127.0.0.1:9999",
        "::",
    ];
    let mut all: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
    all.extend([0, 1, 2, 7, 30, 300, 5001, 20_000, 200_000, 1_000_000_000].map(|n| json!(n)));
    all.extend([json!(true), json!(false), json!([]), json!({})]);
    all.extend(texts.iter().map(|text| json!([text, "second"])));
    all.push(json!(["10.0.0.0/8", "192.168.0.0/16"]));
    all.push(json!(["AddHost=db:10.0.0.7", "Volume=/a:/b:ro"]));
    all.push(json!(texts.iter().filter(|text| !text.contains('\n')).collect::<Vec<_>>()));
    all.push(json!({
        "RETENTION_RUNS": "30d", "LOCAL_WORKER": true, "EVENTS_KEEP": 604_800, "EMPTY": "",
        "LOG_LEVEL": "debug", "ODD": "a $b #c %d \"e\" 'f' \\g \\n `h` żółć  ",
        "SSO_PUBLIC_KEY": "a\nb\r\nc", "TRACKER_METRICS_PORT": 9102, "Z_": "{{ x }}",
    }));
    all.push(json!({ "WAKEUPS": "off", "REDIS_URL": "redis://r:1/0", "DB_HOST": "h" }));
    all.push(
        json!({ "DATABASE_URL": "my-database", "REDIS_URL": "my.redis", "AMQP_URL": "my_amqp" }),
    );
    all.push(
        json!({ "PSK_AUTH_OPERATOR": "", "PSK_AUTH_BILLING": "billing", "DB_PASSWORD": "pw" }),
    );
    all
}

/// The facts of some host.
pub(crate) fn facts(number: usize) -> Facts {
    Facts {
        hostname: format!("web{number}.example.com"),
        selinux: number % 3 == 1,
        rootless: number % 4 == 3,
    }
}

/// Sets of variables that are allowed, always the same; the first is empty.
pub(crate) fn sets(wanted: usize) -> Vec<Context> {
    let all = candidates();
    let pools: Vec<(String, Vec<Value>)> = spec::all()
        .unwrap()
        .iter()
        .map(|variable| {
            let fits = all.iter().filter(|value| variable.accept(value).is_ok()).cloned();
            (variable.name.clone(), fits.collect())
        })
        .collect();
    for (name, pool) in &pools {
        assert!(!pool.is_empty(), "no value is tried that {name} allows: add one to candidates()");
    }
    let one = |(name, pool): &(String, Vec<Value>)| {
        let value =
            prop_oneof![9 => Just(None), 2 => prop::sample::select(pool.clone()).prop_map(Some)];
        (Just(name.clone()), value).boxed()
    };
    let strategy = pools.iter().map(one).collect::<Vec<_>>();
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut found = vec![Context::new()];
    for _ in 0..wanted * 200 {
        if found.len() == wanted {
            break;
        }
        let chosen = strategy.new_tree(&mut runner).unwrap().current();
        let set: Context =
            chosen.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        if Variables::new(set.clone(), &Facts::default()).is_ok() {
            found.push(set);
        }
    }
    assert_eq!(found.len(), wanted, "too few sets by chance are allowed");
    found
}
