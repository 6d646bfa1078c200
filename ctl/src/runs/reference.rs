//! Which run is meant: a whole id, or the first characters of a recent one.

use serde::Deserialize;
use uuid::Uuid;

use crate::{
    client::Client,
    listings::{self, PAGE, Page},
    trouble::{Result, Trouble},
};

/// The fewest characters that may stand for an id.
const SHORTEST: usize = 4;
/// How many fitting runs an error lists.
const MOST_LISTED: usize = 10;

#[derive(Clone, Deserialize)]
struct Id {
    id: Uuid,
}

/// What was typed for a run.
#[derive(Debug, PartialEq)]
enum Typed {
    Whole(Uuid),
    Beginning(String),
}

/// The run that is meant.
pub(crate) async fn find(client: &Client, typed: &str) -> Result<Uuid> {
    let found = find_all(client, &[typed.to_owned()]).await?;
    found.first().copied().ok_or_else(|| unknown(typed, 0))
}

/// The runs that are meant, in their order; recent ones are read at most once.
pub(crate) async fn find_all(client: &Client, typed: &[String]) -> Result<Vec<Uuid>> {
    let typed: Vec<_> = typed.iter().map(|one| parse(one)).collect::<Result<_>>()?;
    let mut recent = None;
    let mut found = Vec::with_capacity(typed.len());
    for one in typed {
        let beginning = match one {
            Typed::Whole(id) => {
                found.push(id);
                continue;
            }
            Typed::Beginning(beginning) => beginning,
        };
        let known = match recent.take() {
            Some(known) => known,
            None => recent_runs(client).await?,
        };
        found.push(the_only(&known, &beginning)?);
        recent = Some(known);
    }
    Ok(found)
}

async fn recent_runs(client: &Client) -> Result<Vec<Id>> {
    let only_ids = [("fields[data]".to_owned(), "id".to_owned())];
    let page: Page<Id> = listings::page(client, &["runs"], &only_ids, PAGE, 0).await?;
    Ok(page.data)
}

fn parse(typed: &str) -> Result<Typed> {
    if let Ok(id) = typed.parse() {
        return Ok(Typed::Whole(id));
    }
    let beginning: String = typed.to_lowercase();
    let is_hex = beginning.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if is_hex && beginning.chars().filter(|c| *c != '-').count() >= SHORTEST {
        return Ok(Typed::Beginning(beginning));
    }
    Err(Trouble::usage(format!("`{typed}` is not a run"))
        .hint(format!("allowed: a run's id, or at least {SHORTEST} of its first characters")))
}

fn the_only(known: &[Id], beginning: &str) -> Result<Uuid> {
    let fits = |run: &&Id| {
        run.id.to_string().starts_with(beginning)
            || run.id.simple().to_string().starts_with(beginning)
    };
    let fitting: Vec<_> = known.iter().filter(fits).collect();
    match fitting.as_slice() {
        [one] => Ok(one.id),
        [] => Err(unknown(beginning, known.len())),
        many => {
            let listed: Vec<_> =
                many.iter().take(MOST_LISTED).map(|run| format!("  {}", run.id)).collect();
            Err(Trouble::usage(format!("`{beginning}` is the beginning of {} runs", many.len()))
                .hint(listed.join("\n")))
        }
    }
}

fn unknown(beginning: &str, known: usize) -> Trouble {
    Trouble::failed(format!("none of the {known} most recent runs begins with `{beginning}`"))
        .hint("see: dispatchctl runs list; older runs are named by their whole id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_stands_for_the_only_run_it_fits() {
        let id = |text: &str| Id { id: text.parse().unwrap() };
        let known = [
            id("1a2b3c4d-0000-4000-8000-000000000001"),
            id("1a2bffff-0000-4000-8000-000000000002"),
        ];
        assert_eq!(the_only(&known, "1a2b3").unwrap(), known[0].id);
        assert_eq!(the_only(&known, "1a2b3c4d-0000").unwrap(), known[0].id);
        assert_eq!(the_only(&known, "1a2b3c4d0000").unwrap(), known[0].id);
        let two = the_only(&known, "1a2b").unwrap_err();
        assert!(two.message().contains("2 runs"));
        assert_eq!(two.status(), 2);
        assert_eq!(the_only(&known, "ffff").unwrap_err().status(), 1);
    }

    #[test]
    fn what_cannot_be_a_run_is_refused() {
        assert_eq!(parse("1A2B").unwrap(), Typed::Beginning("1a2b".to_owned()));
        assert!(matches!(parse("1a2b3c4d-0000-4000-8000-000000000001"), Ok(Typed::Whole(_))));
        for wrong in ["", "abc", "a-b-c", "hello.yml", "xyzw"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
