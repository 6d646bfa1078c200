//! A run's output from a byte on: from the chunks of our workers' runs, from the log of others.

use deadpool_postgres::Object;
use uuid::Uuid;

use super::{connection::one, fault::Fault, output::Wanted, rows};
use crate::runs::model::LogSlice;

/// [`crate::store::RunStore::read_log`].
pub(super) async fn read(
    client: &Object,
    org_id: &str,
    run_id: Uuid,
    host: Option<&str>,
    from: u64,
    cap: usize,
) -> Result<Option<LogSlice>, Fault> {
    const WHERE_IS_IT: &str = "
        SELECT r.status::text AS status, w.output_bytes, h.id, octet_length(h.log)::bigint AS length
        FROM runs r
        LEFT JOIN run_work w ON w.run_id = r.id
        LEFT JOIN LATERAL (
            SELECT h.id, h.log FROM run_hosts h
            WHERE h.run_id = r.id AND ($3::text IS NULL OR h.host = $3)
            ORDER BY h.host COLLATE \"C\" LIMIT 1
        ) h ON true
        WHERE r.id = $1 AND r.org_id = $2";
    let Some(found) = one(client, WHERE_IS_IT, &[&run_id, &org_id, &host]).await? else {
        return Ok(None);
    };
    let host_id: Option<Uuid> = found.try_get("id")?;
    if host.is_some() && host_id.is_none() {
        return Ok(None);
    }
    let chunked: Option<i64> = found.try_get("output_bytes")?;
    let logged: Option<i64> = found.try_get("length")?;
    let total = chunked.or(logged).unwrap_or_default().cast_unsigned();
    let to = total.min(from.saturating_add(cap as u64));
    let bytes = match (chunked, host_id) {
        _ if from >= to => Vec::new(),
        (Some(_), _) => {
            let mut wanted = Wanted::default();
            let place = wanted.add(run_id, from, to);
            wanted.read(client).await?.get(place).to_vec()
        }
        (None, Some(host_id)) => of_log(client, host_id, from, to).await?,
        (None, None) => Vec::new(),
    };
    let is_final = rows::status(found.try_get("status")?)?.is_final();
    let complete = is_final && from.saturating_add(bytes.len() as u64) >= total;
    Ok(Some(LogSlice { bytes, complete }))
}

/// Bytes of a host's log. The database limits it to 1 GiB, so that positions fit.
async fn of_log(client: &Object, host: Uuid, from: u64, to: u64) -> Result<Vec<u8>, Fault> {
    const SLICE: &str =
        "SELECT substr(convert_to(log, 'UTF8'), $2, $3) AS bytes FROM run_hosts WHERE id = $1";
    let begin = i32::try_from(from.saturating_add(1)).unwrap_or(i32::MAX);
    let length = i32::try_from(to.saturating_sub(from)).unwrap_or(i32::MAX);
    let row = one(client, SLICE, &[&host, &begin, &length]).await?;
    Ok(row.map(|row| row.try_get("bytes")).transpose()?.unwrap_or_default())
}
