//! Label filters: all labels must be there, as text, whatever their keys look like.

use super::{
    Subject,
    fixtures::{NONE, all_hosts, all_runs, create, hosts, labels, listed, org, run},
};

/// Keys and values that mean something to SQL, JSON or JSON paths.
const HOSTILE: [&str; 22] = [
    "",
    " ",
    "a",
    "A",
    "a.b",
    "a\"b",
    "\"",
    "'",
    "'; DROP TABLE runs; --",
    "$",
    "$.a",
    "$[0]",
    "[0]",
    "0",
    "*",
    "%",
    "\\",
    "\\u0061",
    "a\nb\tc",
    "ключ",
    "e\u{301}",
    "\u{1F980}",
];

async fn matching(subject: &Subject, org: &str, pairs: &[(&str, &str)]) -> Vec<uuid::Uuid> {
    let mut query = all_runs(org);
    query.filter.labels = labels(pairs);
    let mut ids = listed(&subject.stores, &query).await;
    assert_eq!(subject.stores.runs.list(&query).await.unwrap().total, ids.len() as i64);
    ids.sort();
    ids
}

/// Every label that is asked for must be there with exactly that value; others may be there too.
pub async fn all_must_be_there(subject: &Subject) {
    let org = org();
    let mut runs: Vec<_> = (0..3).map(|_| run(&org)).collect();
    runs[0].labels = labels(&[("a", "1"), ("b", "2")]);
    runs[1].labels = labels(&[("a", "1"), ("b", "3"), ("c", "1")]);
    create(&subject.stores, &runs).await;
    let mut both = vec![runs[0].id, runs[1].id];
    both.sort();
    assert_eq!(matching(subject, &org, &[("a", "1")]).await, both);
    assert_eq!(matching(subject, &org, &[("a", "1"), ("b", "2")]).await, [runs[0].id]);
    assert_eq!(matching(subject, &org, &[("c", "1"), ("a", "1")]).await, [runs[1].id]);
    for none in [&[("a", "2")][..], &[("b", "1")], &[("a", "")], &[("a", "1"), ("d", "1")]] {
        assert_eq!(matching(subject, &org, none).await, NONE, "{none:?}");
    }
    assert_eq!(matching(subject, &org, &[]).await.len(), 3);
}

/// No key or value is read as anything but itself.
pub async fn hostile_texts_are_only_texts(subject: &Subject) {
    let org = org();
    let mut runs = Vec::new();
    for text in HOSTILE {
        let mut as_key = run(&org);
        as_key.labels = labels(&[(text, "as key")]);
        let mut as_value = run(&org);
        as_value.labels = labels(&[("as value", text)]);
        runs.extend([as_key, as_value]);
    }
    create(&subject.stores, &runs).await;
    for (text, pair) in HOSTILE.iter().zip(runs.chunks(2)) {
        let found = matching(subject, &org, &[(text, "as key")]).await;
        assert_eq!(found, [pair[0].id], "{text:?} as key");
        let found = matching(subject, &org, &[("as value", text)]).await;
        assert_eq!(found, [pair[1].id], "{text:?} as value");
        let row = subject.stores.runs.get(&org, pair[0].id).await.unwrap().unwrap().run;
        assert_eq!(row.labels, serde_json::json!({ *text: "as key" }));
    }
}

/// NUL is in no label, so asking for it finds nothing; nor does what stands before it.
pub async fn nul_matches_nothing(subject: &Subject) {
    let org = org();
    let mut run = run(&org);
    run.labels = labels(&[("a", "b"), ("a\u{FFFD}", "b")]);
    create(&subject.stores, &[run]).await;
    for none in [("a\0", "b"), ("a", "b\0"), ("a\0x", "b"), ("a", "b\0x"), ("\0", "\0")] {
        assert_eq!(matching(subject, &org, &[none]).await, NONE, "{none:?}");
    }
}

/// So many labels that they would not fit into one expression.
pub async fn a_thousand_labels(subject: &Subject) {
    let org = org();
    let mut run = run(&org);
    run.labels = (0..1500).map(|n| (format!("key {n}"), format!("value {n}"))).collect();
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let mut query = all_runs(&org);
    query.filter.labels.clone_from(&run.labels);
    assert_eq!(listed(&subject.stores, &query).await, [run.id]);
    query.filter.labels.insert("one".to_owned(), "more".to_owned());
    assert_eq!(listed(&subject.stores, &query).await, NONE);
}

/// Rows of the original may have JSON null as labels, and other things that are no texts.
pub async fn null_and_other_json(subject: &Subject) {
    let org = org();
    let mut run = run(&org);
    run.hosts = hosts(&["a"]);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    for json in ["null", "[]", "[\"a\"]", "{\"a\": 1}", "{\"a\": null}", "{\"a\": {\"b\": \"1\"}}"]
    {
        subject.probe.set_labels(run.id, json).await;
        let stored = subject.stores.runs.list(&all_runs(&org)).await.unwrap().rows;
        let expected: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(stored[0].labels, expected);
        for pair in [("a", "1"), ("0", "a"), ("a", "null"), ("a", ""), ("b", "1"), ("", "")] {
            assert_eq!(matching(subject, &org, &[pair]).await, NONE, "{pair:?} in {json}");
        }
    }
    subject.probe.set_labels(run.id, "{\"a\": \"1\", \"n\": 1}").await;
    assert_eq!(matching(subject, &org, &[("a", "1")]).await, [run.id]);
    let mut query = all_hosts(&org);
    query.filter.run_labels = labels(&[("a", "1")]);
    assert_eq!(subject.stores.runs.list_hosts(&query).await.unwrap().total, 1);
    query.filter.run_labels = labels(&[("n", "1")]);
    assert_eq!(subject.stores.runs.list_hosts(&query).await.unwrap().total, 0);
}
