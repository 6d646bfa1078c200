//! Connections: the pool, its limits, and how a method's transaction is carried out and repeated.

use std::{str::FromStr, time::Duration};

use deadpool_postgres::{
    GenericClient, Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
    Transaction,
};
use secrecy::ExposeSecret as _;
use tokio_postgres::{NoTls, Row, Statement, config::SslMode, types::ToSql};

use super::{fault::Fault, migrate, totals::Totals};
use crate::{
    config::database::{Address, Postgres},
    store::{StoreError, StoreResult},
};

/// How often a transaction is begun again that the server gave up for a conflict.
const MOST_REPEATS: u32 = 5;

/// A parameter of a statement.
pub(super) type Param<'a> = &'a (dyn ToSql + Sync);
/// All parameters of a statement.
pub(super) type Params<'a> = [Param<'a>];

/// The store on PostgreSQL.
pub struct PostgresStore {
    pool: Pool,
    /// The most that one method may take, all tries together.
    patience: Duration,
    config: Postgres,
    pub(super) totals: Totals,
}

impl PostgresStore {
    pub(super) async fn open(config: &Postgres) -> StoreResult<Self> {
        let manager = Manager::from_config(
            server(config)?,
            NoTls,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let statement = config.statement;
        let pool = Pool::builder(manager)
            .max_size(config.connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(config.wait))
            .create_timeout(Some(config.wait))
            .recycle_timeout(Some(config.wait))
            .post_create(Hook::async_fn(move |client, _| {
                Box::pin(async move {
                    let limits = session_limits(statement);
                    client.batch_execute(&limits).await.map_err(HookError::Backend)
                })
            }))
            .build()
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        let patience = config.wait + statement * 2;
        let config = config.clone();
        let store = Self { pool, patience, config, totals: Totals::default() };
        store.retrying(|| async { migrate::check(&store.client().await?).await }).await?;
        Ok(store)
    }

    /// How the server is reached.
    pub(super) const fn config(&self) -> &Postgres {
        &self.config
    }

    /// A connection of the pool.
    pub(super) async fn client(&self) -> Result<Object, Fault> {
        Ok(self.pool.get().await?)
    }

    /// Carries out one method's work. What the server gave up for a conflict is begun again, after
    /// a pause that differs from try to try; nothing may take longer than the store's patience.
    pub(super) async fn retrying<T, F, W>(&self, attempt: W) -> StoreResult<T>
    where
        W: Fn() -> F,
        F: Future<Output = Result<T, Fault>>,
    {
        let tries = async {
            let mut repeats = 0;
            loop {
                match attempt().await {
                    Err(fault) if fault.is_conflict() && repeats < MOST_REPEATS => {
                        repeats += 1;
                        tokio::time::sleep(pause(repeats)).await;
                    }
                    outcome => return outcome,
                }
            }
        };
        let outcome = tokio::time::timeout(self.patience, tries).await;
        Ok(outcome.unwrap_or_else(|_| Err(Fault::late("it did not answer in time")))?)
    }
}

/// A few milliseconds, more for later tries, different for transactions that met each other.
fn pause(repeats: u32) -> Duration {
    let spread = u64::from(uuid::Uuid::new_v4().as_bytes().first().copied().unwrap_or_default());
    Duration::from_micros(u64::from(repeats) * (1_000 + spread * 20))
}

fn session_limits(statement: Duration) -> String {
    let limit = statement.as_millis();
    format!(
        "SET statement_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit}; \
         SET TIME ZONE 'UTC'"
    )
}

/// The driver's form of the settings.
pub(super) fn server(config: &Postgres) -> StoreResult<tokio_postgres::Config> {
    let mut server = match &config.address {
        Address::Url(url) => tokio_postgres::Config::from_str(url.expose_secret())
            .map_err(|error| unusable(&super::fault::connecting(&error)))?,
        Address::Parts { host, port, name, user, password } => {
            let mut server = tokio_postgres::Config::new();
            server.host(host).port(*port).dbname(name).user(user).ssl_mode(SslMode::Disable);
            if let Some(password) = password {
                server.password(password.expose_secret());
            }
            server
        }
    };
    if server.get_ssl_mode() == SslMode::Require {
        return Err(unusable("TLS to the database is not available yet; allowed: disable, prefer"));
    }
    server
        .application_name("dispatcher-api")
        .connect_timeout(config.wait)
        .keepalives_idle(Duration::from_secs(30))
        .tcp_user_timeout(config.statement);
    Ok(server)
}

fn unusable(why: &str) -> StoreError {
    StoreError::Failed(format!("the address of the database is not usable: {why}"))
}

/// Statements of this connection, prepared in this order where they are not yet.
pub(super) async fn prepared<const N: usize>(
    client: &impl GenericClient,
    texts: [&str; N],
) -> Result<[Statement; N], Fault> {
    let mut statements = Vec::with_capacity(N);
    for text in texts {
        statements.push(client.prepare_cached(text).await?);
    }
    statements.try_into().map_err(|_| Fault::broken("statements were lost while preparing"))
}

/// All rows of a statement.
pub(super) async fn all(
    client: &impl GenericClient,
    text: &str,
    params: &Params<'_>,
) -> Result<Vec<Row>, Fault> {
    let statement = client.prepare_cached(text).await?;
    Ok(client.query(&statement, params).await?)
}

/// The one row of a statement, if there is one.
pub(super) async fn one(
    client: &impl GenericClient,
    text: &str,
    params: &Params<'_>,
) -> Result<Option<Row>, Fault> {
    let statement = client.prepare_cached(text).await?;
    Ok(client.query_opt(&statement, params).await?)
}

/// The number of rows a statement changed.
pub(super) async fn run(
    client: &impl GenericClient,
    text: &str,
    params: &Params<'_>,
) -> Result<u64, Fault> {
    let statement = client.prepare_cached(text).await?;
    Ok(client.execute(&statement, params).await?)
}

/// All rows of two statements, sent together and worked through in this order.
pub(super) async fn both(
    transaction: &Transaction<'_>,
    first: (&str, &Params<'_>),
    second: (&str, &Params<'_>),
) -> Result<(Vec<Row>, Vec<Row>), Fault> {
    let [one, two] = prepared(transaction, [first.0, second.0]).await?;
    Ok(tokio::try_join!(
        biased;
        transaction.query(&one, first.1),
        transaction.query(&two, second.1),
    )?)
}

/// Crash points around a commit: before it, and after it.
pub(super) struct Points(pub(super) &'static str, pub(super) &'static str);

/// Ends a transaction with its outcome: the only place where one is committed.
pub(super) async fn committed<T>(
    transaction: Transaction<'_>,
    points: Points,
    outcome: T,
) -> Result<T, Fault> {
    dispatcher_worker::crash::point(points.0);
    transaction.commit().await?;
    dispatcher_worker::crash::point(points.1);
    Ok(outcome)
}
