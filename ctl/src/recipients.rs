//! Who can run a playbook: the recipients of the organisation, and the choice among them.

use std::time::Duration;

use dispatcher_wire::view::{RecipientDetailView, RecipientView};
use uuid::Uuid;

use crate::{
    client::Client,
    listings,
    output::note,
    text,
    trouble::{Result, Trouble},
};

/// How often a recipient is waited for that is registered but not there yet, as just after a start.
const CHECKS: u32 = 20;
/// The time between two such checks.
const BETWEEN_CHECKS: Duration = Duration::from_millis(250);
/// How many recipients an error lists.
const MOST_LISTED: usize = 20;

/// Who takes a run, for which organisation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chosen {
    /// Its id.
    pub(crate) id: Uuid,
    /// Its name, where it is known.
    pub(crate) name: Option<String>,
    /// The organisation.
    pub(crate) org_id: String,
}

impl Chosen {
    /// What people know it by.
    pub(crate) fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.id.to_string())
    }
}

/// All recipients of the organisation.
pub(crate) async fn all(client: &Client) -> Result<Vec<RecipientView>> {
    listings::every(client, &["recipients"], &[]).await
}

/// The one that is meant; without a name, the only connected one.
pub(crate) async fn choose(client: &Client, wanted: Option<&str>) -> Result<Chosen> {
    // An id says it all, also where it is that of a foreign host, which no list has.
    if let (Some(id), Some(org)) = (wanted.and_then(|w| w.parse().ok()), client.org()) {
        return Ok(Chosen { id, name: None, org_id: org.to_owned() });
    }
    for _ in 0..CHECKS {
        let known = all(client).await?;
        let may_come = wanted.is_none() && !known.is_empty();
        if !may_come || known.iter().any(|recipient| recipient.connected) {
            return pick(&known, wanted, client.org());
        }
        tokio::time::sleep(BETWEEN_CHECKS).await;
    }
    pick(&all(client).await?, wanted, client.org())
}

/// Whether a worker of ours takes it, which understands run inputs; foreign hosts do not.
pub(crate) async fn is_ours(client: &Client, chosen: &Chosen) -> Result<bool> {
    if chosen.name.is_some() {
        return Ok(true);
    }
    let id = chosen.id.to_string();
    let found: Option<RecipientDetailView> = client.get_if_there(&["recipients", &id]).await?;
    Ok(found.is_some())
}

/// The id of a recipient that is named, for filters.
pub(crate) async fn id_of(client: &Client, wanted: &str) -> Result<Uuid> {
    match wanted.parse() {
        Ok(id) => Ok(id),
        Err(_) => Ok(pick(&all(client).await?, Some(wanted), client.org())?.id),
    }
}

fn pick(known: &[RecipientView], wanted: Option<&str>, org: Option<&str>) -> Result<Chosen> {
    let fits = |recipient: &&RecipientView| match wanted {
        Some(wanted) => {
            recipient.name == wanted || recipient.id.to_string() == wanted.to_lowercase()
        }
        None => recipient.connected,
    };
    let fitting: Vec<_> = known.iter().filter(fits).collect();
    match fitting.as_slice() {
        [one] => Ok(Chosen {
            id: one.id,
            name: Some(one.name.clone()),
            org_id: org.unwrap_or(&one.org_id).to_owned(),
        }),
        [] => Err(none_fits(known, wanted)),
        many => Err(Trouble::usage(match wanted {
            Some(wanted) => format!("{} recipients are called `{wanted}`", many.len()),
            None => format!("{} recipients are connected", many.len()),
        })
        .hint(format!("name one with -r (by name or id):\n{}", list(many.iter().copied())))),
    }
}

fn none_fits(known: &[RecipientView], wanted: Option<&str>) -> Trouble {
    let trouble = Trouble::usage(match wanted {
        Some(wanted) if Uuid::parse_str(wanted).is_ok() => {
            format!(
                "there is no recipient `{wanted}` among those of ours; to dispatch to a foreign \
                     host, name the organisation with --org"
            )
        }
        Some(wanted) => format!("there is no recipient called `{wanted}`"),
        None if known.is_empty() => "no recipient is registered".to_owned(),
        None => "no recipient is connected".to_owned(),
    });
    match (known.is_empty(), wanted) {
        (true, _) => trouble.hint("a worker that is registered and running on a host is one"),
        (false, None) => trouble.hint(format!("known, but away:\n{}", list(known.iter()))),
        (false, Some(_)) => trouble.hint(format!("known:\n{}", list(known.iter()))),
    }
}

fn list<'a>(recipients: impl Iterator<Item = &'a RecipientView>) -> String {
    let mut recipients = recipients.peekable();
    let mut lines = Vec::new();
    for recipient in recipients.by_ref().take(MOST_LISTED) {
        let state = if recipient.connected { "connected" } else { "away" };
        lines.push(format!("  {}  {}  {state}", recipient.id, text::clean(&recipient.name)));
    }
    match recipients.count() {
        0 => {}
        more => lines.push(format!("  and {more} more: dispatchctl recipients")),
    }
    lines.join("\n")
}

/// Names by id for tables; where they cannot be read, ids do, and the person is told why.
pub(crate) async fn names(client: &Client) -> std::collections::HashMap<Uuid, String> {
    match all(client).await {
        Ok(known) => known.into_iter().map(|recipient| (recipient.id, recipient.name)).collect(),
        Err(trouble) => {
            note(&format!("note: recipients are shown by id: {}", text::clean(trouble.message())));
            std::collections::HashMap::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(id: u128, name: &str, connected: bool) -> RecipientView {
        RecipientView {
            id: Uuid::from_u128(id),
            org_id: "1".to_owned(),
            name: name.to_owned(),
            connected,
            last_seen: None,
            active_runs: 0,
            labels: [].into(),
            version: None,
            paused: None,
        }
    }

    #[test]
    fn the_only_connected_one_is_taken() {
        let known = [recipient(1, "a", false), recipient(2, "b", true)];
        let chosen = pick(&known, None, None).unwrap();
        assert_eq!((chosen.id, chosen.org_id.as_str()), (Uuid::from_u128(2), "1"));
        assert_eq!(pick(&known, Some("a"), Some("9")).unwrap().org_id, "9");
        assert_eq!(
            pick(&known, Some(&Uuid::from_u128(1).to_string()), None).unwrap().id.as_u128(),
            1
        );
    }

    #[test]
    fn otherwise_the_choice_is_the_persons() {
        let known = [recipient(1, "a", true), recipient(2, "b", true), recipient(3, "b", true)];
        for (wanted, part) in
            [(None, "3 recipients are connected"), (Some("b"), "2 recipients are called")]
        {
            let message = pick(&known, wanted, None).unwrap_err();
            assert!(message.message().contains(part), "{}", message.message());
        }
        assert!(pick(&known, Some("c"), None).unwrap_err().message().contains("`c`"));
        assert!(pick(&[], None, None).unwrap_err().message().contains("registered"));
    }
}
