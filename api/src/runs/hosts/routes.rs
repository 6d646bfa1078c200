//! Run hosts over HTTP: the list for organisations, and the same for services on behalf of one
//! (contract §1.11, §1.12).

use axum::{
    extract::State,
    http::{StatusCode, Uri},
};
use dispatcher_wire::view::Page;
use serde_json::Value;
use time::OffsetDateTime;

use super::HostListing;
use crate::{
    app::App,
    http::{
        extract::{OnBehalf, RunReader, RunScope},
        json::JsonReply,
        links,
        parameters::{FilterSpec, Filters},
        problem::Problem,
        query::{Checked, ListSpec, RawQuery},
    },
    runs::{
        counting,
        fields::{Fields, RUN_HOST_DEFAULTS, RUN_HOST_FIELDS},
        model::RunHostFilter,
        routes::{Members, parse_uuid, status_of, uuid_of},
    },
};

const INVENTORY_ID: FilterSpec = FilterSpec {
    name: "inventory_id",
    component: Some("InventoryIdNullable"),
    allowed: &[],
    may_be_empty: true,
};
const RUN_ID: FilterSpec =
    FilterSpec { name: "id", component: None, allowed: &[], may_be_empty: true };
const OF_RUN: Filters =
    Filters { members: &[RUN_ID, FilterSpec::SERVICE], labels: true, run: None };
/// What the list of run hosts can be filtered by.
pub const FILTERS: Filters =
    Filters { members: &[FilterSpec::STATUS, INVENTORY_ID], labels: false, run: Some(&OF_RUN) };
const QUERY: ListSpec = ListSpec { filters: FILTERS, is_sorted: false };

/// `GET …/run_hosts`: hosts of the organisation's runs.
pub async fn list(
    State(app): State<App>,
    reader: RunReader,
    uri: Uri,
) -> Result<JsonReply<Page<Value>>, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let checked = query.checked(&QUERY).map_err(Problem::bad_request)?;
    let scope = reader.scope(&app).await?;
    query.bound(&QUERY).map_err(Problem::bad_request)?;
    page_of_hosts(&app, &uri, &query, &checked, scope).await
}

/// `GET /internal/v2/run_hosts`: hosts of the runs of the organisation that an identity names, of every
/// service, for services.
pub async fn list_on_behalf(
    State(app): State<App>,
    OnBehalf(org_id): OnBehalf,
    uri: Uri,
) -> Result<JsonReply<Page<Value>>, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let checked = query.checked(&QUERY).map_err(Problem::bad_request)?;
    query.bound(&QUERY).map_err(Problem::bad_request)?;
    if app.settings.dispatch.is_blocked(&org_id) {
        return Err(Problem::Empty(StatusCode::FORBIDDEN));
    }
    let scope = RunScope { org_id, services: Vec::new() };
    page_of_hosts(&app, &uri, &query, &checked, scope).await
}

async fn page_of_hosts(
    app: &App,
    uri: &Uri,
    query: &RawQuery,
    checked: &Checked,
    scope: RunScope,
) -> Result<JsonReply<Page<Value>>, Problem> {
    let page = checked.page;
    let fields =
        query.fields(&RUN_HOST_FIELDS, &RUN_HOST_DEFAULTS).map_err(Problem::bad_request)?;
    let filter = host_filter(query, &checked.members, scope)?;
    let listing = HostListing {
        filter,
        fields: Fields::new(fields),
        limit: page.limit,
        offset: page.offset,
        now: OffsetDateTime::now_utc(),
    };
    let found = super::list(app.stores.runs.as_ref(), listing).await;
    let found = found.inspect_err(|_| counting::not_read(uri.path()))?;
    let body = links::page(uri.path(), query, page, found.rows, found.total);
    Ok(JsonReply(StatusCode::OK, body))
}

fn host_filter(
    query: &RawQuery,
    members: &Members,
    scope: RunScope,
) -> Result<RunHostFilter, Problem> {
    const UNREADABLE: &str = "Unable to parse inventory id!";
    if query.values("filter[inventory_id]").next() == Some("") {
        return Err(Problem::bad_request(UNREADABLE));
    }
    let run_id = single(query, RUN_ID.name)?.map(|id| parse_uuid(id, "Unable to parse run id!"));
    Ok(RunHostFilter {
        org_id: scope.org_id,
        services: scope.services,
        status: status_of(members),
        run_id: run_id.transpose()?,
        run_service: single(query, FilterSpec::SERVICE.name)?.map(str::to_owned),
        run_labels: query.nested("filter[run][labels]"),
        inventory_id: uuid_of(members, "inventory_id", UNREADABLE)?,
    })
}

/// The value of `filter[run][…]`. A repeated one is refused: the original fails on it with 500.
fn single<'a>(query: &'a RawQuery, member: &str) -> Result<Option<&'a str>, Problem> {
    match query.nested_values("filter[run]", member).as_slice() {
        [] => Ok(None),
        [value] => Ok(Some(*value)),
        _ => Err(Problem::bad_request(format!(
            "Invalid format for parameter filter: multiple values for filter[run][{member}]"
        ))),
    }
}
