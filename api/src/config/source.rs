//! Where settings come from: environment variables, under our name or an older one.
//!
//! Owns look-up, defaults, notes for `dispatcher-api config`, and error texts; what the values mean
//! is the concern of the files beside this one.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use super::gunicorn::Given;

/// One setting: its names and what people need to know about it.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Our name first, then older ones that mean the same.
    pub names: &'static [&'static str],
    /// What it does, in a sentence.
    pub about: &'static str,
    /// What is allowed, for error texts and the reference.
    pub allowed: &'static str,
    /// Whether its value is masked wherever it is shown.
    pub secret: bool,
}

/// A setting as it is in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Effective {
    /// Its first name.
    pub name: &'static str,
    /// All its names.
    pub names: &'static [&'static str],
    /// Its value, masked where secret, empty where unset.
    pub value: String,
    /// The variable it came from, or `default`.
    pub origin: String,
    /// What it does.
    pub about: &'static str,
    /// What is allowed.
    pub allowed: &'static str,
}

/// Everything that is wrong with the settings, a line each.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is not usable:\n  {}", .0.join("\n  "))]
pub struct ConfigError(pub Vec<String>);

/// The environment, as it is being read.
#[derive(Debug, Default)]
pub struct Source {
    variables: BTreeMap<String, String>,
    effective: Vec<Effective>,
    errors: Vec<String>,
    notices: Vec<String>,
}

impl Source {
    /// Reads from these variables.
    #[must_use]
    pub fn new(variables: BTreeMap<String, String>) -> Self {
        Self { variables, ..Self::default() }
    }

    /// Reads from the process's environment. Values that are not UTF-8 are errors.
    #[must_use]
    pub fn from_process() -> Self {
        let mut source = Self::default();
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => drop(source.variables.insert(name, value)),
                (Ok(name), Err(_)) => source.errors.push(format!("{name} is not valid UTF-8")),
                (Err(_), _) => {}
            }
        }
        source
    }

    /// The value of a setting, if it is set and not empty. Two names with two values are an error.
    pub fn text(&mut self, spec: &Spec) -> Option<String> {
        let found = self.look_up(spec);
        let (value, origin) = found.clone().map_or_else(
            || (String::new(), "default".to_owned()),
            |(name, value)| (value, name.to_owned()),
        );
        self.note(spec, &value, origin);
        found.map(|(_, value)| value)
    }

    /// The parsed value of a setting, or its default.
    pub fn parsed<T: FromStr + Display>(&mut self, spec: &Spec, default: T) -> T {
        let Some((name, value)) = self.look_up(spec) else {
            self.note(spec, &default.to_string(), "default".to_owned());
            return default;
        };
        self.note(spec, &value, name.to_owned());
        value.parse().unwrap_or_else(|_| {
            self.reject(spec, &value);
            default
        })
    }

    /// The parsed value of a setting that must lie in a range, or its default.
    pub fn within<T: FromStr + Display + PartialOrd>(
        &mut self,
        spec: &Spec,
        default: T,
        range: std::ops::RangeInclusive<T>,
    ) -> T {
        let value = self.parsed(spec, default);
        if !range.contains(&value) {
            self.reject(spec, &value.to_string());
        }
        value
    }

    /// Whether a setting is set, under any of its names.
    #[must_use]
    pub fn is_set(&self, spec: &Spec) -> bool {
        let value = |name: &&str| self.variables.get(*name);
        spec.names.iter().filter_map(value).any(|value| !value.is_empty())
    }

    /// Whether a variable of that prefix exists; yields name without prefix and value, by name.
    pub fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        self.variables
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value)))
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect()
    }

    /// Every setting of a family, whose names only begin alike: the rest of the name and the value,
    /// by name. Empty values do not count.
    pub fn family(&mut self, spec: &Spec, prefix: &str) -> Vec<(String, String)> {
        let mut found = self.with_prefix(prefix);
        found.retain(|(rest, value)| !rest.is_empty() && !value.is_empty());
        let names: Vec<String> = found.iter().map(|(rest, _)| format!("{prefix}{rest}")).collect();
        let (value, origin) = if found.is_empty() {
            (String::new(), "default".to_owned())
        } else {
            (format!("{} set", found.len()), names.join(", "))
        };
        self.note(spec, &value, origin);
        found
    }

    /// The same, where another way of saying it may have given the default.
    pub fn given_within(
        &mut self,
        spec: &Spec,
        given: Option<&Given<u64>>,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> u64 {
        let Some(given) = given.filter(|_| !self.is_set(spec)) else {
            return self.within(spec, default, range);
        };
        self.note(spec, &given.value.to_string(), given.origin.clone());
        if !range.contains(&given.value) {
            self.errors.push(format!(
                "{}={} is not acceptable; allowed: {}",
                given.origin, given.value, spec.allowed
            ));
        }
        given.value
    }

    /// The parsed value of a setting, or what was given in other words, or its default.
    pub fn given_or<T: FromStr + Display + Clone>(
        &mut self,
        spec: &Spec,
        given: Option<&Given<T>>,
        default: T,
    ) -> T {
        let Some(given) = given.filter(|_| !self.is_set(spec)) else {
            return self.parsed(spec, default);
        };
        self.note(spec, &given.value.to_string(), given.origin.clone());
        given.value.clone()
    }

    /// Whether a setting of DCI is on: `True` after trimming and in any case. Everything else is
    /// false.
    pub fn is_true(&mut self, spec: &Spec) -> bool {
        self.text(spec).is_some_and(|text| text.trim().eq_ignore_ascii_case("true"))
    }

    /// Keeps something to be said once the process starts; it stops nothing.
    pub fn notice(&mut self, text: impl Into<String>) {
        self.notices.push(text.into());
    }

    /// What is to be said at the start.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Variables with one of these prefixes that no setting is called.
    #[must_use]
    pub fn unknown(&self, prefixes: &[&str]) -> Vec<String> {
        let ours = |name: &&String| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let known =
            |name: &&String| self.effective.iter().any(|one| one.names.contains(&name.as_str()));
        self.variables.keys().filter(ours).filter(|name| !known(name)).cloned().collect()
    }

    /// Notes that a value is not acceptable.
    pub fn reject(&mut self, spec: &Spec, value: &str) {
        let name = spec.names.first().copied().unwrap_or_default();
        let shown = if spec.secret { "***" } else { value };
        self.error(format!("{name}={shown} is not acceptable; allowed: {}", spec.allowed));
    }

    /// Notes a mistake that is not about one value.
    pub fn error(&mut self, message: impl Into<String>) {
        let message = message.into();
        if !self.errors.contains(&message) {
            self.errors.push(message);
        }
    }

    /// Everything read so far, in the order of reading.
    #[must_use]
    pub fn effective(&self) -> &[Effective] {
        &self.effective
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// When anything was wrong, all of it.
    pub fn finish(self) -> Result<Vec<Effective>, ConfigError> {
        if self.errors.is_empty() { Ok(self.effective) } else { Err(ConfigError(self.errors)) }
    }

    fn look_up(&mut self, spec: &Spec) -> Option<(&'static str, String)> {
        let mut set = spec.names.iter().filter_map(|name| {
            let value = self.variables.get(*name)?;
            (!value.is_empty()).then(|| (*name, value.clone()))
        });
        let first = set.next()?;
        let other = set.find(|(_, value)| *value != first.1).map(|(name, _)| name);
        if let Some(other) = other {
            let name = first.0;
            self.errors.push(format!("{name} and {other} are one setting with two values"));
        }
        Some(first)
    }

    /// A setting that several concerns read is noted once.
    fn note(&mut self, spec: &Spec, value: &str, origin: String) {
        let name = spec.names.first().copied().unwrap_or_default();
        if self.effective.iter().any(|noted| noted.name == name) {
            return;
        }
        let masked = spec.secret && !value.is_empty();
        self.effective.push(Effective {
            name,
            names: spec.names,
            value: if masked { "***".to_owned() } else { value.to_owned() },
            origin,
            about: spec.about,
            allowed: spec.allowed,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Spec = Spec {
        names: &["WEB_PORT", "API_PORT"],
        about: "Port of the API.",
        allowed: "0 to 65535",
        secret: false,
    };

    fn source(variables: &[(&str, &str)]) -> Source {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Source::new(variables.iter().map(own).collect())
    }

    #[test]
    fn older_names_mean_the_same_and_contradictions_stop_the_start() {
        let mut same = source(&[("WEB_PORT", "80"), ("API_PORT", "80")]);
        assert_eq!(same.parsed(&PORT, 8000_u16), 80);
        same.finish().unwrap();
        let mut older = source(&[("API_PORT", "81")]);
        assert_eq!(older.parsed(&PORT, 8000_u16), 81);
        assert_eq!(older.effective()[0].origin, "API_PORT");
        let mut two = source(&[("WEB_PORT", "80"), ("API_PORT", "81")]);
        two.parsed(&PORT, 8000_u16);
        let error = two.finish().unwrap_err().to_string();
        assert!(error.contains("WEB_PORT and API_PORT"), "{error}");
    }

    #[test]
    fn values_out_of_range_are_mistakes() {
        let mut source = source(&[("WEB_PORT", "80")]);
        assert_eq!(source.within(&PORT, 8000_u16, 0..=80), 80);
        source.within(&PORT, 8000_u16, 81..=90);
        let error = source.finish().unwrap_err().to_string();
        assert!(error.contains("WEB_PORT=80"), "{error}");
    }

    #[test]
    fn every_mistake_is_named_and_secrets_are_masked() {
        let secret = Spec { names: &["DB_PASSWORD"], secret: true, ..PORT };
        let mut source = source(&[("WEB_PORT", "eighty"), ("DB_PASSWORD", "hunter2")]);
        source.parsed(&PORT, 8000_u16);
        source.reject(&secret, "hunter2");
        source.text(&secret);
        assert_eq!(source.effective()[1].value, "***");
        let error = source.finish().unwrap_err().to_string();
        assert!(error.contains("WEB_PORT=eighty") && error.contains("0 to 65535"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
