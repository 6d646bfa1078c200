//! Query strings of the list routes (contract §1.9): parsing, deepObject filters, paging, sparse
//! fields, with the exact errors.
//!
//! Pure. Errors come in two steps, as existing implementations have them: [`RawQuery::checked`] holds
//! values against their schemas (filter, sort order, limit, offset), before anybody asks who may look;
//! [`RawQuery::bound`] finds what cannot be used all the same (unknown filters, repeats).

use std::{borrow::Cow, collections::BTreeMap, num::IntErrorKind};

use percent_encoding::percent_decode_str;

use super::parameters::{
    FilterSpec, Filters, IntegerSpec, LIMIT, NEWEST_FIRST, OFFSET, OLDEST_FIRST, SORT_ORDERS,
};

/// Why a query is not acceptable: the message of the 400.
pub type QueryError = String;

/// A query string, decoded, in the order of the request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RawQuery {
    pairs: Vec<(String, String)>,
}

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PageParams {
    /// 1 to the most of [`LIMIT`].
    pub limit: i64,
    /// From 0.
    pub offset: i64,
}

/// What the query of a list of the contract may hold.
#[derive(Clone, Copy, Debug)]
pub struct ListSpec {
    /// What it can be filtered by.
    pub filters: Filters,
    /// Whether there is a choice of order.
    pub is_sorted: bool,
}

/// A query that has been held against the schemas.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checked {
    /// The members of `filter` that are not empty.
    pub members: BTreeMap<&'static str, String>,
    /// Whether the oldest come first.
    pub ascending: bool,
    /// Which part of the list.
    pub page: PageParams,
}

impl RawQuery {
    /// Decodes a query string. Pairs that are not validly encoded, or contain `;`, do not count.
    #[must_use]
    pub fn parse(query: &str) -> Self {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        };
        let parts = query.split('&').filter(|part| !part.is_empty() && !part.contains(';'));
        Self { pairs: parts.filter_map(pair).collect() }
    }

    /// Every pair, in order.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// Every value of a name, in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Holds the query of a list of the contract against its schemas.
    ///
    /// # Errors
    /// The first value that is not allowed: of the filter, the order, `limit`, `offset`.
    pub fn checked(&self, spec: &ListSpec) -> Result<Checked, QueryError> {
        Ok(Checked {
            members: self.filter(&spec.filters)?,
            ascending: spec.is_sorted && self.sort_ascending()?,
            page: self.checked_page()?,
        })
    }

    /// Finds what no schema forbids and nobody can use.
    ///
    /// # Errors
    /// The first unknown member of `filter`, by name, or what is repeated.
    pub fn bound(&self, spec: &ListSpec) -> Result<(), QueryError> {
        self.known_members(&spec.filters)?;
        let order = ["sort_by"].into_iter().filter(|_| spec.is_sorted);
        order.chain([LIMIT.name, OFFSET.name]).try_for_each(|name| self.single(name))
    }

    /// The members of `filter` that are not empty, checked and bound, where nothing else is looked at.
    ///
    /// # Errors
    /// The first that is not allowed, repeated or unknown.
    pub fn filters(&self, filters: &Filters) -> Result<BTreeMap<&'static str, String>, QueryError> {
        let found = self.filter(filters)?;
        self.known_members(filters)?;
        Ok(found)
    }

    fn known_members(&self, filters: &Filters) -> Result<(), QueryError> {
        let known = |member: &str| {
            filters.is_nested(member) || filters.members.iter().any(|known| known.name == member)
        };
        for top in ["filter", "fields"] {
            let members = self.pairs.iter().filter_map(|(name, _)| loose_member(name, top));
            let unknown = members.filter(|member| top == "fields" || !known(member)).min();
            if let Some(member) = unknown {
                let reason = format!(
                    "error assigning value to destination: field [{member}] is not present in \
                     destination object"
                );
                return Err(unbindable(top, &reason));
            }
        }
        Ok(())
    }

    /// `limit` and `offset`.
    ///
    /// # Errors
    /// When one of them is not a number, out of range or repeated.
    pub fn page(&self) -> Result<PageParams, QueryError> {
        let page = self.checked_page()?;
        self.single(LIMIT.name)?;
        self.single(OFFSET.name)?;
        Ok(page)
    }

    fn checked_page(&self) -> Result<PageParams, QueryError> {
        let (limit, offset) = (self.integer(&LIMIT)?, self.integer(&OFFSET)?);
        Ok(PageParams { limit, offset })
    }

    /// Whether `sort_by` asks for the oldest first.
    fn sort_ascending(&self) -> Result<bool, QueryError> {
        let value = self.values("sort_by").next().unwrap_or(NEWEST_FIRST);
        if !SORT_ORDERS.contains(&value) {
            return Err(parameter("sort_by", &not_allowed(&SORT_ORDERS)));
        }
        Ok(value == OLDEST_FIRST)
    }

    /// The checked members of `filter` that are not empty.
    fn filter(&self, filters: &Filters) -> Result<BTreeMap<&'static str, String>, QueryError> {
        self.no_nul()?;
        for (name, value) in &self.pairs {
            self.shape(name, value, filters)?;
        }
        let mut found = BTreeMap::new();
        for member in filters.members {
            if let Some(value) = self.member(member)? {
                found.insert(member.name, value);
            }
        }
        Ok(found)
    }

    /// The members of a nested filter such as `filter[labels][…]`, by its prefix without the inner
    /// name; the last value of a repeated member counts.
    #[must_use]
    pub fn nested(&self, prefix: &str) -> BTreeMap<String, String> {
        let inner = |(name, value): &(String, String)| {
            Some((inner_name(name, prefix)?.to_owned(), value.clone()))
        };
        self.pairs.iter().filter_map(inner).collect()
    }

    /// Every value of one nested member such as `filter[run][id]`, in order.
    #[must_use]
    pub fn nested_values(&self, prefix: &str, member: &str) -> Vec<&str> {
        self.pairs
            .iter()
            .filter(|(name, _)| inner_name(name, prefix) == Some(member))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The fields asked for by `fields[data]`, comma separated or repeated, in order; the defaults
    /// when it is absent.
    ///
    /// # Errors
    /// When a field is not one of those on offer.
    pub fn fields<'a>(
        &self,
        on_offer: &[&'a str],
        defaults: &[&'a str],
    ) -> Result<Vec<&'a str>, QueryError> {
        let values = self.nested_values("fields", "data");
        if values.is_empty() {
            return Ok(defaults.to_vec());
        }
        let mut fields = Vec::new();
        for name in values.iter().flat_map(|value| value.split(',')) {
            let known = on_offer.iter().find(|known| **known == name);
            let known = known.ok_or_else(|| format!("unknown field: {name}"))?;
            if !fields.contains(known) {
                fields.push(*known);
            }
        }
        Ok(fields)
    }

    fn integer(&self, spec: &IntegerSpec) -> Result<i64, QueryError> {
        let IntegerSpec { name, min, max, default } = *spec;
        let Some(text) = self.values(name).next() else { return Ok(default) };
        if text.is_empty() {
            return Err(parameter(name, "empty value is not allowed"));
        }
        let number = text.parse::<i64>().map_err(|error| {
            let why = match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            parameter(name, &format!("value {text}: an invalid integer: {why}"))
        })?;
        if number < min {
            return Err(parameter(name, &format!("number must be at least {min}")));
        }
        if let Some(max) = max.filter(|max| number > *max) {
            return Err(parameter(name, &format!("number must be at most {max}")));
        }
        Ok(number)
    }

    fn single(&self, name: &str) -> Result<(), QueryError> {
        if self.values(name).nth(1).is_some() {
            let reason = format!("multiple values for single value parameter '{name}'");
            return Err(unbindable(name, &reason));
        }
        Ok(())
    }

    fn member(&self, spec: &FilterSpec) -> Result<Option<String>, QueryError> {
        let key = format!("filter[{}]", spec.name);
        let Some(value) = self.values(&key).next() else { return Ok(None) };
        let at =
            |reason: &str| parameter("filter", &format!("Error at \"/{}\": {reason}", spec.name));
        if !spec.allowed.is_empty() && !spec.allowed.contains(&value) {
            return Err(at(&not_allowed(spec.allowed)));
        }
        if value.is_empty() && !spec.may_be_empty {
            return Err(at("minimum string length is 1"));
        }
        Ok((!value.is_empty()).then(|| value.to_owned()))
    }

    /// Whether a member of `filter` that is known is given as one value, or as one level of values.
    fn shape(&self, name: &str, value: &str, filters: &Filters) -> Result<(), QueryError> {
        let Some(member) = loose_member(name, "filter") else { return Ok(()) };
        let path = |reason: &str| Err(parameter("filter", reason));
        let is_plain = name == format!("filter[{member}]");
        let is_nested = filters.is_nested(member);
        if is_nested && is_plain {
            return path(&format!("Error at \"/{member}\": value must be an object"));
        }
        let is_known = filters.members.iter().any(|known| known.name == member);
        if is_known && is_plain && self.values(name).nth(1).is_some() {
            return path(&format!("path {member}: array items must be set with indexes"));
        }
        if is_nested || is_known && !is_plain {
            let mut keys: Vec<&str> =
                name.split('[').skip(1).map(|key| key.trim_end_matches(']')).collect();
            let (below, here) = (keys.pop().unwrap_or_default(), keys.join("."));
            return path(&format!(
                "path {here}: value map[{below}:{value}]: path is not convertible to primitive"
            ));
        }
        Ok(())
    }

    fn no_nul(&self) -> Result<(), QueryError> {
        let nul = |(name, value): &&(String, String)| {
            name.starts_with("filter[") && (name.contains('\0') || value.contains('\0'))
        };
        match self.pairs.iter().find(nul) {
            Some(_) => Err(parameter("filter", "string must not contain the character U+0000")),
            None => Ok(()),
        }
    }
}

/// The member of `filter` or `fields` that a name is about, unless it is one of those that are taken
/// one level deep without being checked.
fn loose_member<'a>(name: &'a str, top: &str) -> Option<&'a str> {
    const TAKEN: [&str; 4] = ["filter[labels]", "filter[run]", "filter[run][labels]", "fields"];
    if TAKEN.iter().any(|prefix| inner_name(name, prefix).is_some()) {
        return None;
    }
    name.strip_prefix(top)?.strip_prefix('[')?.split(']').next()
}

/// The inner name of `<prefix>[<inner>]`: one or more characters other than brackets.
fn inner_name<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let inner = name.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']')?;
    (!inner.is_empty() && !inner.contains(['[', ']'])).then_some(inner)
}

fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let escapes_are_whole =
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| {
            let digits = bytes.get(at + 1..at + 3);
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        });
    let spaced: Cow<'_, str> = text.replace('+', " ").into();
    escapes_are_whole.then(|| percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

fn not_allowed(allowed: &[&str]) -> String {
    let quoted: Vec<String> = allowed.iter().map(|value| format!("\"{value}\"")).collect();
    format!("value is not one of the allowed values [{}]", quoted.join(","))
}

/// Such messages end at the first line.
fn parameter(name: &str, reason: &str) -> QueryError {
    let text = format!("parameter \"{name}\" in query has an error: {reason}");
    text.split('\n').next().unwrap_or_default().to_owned()
}

fn unbindable(name: &str, reason: &str) -> QueryError {
    format!("Invalid format for parameter {name}: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: FilterSpec =
        FilterSpec { name: "service", component: None, allowed: &[], may_be_empty: false };
    const FILTERS: Filters = Filters {
        members: &[
            FilterSpec { name: "status", allowed: &["running", "success"], ..ANY },
            ANY,
            FilterSpec { name: "recipient", may_be_empty: true, ..ANY },
        ],
        labels: true,
        run: None,
    };
    const RUNS: ListSpec = ListSpec { filters: FILTERS, is_sorted: true };
    const FILTER: &str = "parameter \"filter\" in query has an error: ";

    fn filter(query: &str) -> Result<BTreeMap<&'static str, String>, QueryError> {
        let query = RawQuery::parse(query);
        let checked = query.checked(&RUNS)?;
        query.bound(&RUNS)?;
        Ok(checked.members)
    }

    #[test]
    fn decoding_is_that_of_forms() {
        let query = RawQuery::parse("a=1+2&b=%41%2B&bad=%4&c;d=1&e&&a=3");
        let expected = [("a", "1 2"), ("b", "A+"), ("e", ""), ("a", "3")];
        let expected: Vec<_> =
            expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(query.pairs(), expected);
    }

    #[test]
    fn pages_are_bounded_with_exact_errors() {
        let page = |query: &str| RawQuery::parse(query).page();
        assert_eq!(page(""), Ok(PageParams { limit: 50, offset: 0 }));
        assert_eq!(page("limit=200&offset=7"), Ok(PageParams { limit: 200, offset: 7 }));
        assert_eq!(page("limit=1").unwrap().limit, 1);
        for (query, name, reason) in [
            ("limit=0", "limit", "number must be at least 1"),
            ("limit=-1", "limit", "number must be at least 1"),
            ("limit=201", "limit", "number must be at most 200"),
            ("offset=-1", "offset", "number must be at least 0"),
            ("limit=x", "limit", "value x: an invalid integer: invalid syntax"),
            ("limit=1.5", "limit", "value 1.5: an invalid integer: invalid syntax"),
            ("offset=+%201", "offset", "value   1: an invalid integer: invalid syntax"),
            ("limit=", "limit", "empty value is not allowed"),
            ("limit=x%0Ay", "limit", "value x"),
            (
                "limit=99999999999999999999",
                "limit",
                "value 99999999999999999999: an invalid integer: value out of range",
            ),
            ("offset=x&limit=0", "limit", "number must be at least 1"),
        ] {
            let expected = format!("parameter \"{name}\" in query has an error: {reason}");
            assert_eq!(page(query), Err(expected), "{query}");
        }
        for name in ["limit", "offset"] {
            let expected = format!(
                "Invalid format for parameter {name}: \
                 multiple values for single value parameter '{name}'"
            );
            assert_eq!(page(&format!("{name}=1&{name}=2")), Err(expected));
        }
    }

    #[test]
    fn sorting_knows_three_words() {
        let sort =
            |query: &str| RawQuery::parse(query).checked(&RUNS).map(|checked| checked.ascending);
        assert_eq!(sort(""), Ok(false));
        assert_eq!(sort("sort_by=created_at"), Ok(false));
        assert_eq!(sort("sort_by=created_at:desc"), Ok(false));
        assert_eq!(sort("sort_by=created_at%3Aasc"), Ok(true));
        let expected = "parameter \"sort_by\" in query has an error: value is not one of the \
                        allowed values [\"created_at\",\"created_at:asc\",\"created_at:desc\"]";
        for bad in ["name", "", "created_at:ASC", "id"] {
            assert_eq!(sort(&format!("sort_by={bad}")), Err(expected.to_owned()), "{bad}");
        }
        let hosts = ListSpec { is_sorted: false, ..RUNS };
        let query = RawQuery::parse("sort_by=name&sort_by=x");
        assert!(!query.checked(&hosts).unwrap().ascending && query.bound(&hosts).is_ok());
    }

    #[test]
    fn filters_are_checked_then_bound() {
        let found = filter("filter[status]=running&filter%5Bservice%5D=x&other=1").unwrap();
        assert_eq!(found["status"], "running");
        assert_eq!(found["service"], "x");
        assert!(filter("filter[recipient]=").unwrap().is_empty());
        let allowed = "value is not one of the allowed values [\"running\",\"success\"]";
        for (query, reason) in [
            ("filter[salad]=1&filter[status]=", format!("Error at \"/status\": {allowed}")),
            ("filter[status]=Running", format!("Error at \"/status\": {allowed}")),
            ("filter[service]=", "Error at \"/service\": minimum string length is 1".to_owned()),
            ("filter[labels]=x", "Error at \"/labels\": value must be an object".to_owned()),
            (
                "filter[labels][a][b]=x",
                "path labels.a: value map[b:x]: path is not convertible to primitive".to_owned(),
            ),
            (
                "filter[status][x]=running",
                "path status: value map[x:running]: path is not convertible to primitive"
                    .to_owned(),
            ),
            (
                "filter[status]=running&filter[status]=running",
                "path status: array items must be set with indexes".to_owned(),
            ),
            (
                "filter[service]=a&filter[service]=b",
                "path service: array items must be set with indexes".to_owned(),
            ),
            ("filter[service]=a%00b", "string must not contain the character U+0000".to_owned()),
            ("filter[labels][a]=%00", "string must not contain the character U+0000".to_owned()),
        ] {
            assert_eq!(filter(query), Err(format!("{FILTER}{reason}")), "{query}");
        }
        for (query, name, member) in [
            ("filter[salad]=1", "filter", "salad"),
            ("filter[salad]=1&filter[beet]=1&sort_by=created_at&sort_by=x", "filter", "beet"),
            ("filter[]=x", "filter", ""),
            ("filter[salad][x]=1", "filter", "salad"),
            ("fields[data][x]=id", "fields", "data"),
        ] {
            let expected = format!(
                "Invalid format for parameter {name}: error assigning value to destination: \
                 field [{member}] is not present in destination object"
            );
            assert_eq!(filter(query), Err(expected), "{query}");
        }
        for ignored in
            ["filter[run][salad]=1", "fields[foo]=x", "filter=x", "filter[run][labels][a]=1"]
        {
            assert!(filter(ignored).unwrap().is_empty(), "{ignored}");
        }
    }

    #[test]
    fn what_cannot_be_bound_passes_the_schemas() {
        for query in ["filter[salad]=1", "sort_by=created_at&sort_by=x", "limit=1&limit=x"] {
            let query = RawQuery::parse(query);
            query.checked(&RUNS).unwrap();
            query.bound(&RUNS).unwrap_err();
        }
    }

    #[test]
    fn nested_names_have_one_level_and_the_last_value_counts() {
        let query =
            RawQuery::parse("filter[labels][a]=1&filter[labels][a]=2&filter[labels][a][b]=3");
        let labels = query.nested("filter[labels]");
        assert_eq!(labels, BTreeMap::from([("a".to_owned(), "2".to_owned())]));
        assert_eq!(query.nested_values("filter[labels]", "a"), ["1", "2"]);
    }

    #[test]
    fn fields_are_a_union_in_order() {
        let fields = |query| RawQuery::parse(query).fields(&["id", "url", "name"], &["id"]);
        assert_eq!(fields("").unwrap(), ["id"]);
        assert_eq!(
            fields("fields[data]=url,id&fields[data]=id,name").unwrap(),
            ["url", "id", "name"]
        );
        assert_eq!(fields("fields[data]=url,salad").unwrap_err(), "unknown field: salad");
        assert_eq!(fields("fields[data]=").unwrap_err(), "unknown field: ");
    }
}
