//! Dispatches by account (contract §1.5): the organisation of each account is looked up first, once
//! for every account of a request.

use std::collections::{BTreeMap, BTreeSet};

use dispatcher_wire::dispatch::{AccountItem, RunCreated};
use futures_util::{StreamExt as _, stream};

use super::{
    order::Order,
    planning::{refused, unexpected},
};
use crate::outside::tenants::{TenantError, Tenants};

/// How many accounts of one request are looked up at once.
const MAX_CONCURRENT_LOOKUPS: usize = 10;

/// What a look-up came to; no organisation: nobody has the account.
type Found = Result<Option<String>, TenantError>;

/// The items as orders of their organisations, or the answers of those whose organisation is not
/// known. Where no translator is on, that is all of them.
pub async fn orders(
    tenants: Option<&dyn Tenants>,
    items: Vec<AccountItem>,
) -> Vec<Result<Order, RunCreated>> {
    let accounts: BTreeSet<&str> = items.iter().map(|item| item.account.as_str()).collect();
    // Collected first: a stream over borrowed texts would not be `Send` inside a spawned task.
    let lookups: Vec<_> = accounts.into_iter().map(|account| look_up(tenants, account)).collect();
    let found: BTreeMap<String, Found> =
        stream::iter(lookups).buffer_unordered(MAX_CONCURRENT_LOOKUPS).collect().await;
    items.into_iter().map(|item| order(item, &found)).collect()
}

async fn look_up(tenants: Option<&dyn Tenants>, account: &str) -> (String, Found) {
    let found = match tenants {
        Some(tenants) => tenants.org_id(account).await,
        None => Ok(None),
    };
    if let Err(error) = &found {
        tracing::warn!(account, %error, "the organisation of an account is not known");
    }
    (account.to_owned(), found)
}

fn order(item: AccountItem, found: &BTreeMap<String, Found>) -> Result<Order, RunCreated> {
    match found.get(&item.account) {
        Some(Ok(Some(org_id))) => Ok(Order::by_account(item, org_id.clone())),
        Some(Ok(None)) => Err(refused(404, "Tenant not found")),
        Some(Err(_)) | None => Err(unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use serde_json::json;

    use super::*;

    /// Knows the accounts that begin with `1`, fails for those that begin with `2`.
    #[derive(Default)]
    struct Scripted(Mutex<Vec<String>>);

    #[async_trait]
    impl Tenants for Scripted {
        async fn org_id(&self, account: &str) -> Found {
            self.0.lock().unwrap().push(account.to_owned());
            match account.chars().next() {
                Some('1') => Ok(Some(format!("org-{account}"))),
                Some('2') => Err(TenantError("broken".to_owned())),
                _ => Ok(None),
            }
        }
    }

    fn items(accounts: &[&str]) -> Vec<AccountItem> {
        let item = |account: &&str| {
            serde_json::from_value(json!({
                "recipient": "dd018b96-da04-4651-84d1-187fa5c23f6c", "account": account,
                "url": "https://example.com/p.yml",
            }))
            .unwrap()
        };
        accounts.iter().map(item).collect()
    }

    #[tokio::test]
    async fn every_account_is_looked_up_once_and_answers_keep_their_places() {
        let tenants = Scripted::default();
        let orders = orders(Some(&tenants), items(&["1", "3", "2", "1", "12", "1"])).await;
        let answers: Vec<Result<String, RunCreated>> =
            orders.into_iter().map(|order| order.map(|order| order.org_id)).collect();
        let found = |org: &str| Ok(org.to_owned());
        let (unknown, failed) = (Err(refused(404, "Tenant not found")), Err(unexpected()));
        let expected =
            [found("org-1"), unknown, failed, found("org-1"), found("org-12"), found("org-1")];
        assert_eq!(answers, expected);
        let mut asked = tenants.0.into_inner().unwrap();
        asked.sort();
        assert_eq!(asked, ["1", "12", "2", "3"]);
    }

    #[tokio::test]
    async fn without_a_translator_nobody_is_known() {
        let orders = orders(None, items(&["1"])).await;
        assert_eq!(orders[0].as_ref().unwrap_err(), &refused(404, "Tenant not found"));
    }
}
