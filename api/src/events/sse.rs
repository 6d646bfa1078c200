//! The feed as server-sent events: one block of lines per item, as the standard of HTML defines them.
//! Pure.

use std::time::Duration;

use serde_json::json;

use super::{
    feed::{Gap, Item, STDOUT_MAX},
    message,
};

/// The content type of a stream.
pub const CONTENT_TYPE: &str = "text/event-stream";
/// The most that the data of an event takes: the output it may carry, with room for what JSON adds.
const DATA_MAX: usize = 2 * STDOUT_MAX;

/// What a stream begins with: after which pause a client that was cut off comes again.
#[must_use]
pub fn opening(retry: Duration) -> String {
    format!("retry: {}\n\n", retry.as_millis())
}

/// An item as a client gets it.
#[must_use]
pub fn block(item: &Item) -> Vec<u8> {
    match item {
        Item::Event(place, event) => {
            // JSON has no line ends of its own, and names of entities and kinds are ours.
            let name = message::kind(event);
            let mut block = format!("id: {place}\nevent: {name}\ndata: ").into_bytes();
            block.extend(message::body(event, DATA_MAX));
            block.extend(b"\n\n");
            block
        }
        Item::Gap(gap) => {
            let data = match gap {
                Gap::Unknown => json!({"reason": "not_kept"}),
                Gap::Numbers(first, last) => {
                    json!({"reason": "not_kept", "first": first, "last": last})
                }
            };
            format!("event: gap\ndata: {data}\n\n").into_bytes()
        }
        // Without data nothing is dispatched; the client remembers the place all the same.
        Item::Alive(place) => format!(": alive\nid: {place}\n\n").into_bytes(),
        Item::End => b"event: end\ndata: {}\n\n".to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;
    use crate::events::model::{Entity, Stdout, StoredEvent};

    fn text(item: &Item) -> String {
        String::from_utf8(block(item)).unwrap()
    }

    #[test]
    fn an_event_is_one_block_of_three_lines() {
        let event = StoredEvent {
            id: 1,
            run_id: Uuid::nil(),
            run_seq: 7,
            entity: Entity::RunHost,
            entity_id: Uuid::nil(),
            event_type: "update".to_owned(),
            org_id: "1".to_owned(),
            service: "s".to_owned(),
            status: "success".to_owned(),
            payload: json!({"host": "a\nb", "status": "success"}),
            created_at: datetime!(2026-08-01 10:00 UTC),
            stdout: Stdout::whole("one\r\ntwo\n\n".repeat(60_000)),
        };
        let text = text(&Item::Event("12-34".to_owned(), Box::new(event)));
        let lines: Vec<&str> = text.split('\n').collect();
        let [id, event, data, "", ""] = lines.as_slice() else { panic!("{text}") };
        assert_eq!((*id, *event), ("id: 12-34", "event: run_host.update"));
        assert!(data.starts_with("data: {\"event_type\":\"update\"") && data.len() < 140_000);
        assert!(!text.contains('\r'));
    }

    #[test]
    fn what_is_no_event_cannot_be_taken_for_one() {
        assert_eq!(text(&Item::Alive("0-3".to_owned())), ": alive\nid: 0-3\n\n");
        let gap = "event: gap\ndata: {\"reason\":\"not_kept\",\"first\":2,\"last\":5}\n\n";
        assert_eq!(text(&Item::Gap(Gap::Numbers(2, 5))), gap);
        assert_eq!(text(&Item::Gap(Gap::Unknown)).lines().next(), Some("event: gap"));
        assert_eq!(text(&Item::End), "event: end\ndata: {}\n\n");
        assert_eq!(opening(Duration::from_secs(2)), "retry: 2000\n\n");
    }
}
