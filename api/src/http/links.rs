//! Links between the pages of a list (contract §1.9): relative, the original query with its keys
//! sorted and `limit` and `offset` replaced.

use std::collections::BTreeMap;

use dispatcher_wire::view::{Links, Meta, Page};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::query::{PageParams, RawQuery};

/// What is not escaped in a query: letters, digits and these; a space becomes `+`.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');

/// A page with its links and counts. `base` is the path of the list.
#[must_use]
pub fn page<T>(
    base: &str,
    query: &RawQuery,
    params: PageParams,
    data: Vec<T>,
    total: i64,
) -> Page<T> {
    let count = i64::try_from(data.len()).unwrap_or(i64::MAX);
    Page { data, links: links(base, query, params, total), meta: Meta { count, total } }
}

/// The links of a page.
#[must_use]
pub fn links(base: &str, query: &RawQuery, params: PageParams, total: i64) -> Links {
    let PageParams { limit, offset } = params;
    let at = |offset: i64| link(base, query, limit, offset);
    let last = (total - 1).max(0) / limit.max(1) * limit;
    let after = offset.saturating_add(limit);
    Links {
        first: at(0),
        last: at(last),
        next: (after < total).then(|| at(after)),
        previous: (offset > 0).then(|| at((offset - limit).max(0))),
    }
}

fn link(base: &str, query: &RawQuery, limit: i64, offset: i64) -> String {
    let mut sorted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in query.pairs() {
        sorted.entry(name).or_default().push(value);
    }
    let (limit, offset) = (limit.to_string(), offset.to_string());
    sorted.insert("limit", vec![&limit]);
    sorted.insert("offset", vec![&offset]);
    let pairs: Vec<String> = sorted
        .iter()
        .flat_map(|(name, values)| values.iter().map(|value| (*name, *value)))
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect();
    format!("{base}?{}", pairs.join("&"))
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string().replace(' ', "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/api/playbook-dispatcher/v1/runs";

    fn of(query: &str, total: i64) -> Links {
        let query = RawQuery::parse(query);
        links(BASE, &query, query.page().unwrap(), total)
    }

    #[test]
    fn keys_are_sorted_escaped_and_replaced() {
        let links = of(
            "sort_by=created_at:asc&offset=20&limit=10&fields[data]=id,url&filter[service]=tasks",
            95,
        );
        let query = "fields%5Bdata%5D=id%2Curl&filter%5Bservice%5D=tasks&limit=10";
        let at = |offset| format!("{BASE}?{query}&offset={offset}&sort_by=created_at%3Aasc");
        assert_eq!(links.first, at(0));
        assert_eq!(links.last, at(90));
        assert_eq!(links.next, Some(at(30)));
        assert_eq!(links.previous, Some(at(10)));
    }

    #[test]
    fn ends_have_no_neighbours() {
        let links = of("", 0);
        assert_eq!(links.first, format!("{BASE}?limit=50&offset=0"));
        assert_eq!(links.last, links.first);
        assert_eq!((links.next, links.previous), (None, None));
        let links = of("limit=10&offset=5", 15);
        assert_eq!(links.next, None);
        assert!(links.previous.unwrap().ends_with("offset=0"));
        assert!(links.last.ends_with("offset=10"));
        assert_eq!(of("offset=9223372036854775807", 3).next, None);
    }

    #[test]
    fn spaces_tildes_and_stars_are_as_clients_know_them() {
        let links = of("x=a+b~c*%C3%A9", 1);
        assert_eq!(links.first, format!("{BASE}?limit=50&offset=0&x=a+b~c%2A%C3%A9"));
    }
}
