//! Output in chunks: any number of pieces, of one run or many, with one statement. Only the bytes
//! that are asked for leave the server.

use deadpool_postgres::GenericClient;
use uuid::Uuid;

use super::{connection::all, fault::Fault};

/// Pieces of output to be read.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    runs: Vec<Uuid>,
    from: Vec<i64>,
    to: Vec<i64>,
}

/// Pieces that were read.
#[derive(Debug)]
pub(super) struct Pieces(Vec<Vec<u8>>);

impl Pieces {
    /// The piece of that place; empty where the run has no such bytes.
    pub(super) fn get(&self, place: usize) -> &[u8] {
        self.0.get(place).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Wanted {
    /// Asks for the bytes `from..to` of a run's output; answers with their place among the pieces.
    pub(super) fn add(&mut self, run: Uuid, from: u64, to: u64) -> usize {
        self.runs.push(run);
        self.from.push(i64::try_from(from).unwrap_or(i64::MAX));
        self.to.push(i64::try_from(to).unwrap_or(i64::MAX));
        self.runs.len() - 1
    }

    /// Reads all of them.
    pub(super) async fn read(&self, client: &impl GenericClient) -> Result<Pieces, Fault> {
        // The first chunk is the last one that begins at or before the piece.
        const READ: &str = "
            SELECT p.place, c.bytes
            FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) WITH ORDINALITY
                 AS p (run_id, low, high, place)
            JOIN LATERAL (
                SELECT o.start_byte,
                       substr(o.data, (greatest(p.low - o.start_byte, 0) + 1)::integer,
                              greatest(p.high - greatest(p.low, o.start_byte), 0)::integer) AS bytes
                FROM run_output o
                WHERE o.run_id = p.run_id AND o.start_byte < p.high
                  AND o.start_byte >= coalesce((SELECT max(b.start_byte) FROM run_output b
                                                WHERE b.run_id = p.run_id
                                                  AND b.start_byte <= p.low), 0)
            ) c ON p.low < p.high
            ORDER BY p.place, c.start_byte";
        let mut pieces = vec![Vec::new(); self.runs.len()];
        for row in all(client, READ, &[&self.runs, &self.from, &self.to]).await? {
            let place = usize::try_from(row.try_get::<_, i64>("place")?).unwrap_or_default();
            if let Some(piece) = place.checked_sub(1).and_then(|place| pieces.get_mut(place)) {
                piece.extend_from_slice(row.try_get("bytes")?);
            }
        }
        Ok(Pieces(pieces))
    }
}
