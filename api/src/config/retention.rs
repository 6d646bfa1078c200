//! Settings of retention: how long output, runs and the audit are kept. Unset: for ever.

use super::{
    source::{Source, Spec},
    values::Age,
};

const fn spec(names: &'static [&'static str], about: &'static str) -> Spec {
    Spec {
        names,
        about,
        allowed: "30d, 12h, 90m or seconds, from 1s; unset: for ever",
        secret: false,
    }
}

const OUTPUT: Spec = spec(
    &["RETENTION_OUTPUT"],
    "For how long what final runs have printed is kept; not longer than RETENTION_RUNS.",
);
const RUNS: Spec = spec(
    &["RETENTION_RUNS"],
    "For how long final runs are kept, with their hosts and uploads, and uploads of no run.",
);
const AUDIT: Spec = spec(&["RETENTION_AUDIT"], "For how long the rows of the audit are kept.");

/// How long things are kept. `None`: for ever.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RetentionSettings {
    /// What final runs have printed.
    pub output: Option<Age>,
    /// Final runs.
    pub runs: Option<Age>,
    /// The audit.
    pub audit: Option<Age>,
}

impl RetentionSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let [output, runs, audit] = [OUTPUT, RUNS, AUDIT].map(|spec| age(source, &spec));
        let settings = Self { output, runs, audit };
        if let Err(message) = settings.check() {
            source.error(message);
        }
        settings
    }

    /// Whether the windows fit together.
    ///
    /// # Errors
    /// When output is to be kept longer than its runs; the text says so.
    pub fn check(&self) -> Result<(), String> {
        match (self.output, self.runs) {
            (Some(output), Some(runs)) if output > runs => Err(format!(
                "RETENTION_OUTPUT={output} is longer than RETENTION_RUNS={runs}: output goes with \
                 its run at the latest; allowed: at most {runs}"
            )),
            _ => Ok(()),
        }
    }

    /// Whether anything is ever removed.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self != Self::default()
    }
}

fn age(source: &mut Source, spec: &Spec) -> Option<Age> {
    let text = source.text(spec)?;
    let age = text.parse().ok();
    if age.is_none() {
        source.reject(spec, &text);
    }
    age
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<RetentionSettings, String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut source = Source::new(variables.iter().map(own).collect());
        let settings = RetentionSettings::read(&mut source);
        source.finish().map(|_| settings).map_err(|error| error.to_string())
    }

    #[test]
    fn off_unless_set() {
        assert!(!read(&[]).unwrap().is_on());
        let settings = read(&[("RETENTION_OUTPUT", "30d")]).unwrap();
        assert_eq!(settings.output.unwrap().to_string(), "30d");
        assert!(settings.is_on());
    }

    #[test]
    fn output_is_not_kept_longer_than_runs() {
        read(&[("RETENTION_OUTPUT", "90d"), ("RETENTION_RUNS", "90d")]).unwrap();
        let error = read(&[("RETENTION_OUTPUT", "91d"), ("RETENTION_RUNS", "90d")]).unwrap_err();
        assert!(error.contains("RETENTION_OUTPUT=91d") && error.contains("90d"), "{error}");
        assert!(read(&[("RETENTION_RUNS", "soon")]).unwrap_err().contains("soon"));
        assert!(read(&[("RETENTION_RUNS", "0s")]).is_err());
    }
}
