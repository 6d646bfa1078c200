//! Connections: the pool, its limits, and how a method's transaction is carried out and repeated.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use deadpool_postgres::{
    GenericClient, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolBuilder, PoolError,
    QueueMode, RecyclingMethod, Runtime, Transaction, WeakPool,
};
use tokio_postgres::{Row, Statement, types::ToSql};

use super::{
    fault::Fault,
    migrate,
    servers::{Connector, Servers},
};
use crate::{
    config::database::Postgres,
    store::{StoreError, StoreResult, totals::Totals},
};

/// How often a transaction is begun again that the server gave up for a conflict.
const MOST_REPEATS: u32 = 5;
/// Between two looks for connections that are too many.
const SHRINK_EVERY: Duration = Duration::from_secs(10);
/// How long they must have been idle.
const IDLE_FOR: Duration = Duration::from_secs(30);

/// A parameter of a statement.
pub(super) type Param<'a> = &'a (dyn ToSql + Sync);
/// All parameters of a statement.
pub(super) type Params<'a> = [Param<'a>];

/// The store on PostgreSQL.
pub struct PostgresStore {
    pool: Pool,
    servers: Arc<Servers>,
    /// Connections from before are not used again.
    stale: Arc<Mutex<Option<Instant>>>,
    /// The most that one method may take, all tries together.
    patience: Duration,
    pub(super) totals: Totals,
}

impl PostgresStore {
    pub(super) async fn open(config: &Postgres) -> StoreResult<Self> {
        let servers = Arc::new(Servers::of(config)?);
        let stale = Arc::default();
        let pool = pool(config, &servers, &stale)
            .build()
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        tokio::spawn(shrunk(pool.weak(), config.kept));
        let patience = config.wait + config.statement * 2;
        let store = Self { pool, servers, stale, patience, totals: Totals::default() };
        store.retrying(|| async { migrate::check(&store.client().await?).await }).await?;
        store.say_what_may_not_suffice(config).await;
        Ok(store)
    }

    /// How the server is reached, past the pool.
    pub(super) fn servers(&self) -> &Servers {
        &self.servers
    }

    /// A connection of the pool.
    pub(super) async fn client(&self) -> Result<Object, Fault> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(_) => Fault::late(self.servers.last_refusal()),
            other => other.into(),
        })
    }

    /// Carries out one method's work. What the server gave up for a conflict is begun again, after
    /// a pause that differs from try to try, and so is what a server refused that takes no writes
    /// any more, on a connection to the one that does; nothing may take longer than the store's
    /// patience.
    pub(super) async fn retrying<T, F, W>(&self, attempt: W) -> StoreResult<T>
    where
        W: Fn() -> F,
        F: Future<Output = Result<T, Fault>>,
    {
        let tries = async {
            let mut repeats = 0;
            loop {
                match attempt().await {
                    Err(fault) if fault.may_be_repeated() && repeats < MOST_REPEATS => {
                        self.drop_stale(&fault);
                        repeats += 1;
                        tokio::time::sleep(pause(repeats)).await;
                    }
                    outcome => return outcome,
                }
            }
        };
        let outcome = tokio::time::timeout(self.patience, tries).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Fault::frozen()));
        outcome.inspect_err(|fault| self.drop_stale(fault)).map_err(Into::into)
    }

    /// Where a server has become another one, or does not answer, no connection that was made until
    /// now is used again.
    fn drop_stale(&self, fault: &Fault) {
        if fault.is_about_the_server() {
            *self.stale.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }

    /// Warns where all instances together may want more connections than the server gives.
    async fn say_what_may_not_suffice(&self, config: &Postgres) {
        const ASK: &str = "
            SELECT current_setting('max_connections')::int8
                   - current_setting('superuser_reserved_connections')::int8 AS most,
                   (SELECT count(*) FROM instances
                    WHERE kind = 'api' AND seen_at > clock_timestamp() - interval '6 seconds') AS others";
        if config.unlimited {
            tracing::warn!(
                connections = config.connections,
                "SQLALCHEMY_MAX_OVERFLOW=-1: there is a limit all the same"
            );
        }
        let asked = self.retrying(|| async { one(&self.client().await?, ASK, &[]).await }).await;
        let Ok(Some(row)) = asked else { return };
        let number = |name: &str| row.try_get::<_, i64>(name).unwrap_or_default();
        let (most, instances) = (number("most"), number("others") + 1);
        let wanted = instances * i64::try_from(config.connections).unwrap_or(i64::MAX / instances);
        if wanted > most {
            tracing::warn!(
                instances,
                connections = config.connections,
                most,
                "all instances together may want more connections than the database's \
                 max_connections: lower DB_MAX_OPEN_CONNECTIONS, or raise max_connections"
            );
        }
    }
}

fn pool(
    config: &Postgres,
    servers: &Arc<Servers>,
    stale: &Arc<Mutex<Option<Instant>>>,
) -> PoolBuilder {
    let manager = Manager::from_connect(
        tokio_postgres::Config::new(),
        Connector(Arc::clone(servers)),
        ManagerConfig { recycling_method: RecyclingMethod::Fast },
    );
    let (statement, stale) = (config.statement, Arc::clone(stale));
    Pool::builder(manager)
        .max_size(config.connections)
        // So that those which are too many become idle.
        .queue_mode(QueueMode::Lifo)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(config.wait))
        .create_timeout(Some(servers.patience()))
        .recycle_timeout(Some(config.wait))
        .pre_recycle(Hook::sync_fn(move |_, metrics| {
            let stale = *stale.lock().unwrap_or_else(PoisonError::into_inner);
            if stale.is_some_and(|stale| metrics.created <= stale) {
                return Err(HookError::message("it is from before the server changed"));
            }
            Ok(())
        }))
        .post_create(Hook::async_fn(move |client, _| {
            Box::pin(async move {
                let limits = session_limits(statement);
                client.batch_execute(&limits).await.map_err(HookError::Backend)
            })
        }))
}

/// Closes connections beyond those to keep that were idle for a while, as long as there is a pool.
async fn shrunk(pool: WeakPool, kept: usize) {
    loop {
        tokio::time::sleep(SHRINK_EVERY).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut excess = pool.status().size.saturating_sub(kept);
        pool.retain(|_, metrics| {
            let closed = excess > 0 && metrics.last_used() > IDLE_FOR;
            excess -= usize::from(closed);
            !closed
        });
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

/// All rows of a statement whose values decide how it is best answered: planned for these.
pub(super) async fn all_planned(
    client: &impl GenericClient,
    text: &str,
    params: &Params<'_>,
) -> Result<Vec<Row>, Fault> {
    let statement = client.prepare(text).await?;
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

/// All rows of two statements, sent together and worked through in this order. Both answers are
/// awaited: where the first failed, that of the second says only that something has.
pub(super) async fn both(
    transaction: &Transaction<'_>,
    first: (&str, &Params<'_>),
    second: (&str, &Params<'_>),
) -> Result<(Vec<Row>, Vec<Row>), Fault> {
    let [one, two] = prepared(transaction, [first.0, second.0]).await?;
    let (first, second) = tokio::join!(
        biased;
        transaction.query(&one, first.1),
        transaction.query(&two, second.1),
    );
    Ok((first?, second?))
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
