//! Query strings of the list routes (contract §1.9): parsing, deepObject filters, paging, sparse
//! fields, with the exact errors.
//!
//! Pure. Errors come in the order of existing implementations: values against their schemas
//! (filter, sort order, limit, offset), then what cannot be bound (unknown filters, repeats).

use std::{borrow::Cow, collections::BTreeMap};

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

    /// `limit` and `offset`.
    ///
    /// # Errors
    /// When one of them is not a number, out of range or repeated.
    pub fn page(&self) -> Result<PageParams, QueryError> {
        let (limit, offset) = (self.integer(&LIMIT)?, self.integer(&OFFSET)?);
        self.single(LIMIT.name)?;
        self.single(OFFSET.name)?;
        Ok(PageParams { limit, offset })
    }

    /// Whether `sort_by` asks for the oldest first.
    ///
    /// # Errors
    /// When it asks for something else than the time of creation, or is repeated.
    pub fn sort_ascending(&self) -> Result<bool, QueryError> {
        let value = self.values("sort_by").next().unwrap_or(NEWEST_FIRST);
        if !SORT_ORDERS.contains(&value) {
            return Err(parameter("sort_by", &not_allowed(&SORT_ORDERS)));
        }
        self.single("sort_by")?;
        Ok(value == OLDEST_FIRST)
    }

    /// The checked members of `filter` that are not empty. Those of one level below are taken by
    /// [`RawQuery::nested`] or ignored.
    ///
    /// # Errors
    /// When a value is not allowed, a member repeated, unknown or of the wrong shape, or a value
    /// contains U+0000.
    pub fn filter(&self, filters: &Filters) -> Result<BTreeMap<&'static str, String>, QueryError> {
        self.no_nul()?;
        let mut found = BTreeMap::new();
        for spec in filters.members {
            if let Some(value) = self.member(spec)? {
                found.insert(spec.name, value);
            }
        }
        for (name, _) in &self.pairs {
            self.bindable(name, filters)?;
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
        let number = text.parse::<i64>().map_err(|_| {
            parameter(name, &format!("value {text}: an invalid integer: invalid syntax"))
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
        let mut values = self.values(&key);
        let Some(value) = values.next() else { return Ok(None) };
        let at =
            |reason: &str| parameter("filter", &format!("Error at \"/{}\": {reason}", spec.name));
        if !spec.allowed.is_empty() && (!spec.allowed.contains(&value) || values.next().is_some()) {
            return Err(at(&not_allowed(spec.allowed)));
        }
        if values.next().is_some() {
            return Err(unbindable("filter", &format!("multiple values for {key}")));
        }
        if value.is_empty() && !spec.may_be_empty {
            return Err(at("minimum string length is 1"));
        }
        Ok((!value.is_empty()).then(|| value.to_owned()))
    }

    /// Whether a name, if it is one of a filter or of fields, is one that anybody takes.
    fn bindable(&self, name: &str, filters: &Filters) -> Result<(), QueryError> {
        const STRIPPED: [&str; 4] =
            ["filter[labels]", "filter[run]", "filter[run][labels]", "fields"];
        if STRIPPED.iter().any(|prefix| inner_name(name, prefix).is_some()) {
            return Ok(());
        }
        let (top, rest) = name.split_once('[').unwrap_or((name, ""));
        if !name.contains('[') || !matches!(top, "filter" | "fields") {
            return Ok(());
        }
        let member = rest.split(']').next().unwrap_or_default();
        let plain = format!("filter[{member}]") == name;
        if plain && filters.members.iter().any(|spec| spec.name == member) {
            return Ok(());
        }
        if top == "filter" && filters.is_nested(member) {
            let reason = format!("Error at \"/{member}\": value must be an object of one level");
            return Err(parameter(top, &reason));
        }
        let reason = format!(
            "error assigning value to destination: field [{member}] is not present in destination object"
        );
        Err(unbindable(top, &reason))
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

fn parameter(name: &str, reason: &str) -> QueryError {
    format!("parameter \"{name}\" in query has an error: {reason}")
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

    fn filter(query: &str) -> Result<BTreeMap<&'static str, String>, QueryError> {
        RawQuery::parse(query).filter(&FILTERS)
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
        let page = |query| RawQuery::parse(query).page();
        assert_eq!(page(""), Ok(PageParams { limit: 50, offset: 0 }));
        assert_eq!(page("limit=200&offset=7"), Ok(PageParams { limit: 200, offset: 7 }));
        let prefix = "parameter \"limit\" in query has an error: ";
        assert_eq!(page("limit=0"), Err(format!("{prefix}number must be at least 1")));
        assert_eq!(page("limit=201"), Err(format!("{prefix}number must be at most 200")));
        for bad in ["limit=x", "limit=", "limit=1.5", "limit=99999999999999999999", "offset=-1"] {
            assert!(page(bad).is_err(), "{bad}");
        }
        let repeated = "Invalid format for parameter limit: \
                        multiple values for single value parameter 'limit'";
        assert_eq!(page("limit=1&limit=2"), Err(repeated.to_owned()));
    }

    #[test]
    fn sorting_knows_three_words() {
        let sort = |query| RawQuery::parse(query).sort_ascending();
        assert_eq!(sort(""), Ok(false));
        assert_eq!(sort("sort_by=created_at"), Ok(false));
        assert_eq!(sort("sort_by=created_at%3Aasc"), Ok(true));
        assert!(sort("sort_by=name").unwrap_err().contains("allowed values [\"created_at\","));
        assert!(sort("sort_by=").is_err());
    }

    #[test]
    fn filters_are_checked_then_bound() {
        let found = filter("filter[status]=running&filter%5Bservice%5D=x&other=1").unwrap();
        assert_eq!(found["status"], "running");
        assert_eq!(found["service"], "x");
        assert!(filter("filter[recipient]=").unwrap().is_empty());
        let unknown = "Invalid format for parameter filter: error assigning value to destination: \
                       field [salad] is not present in destination object";
        assert_eq!(filter("filter[salad]=1"), Err(unknown.to_owned()));
        let status = filter("filter[salad]=1&filter[status]=").unwrap_err();
        assert_eq!(
            status,
            "parameter \"filter\" in query has an error: Error at \"/status\": \
             value is not one of the allowed values [\"running\",\"success\"]"
        );
        for bad in [
            "filter[status]=running&filter[status]=running",
            "filter[service]=",
            "filter[service]=a&filter[service]=b",
            "filter[labels]=x",
            "filter[labels][a][b]=x",
            "filter[service]=a%00b",
            "filter[labels][a]=%00",
            "filter[status][x]=running",
            "fields[data][x]=id",
            "filter[]=x",
        ] {
            assert!(filter(bad).is_err(), "{bad}");
        }
        for ignored in
            ["filter[run][salad]=1", "fields[foo]=x", "filter=x", "filter[run][labels][a]=1"]
        {
            assert!(filter(ignored).unwrap().is_empty(), "{ignored}");
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
