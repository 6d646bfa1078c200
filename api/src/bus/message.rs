//! What instances tell each other: who speaks, and a compact list of topics; or that there were too
//! many to name. Pure.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use super::Topic;

/// The most bytes of a message: PostgreSQL takes fewer than 8,000.
pub const MAX_BYTES: usize = 7_900;
/// An id in a message: 16 bytes in base64.
const ID_BYTES: usize = 22;
/// A topic in a message: its kind, and its id.
const TOPIC_BYTES: usize = 1 + ID_BYTES;
/// The most topics that one message names.
pub const MAX_TOPICS: usize = (MAX_BYTES - ID_BYTES) / TOPIC_BYTES;
/// In place of topics: anything may have changed.
const EVERYTHING: &str = "*";

/// What a message is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum News {
    /// These topics. None: only a sign of life.
    Of(HashSet<Topic>),
    /// Too many to name: whoever waits should look.
    Everything,
}

/// The message of an instance.
#[must_use]
pub fn encode(from: Uuid, news: &News) -> String {
    let mut text = id(from);
    match news {
        News::Everything => text.push_str(EVERYTHING),
        News::Of(topics) => topics.iter().filter_map(topic).for_each(|topic| text.push_str(&topic)),
    }
    text
}

/// Who speaks, and of what. `None`: not a message of ours, or of another version's.
#[must_use]
pub fn decode(text: &str) -> Option<(Uuid, News)> {
    let (from, rest) = text.split_at_checked(ID_BYTES)?;
    let from = parsed(from)?;
    if rest == EVERYTHING {
        return Some((from, News::Everything));
    }
    let topics = rest.as_bytes().chunks(TOPIC_BYTES).map(|topic| {
        let (kind, id) = topic.split_first()?;
        let id = parsed(std::str::from_utf8(id).ok()?)?;
        match kind {
            b'r' => Some(Topic::Run(id)),
            b'w' => Some(Topic::Recipient(id)),
            b'e' => Some(Topic::Events),
            _ => None,
        }
    });
    Some((from, News::Of(topics.collect::<Option<_>>()?)))
}

/// A topic as it stands in a message; `None`: it does not concern other instances.
fn topic(topic: &Topic) -> Option<String> {
    match topic {
        Topic::Run(run) => Some(format!("r{}", id(*run))),
        Topic::Recipient(recipient) => Some(format!("w{}", id(*recipient))),
        Topic::Events => Some(format!("e{}", id(Uuid::nil()))),
        Topic::Uploads => None,
    }
}

fn id(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

fn parsed(text: &str) -> Option<Uuid> {
    Uuid::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let (from, run, recipient) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        for topics in [
            vec![],
            vec![Topic::Run(run)],
            vec![Topic::Recipient(recipient), Topic::Run(run), Topic::Events],
        ] {
            let news = News::Of(topics.into_iter().collect());
            assert_eq!(decode(&encode(from, &news)), Some((from, news)));
        }
        assert_eq!(decode(&encode(from, &News::Everything)), Some((from, News::Everything)));
        let own = News::Of([Topic::Uploads].into());
        assert_eq!(decode(&encode(from, &own)), Some((from, News::Of([].into()))));
    }

    #[test]
    fn a_full_message_is_not_too_long() {
        let topics = (0..MAX_TOPICS).map(|_| Topic::Recipient(Uuid::new_v4())).collect();
        let text = encode(Uuid::new_v4(), &News::Of(topics));
        assert!(text.len() <= MAX_BYTES && text.len() + TOPIC_BYTES > MAX_BYTES, "{}", text.len());
    }

    #[test]
    fn anything_else_is_not_understood() {
        let good = encode(Uuid::nil(), &News::Of([Topic::Run(Uuid::nil())].into()));
        let cut = good.get(..good.len() - 1).unwrap();
        let other = good.replace('r', "x");
        for bad in ["", "*", "hello", "ä".repeat(30).as_str(), cut, &other, &format!("{good}*")] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
