//! What a metrics port says, sample by sample: labels in any order, values as numbers.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

/// Names and values of the labels of a sample.
pub type Labels = BTreeMap<String, String>;

/// Every sample that there was at one moment.
#[derive(Clone, Debug, Default)]
pub struct Scrape(BTreeMap<(String, Labels), f64>);

/// Labels of these pairs.
#[must_use]
pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Scrape {
    /// Asks the metrics port of this machine.
    ///
    /// # Errors
    /// When it does not answer, or what it says cannot be read.
    pub async fn of(port: u16) -> Result<Self> {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await?;
        Self::read(&answer.error_for_status()?.text().await?)
    }

    fn read(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(Self(lines.map(sample).collect::<Result<_>>()?))
    }

    /// The value of the sample with exactly these labels.
    #[must_use]
    pub fn value(&self, name: &str, pairs: &[(&str, &str)]) -> Option<f64> {
        self.0.get(&(name.to_owned(), labels(pairs))).copied()
    }

    /// The labels of all samples of a name.
    #[must_use]
    pub fn labels_of(&self, name: &str) -> BTreeSet<Labels> {
        self.0.keys().filter(|(known, _)| known == name).map(|(_, labels)| labels.clone()).collect()
    }

    /// The upper bounds of the buckets of a histogram, where its other labels are these.
    #[must_use]
    pub fn buckets(&self, name: &str, pairs: &[(&str, &str)]) -> Vec<String> {
        let bound = |mut of: Labels| {
            let le = of.remove("le")?;
            (of == labels(pairs)).then_some(le)
        };
        let mut bounds: Vec<String> =
            self.labels_of(&format!("{name}_bucket")).into_iter().filter_map(bound).collect();
        bounds.sort_by(|a, b| number(a).total_cmp(&number(b)));
        bounds
    }
}

fn number(bound: &str) -> f64 {
    bound.parse().unwrap_or(f64::INFINITY)
}

fn sample(line: &str) -> Result<((String, Labels), f64)> {
    let (key, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
    let value = value.parse().with_context(|| line.to_owned())?;
    let Some((name, inside)) = key.split_once('{') else {
        return Ok(((key.to_owned(), Labels::new()), value));
    };
    let mut rest = inside.strip_suffix('}').with_context(|| line.to_owned())?;
    let mut labels = Labels::new();
    while let Some((label, more)) = rest.split_once("=\"") {
        let (text, more) = more.split_once('"').with_context(|| line.to_owned())?;
        labels.insert(label.to_owned(), text.to_owned());
        rest = more.trim_start_matches(',');
    }
    Ok(((name.to_owned(), labels), value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"/b c\"} 2\nb 3.5\n\
                    h_bucket{x=\"1\",le=\"+Inf\"} 1\nh_bucket{x=\"1\",le=\"0.5\"} 0\n";
        let scrape = Scrape::read(text).unwrap();
        assert_eq!(scrape.value("a", &[("y", "/b c"), ("x", "1")]), Some(2.0));
        assert_eq!(scrape.value("b", &[]), Some(3.5));
        assert_eq!(scrape.value("a", &[]), None);
        assert_eq!(scrape.buckets("h", &[("x", "1")]), ["0.5", "+Inf"]);
    }
}
