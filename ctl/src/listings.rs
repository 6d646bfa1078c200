//! Lists: pages fetched one after the other, uploads as a table or data.

use dispatcher_wire::view::UploadView;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    cli::At,
    client::Client,
    output::{self, Columns, Format, cell, note},
    text,
    trouble::{Result, Trouble, status},
};

/// The most items that a page may have.
pub(crate) const PAGE: u64 = 200;
/// The most pages that are fetched for one command.
const MAX_PAGES: u64 = 5000;

/// A page as it is read here: links are not needed, and a list without counts is one page.
#[derive(Deserialize)]
pub(crate) struct Page<T> {
    /// The items.
    pub(crate) data: Vec<T>,
    /// How many there are.
    pub(crate) meta: Option<Meta>,
}

/// Counts of a page.
#[derive(Deserialize)]
pub(crate) struct Meta {
    /// Items that match in all.
    pub(crate) total: u64,
}

/// Every item of a list, page after page.
pub(crate) async fn every<T: DeserializeOwned>(
    client: &Client,
    path: &[&str],
    filters: &[(String, String)],
) -> Result<Vec<T>> {
    let mut items = Vec::new();
    for _ in 0..MAX_PAGES {
        let page: Page<T> = page(client, path, filters, PAGE, items.len() as u64).await?;
        let is_last = page.data.is_empty();
        items.extend(page.data);
        if is_last || page.meta.is_none_or(|meta| items.len() as u64 >= meta.total) {
            return Ok(items);
        }
    }
    Err(Trouble::failed(format!("there are more than {} of them", MAX_PAGES * PAGE))
        .hint("use filters, or --limit and --offset"))
}

/// One page of a list.
pub(crate) async fn page<T: DeserializeOwned>(
    client: &Client,
    path: &[&str],
    filters: &[(String, String)],
    limit: u64,
    offset: u64,
) -> Result<Page<T>> {
    let mut query = filters.to_vec();
    query.push(("limit".to_owned(), limit.to_string()));
    query.push(("offset".to_owned(), offset.to_string()));
    client.get(path, &query).await
}

/// Prints items as data, as they were answered, or as a table.
pub(crate) fn show<T: DeserializeOwned + Serialize>(
    at: &At,
    items: Vec<Value>,
    none: &str,
    table: impl FnOnce(Vec<T>) -> Result<()>,
) -> Result<u8> {
    if at.output != Format::Table {
        output::data(at.output, &items)?;
    } else if items.is_empty() {
        note(none);
    } else {
        table(items.into_iter().map(typed).collect::<Result<_>>()?)?;
    }
    Ok(status::SUCCESS)
}

/// Reads a value that the dispatcher answered as what it should be.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| {
        Trouble::connection(format!("the dispatcher's answer is unexpected: {error}"))
    })
}

/// `dispatchctl uploads`.
pub(crate) async fn uploads(at: &At) -> Result<u8> {
    let client = Client::new(at)?;
    let items = every(&client, &["uploads"], &[]).await?;
    show(at, items, "no uploads were received", |uploads: Vec<UploadView>| {
        let now = OffsetDateTime::now_utc();
        let mut table = Columns::new(at, &["UPLOAD", "STATE", "SIZE", "AGE", "REASON"]);
        for upload in &uploads {
            table.row(vec![
                cell(&upload.id),
                cell(&upload.state).fg(match upload.state.as_str() {
                    "applied" => output::GOOD,
                    "pending" => output::BUSY,
                    _ => output::BAD,
                }),
                cell(text::bytes(u64::try_from(upload.size).unwrap_or(0))),
                cell(text::age(&upload.created_at, now)),
                cell(upload.reason.as_deref().unwrap_or("-")),
            ]);
        }
        table.print()
    })
}
