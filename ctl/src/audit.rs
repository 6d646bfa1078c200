//! `dispatchctl audit`: what people and keys changed, newest first.

use dispatcher_wire::admin::AuditView;
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    cli::At,
    client::Client,
    keys::args::AuditArgs,
    listings::{self, Page},
    output::{Columns, Format, cell, note},
    text,
    trouble::Result,
};

/// Lists a page of the audit log.
pub(crate) async fn audit(at: &At, args: AuditArgs) -> Result<u8> {
    let client = Client::new(at)?;
    let given = [("action", args.action), ("principal", args.principal), ("since", args.since)];
    let filters: Vec<_> =
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let (limit, offset) = (u64::from(args.limit), u64::from(args.offset));
    let page: Page<Value> = listings::page(&client, &["audit"], &filters, limit, offset).await?;
    let shown = offset + page.data.len() as u64;
    let total = page.meta.map_or(0, |meta| meta.total);
    let done = listings::show(at, page.data, "nothing was changed", |rows: Vec<AuditView>| {
        let now = OffsetDateTime::now_utc();
        let mut table =
            Columns::new(at, &["AGE", "WHO", "ROLE", "ACTION", "TARGET", "ORG", "REQUEST"]);
        for row in &rows {
            table.row(vec![
                cell(text::age(&row.at, now)),
                cell(format!("{}:{}", row.principal_kind, row.principal_id)),
                cell(&row.role),
                cell(&row.action),
                cell(&row.target),
                cell(row.org_id.as_deref().unwrap_or("-")),
                cell(row.request_id.as_deref().unwrap_or("-")),
            ]);
        }
        table.print()
    })?;
    if at.output == Format::Table && shown < total {
        note(&format!("{} more: --offset {shown}", total - shown));
    }
    Ok(done)
}
