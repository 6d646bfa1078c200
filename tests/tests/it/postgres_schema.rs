//! Whether a PostgreSQL database is created, adopted, continued or refused, and that the schema is
//! the contract's.

use dispatcher_api::store::{
    StoreError,
    postgres::{
        PostgresStore,
        migrate::{MigrateError, Migrated},
    },
};
use dispatcher_tests::postgres::Database;
use tokio_postgres::Client;

/// The original's schema, as its sixteen migrations leave it.
const ORIGINAL: &str = include_str!("../../../api/migrations/postgres/V1__contract_tables.sql");
const STEPS: [&str; 10] = [
    "V1__contract_tables",
    "V2__side_tables",
    "V3__instances_and_keys",
    "V4__event_feed",
    "dispatcher_runs_org_created_index",
    "dispatcher_runs_running_index",
    "dispatcher_runs_final_index",
    "dispatcher_run_hosts_running_index",
    "dispatcher_outbox_unpublished_index",
    "dispatcher_outbox_feed_index",
];

async fn of_original(change: &str) -> (Database, Client) {
    let database = Database::empty().await.unwrap();
    let client = database.client().await.unwrap();
    client.batch_execute(ORIGINAL).await.unwrap();
    client.batch_execute(change).await.unwrap();
    (database, client)
}

async fn tables(client: &Client) -> Vec<String> {
    const TABLES: &str = "
        SELECT table_name::text FROM information_schema.tables
        WHERE table_schema = 'public' ORDER BY table_name COLLATE \"C\"";
    client.query(TABLES, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Everything that programs of the original can see of a schema, as text.
async fn shape(client: &Client) -> Vec<String> {
    const SHAPE: &str = "
        SELECT format('%s.%s %s %s %s', table_name, column_name, udt_name, is_nullable,
                      column_default)
        FROM information_schema.columns WHERE table_name IN ('runs', 'run_hosts', 'schema_migrations')
        UNION ALL SELECT indexdef FROM pg_indexes
        WHERE tablename IN ('runs', 'run_hosts', 'schema_migrations')
        UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
        WHERE conrelid IN ('runs'::regclass, 'run_hosts'::regclass)
        UNION ALL SELECT relname || ' replica identity ' || relreplident::text FROM pg_class
        WHERE relname IN ('runs', 'run_hosts')
        UNION ALL SELECT format('version %s %s', version, dirty) FROM schema_migrations
        ORDER BY 1";
    client.query(SHAPE, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn refused(database: &Database) -> String {
    match PostgresStore::migrate(&database.config).await {
        Err(MigrateError::Refused(why)) => why,
        other => panic!("it was not refused: {other:?}"),
    }
}

#[tokio::test]
async fn an_empty_database_is_created_once() {
    let database = Database::empty().await.unwrap();
    let first = PostgresStore::migrate(&database.config).await.unwrap();
    assert_eq!(first.applied, STEPS);
    assert!(!first.adopted);
    let again = PostgresStore::migrate(&database.config).await.unwrap();
    assert_eq!(again, Migrated::default());
    database.stores().await.unwrap().upkeep.ping().await.unwrap();
}

#[tokio::test]
async fn the_contracts_tables_are_the_contracts() {
    let client = Database::migrated().await.unwrap().client().await.unwrap();
    let columns = |table: &'static str| {
        let client = &client;
        async move {
            let text = "
                SELECT column_name || ' ' || udt_name || ' ' || is_nullable || ' ' ||
                       coalesce(column_default, '-')
                FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position";
            let rows = client.query(text, &[&table]).await.unwrap();
            rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
        }
    };
    insta::assert_snapshot!(columns("runs").await.join("\n"), @r"
    id uuid NO -
    recipient uuid NO -
    correlation_id uuid NO -
    url varchar NO -
    labels jsonb NO '{}'::jsonb
    status runs_status NO 'running'::runs_status
    events jsonb NO '[]'::jsonb
    created_at timestamptz NO -
    updated_at timestamptz NO -
    timeout int4 NO -
    service varchar NO 'unknown'::character varying
    org_id varchar NO 'unknown'::character varying
    response_full bool NO true
    playbook_name varchar YES -
    playbook_run_url varchar YES -
    principal varchar YES -
    sat_org_id varchar YES -
    sat_id uuid YES -
    ");
    insta::assert_snapshot!(columns("run_hosts").await.join("\n"), @r"
    id uuid NO -
    run_id uuid YES -
    inventory_id uuid YES -
    host varchar NO -
    status runs_status NO 'running'::runs_status
    log text NO ''::text
    events jsonb NO '[]'::jsonb
    created_at timestamptz NO -
    updated_at timestamptz NO -
    sat_sequence int2 YES -
    subscription_manager_id uuid YES -
    ");
    let shape = shape(&client).await.join("\n");
    for part in [
        "CREATE UNIQUE INDEX runs_pkey ON public.runs USING btree (id)",
        "CREATE INDEX runs_labels_index ON public.runs USING gin (labels jsonb_path_ops)",
        "CREATE INDEX runs_org_id_index ON public.runs USING btree (org_id)",
        "CREATE INDEX runs_org_id_correlation_id_run_id_index ON public.runs USING btree (org_id, correlation_id, id)",
        "CREATE UNIQUE INDEX run_hosts_run_id_host_key ON public.run_hosts USING btree (run_id, host)",
        "run_hosts FOREIGN KEY (run_id) REFERENCES runs(id)",
        "runs replica identity f",
        "run_hosts replica identity d",
        "version 16 f",
    ] {
        assert!(shape.lines().any(|line| line.starts_with(part)), "{part} is not in\n{shape}");
    }
}

#[tokio::test]
async fn a_database_of_the_original_is_adopted_and_given_back() {
    let (database, client) = of_original("CREATE TABLE debezium_signal (id integer)").await;
    let before = shape(&client).await;
    let migrated = PostgresStore::migrate(&database.config).await.unwrap();
    assert!(migrated.adopted);
    assert_eq!(migrated.applied, STEPS[1..]);
    assert_eq!(PostgresStore::migrate(&database.config).await.unwrap(), Migrated::default());
    let with_ours = shape(&client).await;
    assert!(before.iter().all(|line| with_ours.contains(line)), "{with_ours:?}");

    assert!(PostgresStore::migrate_down(&database.config).await.unwrap());
    assert_eq!(shape(&client).await, before);
    assert_eq!(
        tables(&client).await,
        ["debezium_signal", "run_hosts", "runs", "schema_migrations"]
    );
    assert!(PostgresStore::migrate(&database.config).await.unwrap().adopted);
}

#[tokio::test]
async fn taking_down_a_database_of_ours_leaves_one_of_the_original() {
    let database = Database::migrated().await.unwrap();
    assert!(PostgresStore::migrate_down(&database.config).await.unwrap());
    let client = database.client().await.unwrap();
    assert_eq!(tables(&client).await, ["run_hosts", "runs", "schema_migrations"]);
    let again = PostgresStore::migrate_down(&database.config).await.unwrap();
    assert!(!again, "no change is no error");
    assert_eq!(tables(&client).await, ["run_hosts", "runs", "schema_migrations"]);
}

#[tokio::test]
async fn taking_down_all_leaves_what_others_made_and_nothing_else() {
    let database = Database::migrated().await.unwrap();
    let client = database.client().await.unwrap();
    client.batch_execute("CREATE TABLE of_others (id integer)").await.unwrap();
    assert!(PostgresStore::migrate_down_all(&database.config).await.unwrap());
    assert_eq!(tables(&client).await, ["of_others"]);
    client.batch_execute("DROP TABLE of_others").await.unwrap();
    assert!(!PostgresStore::migrate_down_all(&database.config).await.unwrap(), "no change");
    assert!(!PostgresStore::migrate_down(&database.config).await.unwrap(), "no change");
    let anew = PostgresStore::migrate(&database.config).await.unwrap();
    assert_eq!(anew.applied, STEPS);

    let (database, client) = of_original("").await;
    assert!(PostgresStore::migrate_down_all(&database.config).await.unwrap());
    assert_eq!(tables(&client).await, [""; 0]);
    // Whose tables they are is asked first.
    let (database, client) = of_original("UPDATE schema_migrations SET version = 15").await;
    nothing_goes_down(&database, "version 15").await;
    assert_eq!(tables(&client).await, ["run_hosts", "runs", "schema_migrations"]);
}

#[tokio::test]
async fn other_databases_are_refused_and_left_alone() {
    for (change, words) in [
        ("UPDATE schema_migrations SET version = 15", ["version 15", "migrate up"]),
        ("UPDATE schema_migrations SET version = 17", ["version 17", "16"]),
        ("UPDATE schema_migrations SET dirty = true", ["dirty", "interrupted"]),
        ("DELETE FROM schema_migrations", ["neither empty", "run_hosts"]),
        ("DROP TABLE schema_migrations", ["neither empty", "runs"]),
        ("ALTER TABLE runs DROP COLUMN sat_id", ["runs.sat_id", "missing"]),
        ("CREATE TABLE recipients (id integer)", ["recipients", "Rename"]),
        (
            "DROP TABLE run_hosts, runs, schema_migrations; DROP TYPE runs_status;
             CREATE TABLE runs (id integer)",
            ["neither empty", "runs"],
        ),
        (
            "DROP TABLE run_hosts, runs, schema_migrations; DROP TYPE runs_status;
             CREATE TABLE schema_migrations (version text)",
            ["neither empty", "schema_migrations"],
        ),
    ] {
        let (database, client) = of_original(change).await;
        let before = tables(&client).await;
        let why = refused(&database).await;
        assert!(words.iter().all(|word| why.contains(word)), "{change}: {why}");
        assert_eq!(tables(&client).await, before, "{change}");
    }
}

#[tokio::test]
async fn extensions_do_not_count() {
    let database = Database::empty().await.unwrap();
    let client = database.client().await.unwrap();
    // The one extension that every database has.
    client
        .batch_execute(
            "CREATE TABLE of_extension (id integer);
             ALTER EXTENSION plpgsql ADD TABLE of_extension",
        )
        .await
        .unwrap();
    PostgresStore::migrate(&database.config).await.unwrap();
}

#[tokio::test]
async fn many_may_migrate_at_once() {
    for (database, steps) in
        [(Database::empty().await.unwrap(), &STEPS[..]), (of_original("").await.0, &STEPS[1..])]
    {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let config = database.config.clone();
                tokio::spawn(async move { PostgresStore::migrate(&config).await })
            })
            .collect();
        let mut applied = Vec::new();
        for task in tasks {
            applied.extend(task.await.unwrap().unwrap().applied);
        }
        assert_eq!(applied, steps, "each step is applied by exactly one of them");
    }
}

#[tokio::test]
async fn an_interrupted_start_is_continued() {
    let (database, client) = of_original("").await;
    // Killed after the history's table was made, and while an index was being built.
    client
        .batch_execute(
            "CREATE TABLE refinery_schema_history
                 (version integer PRIMARY KEY, name text, applied_on text, checksum text);
             CREATE INDEX dispatcher_runs_running_index ON runs (created_at, id);
             UPDATE pg_index SET indisvalid = false
             WHERE indexrelid = 'dispatcher_runs_running_index'::regclass",
        )
        .await
        .unwrap();
    let migrated = PostgresStore::migrate(&database.config).await.unwrap();
    assert!(migrated.adopted);
    assert_eq!(migrated.applied, STEPS[1..]);
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_name() {
    let database = Database::migrated().await.unwrap();
    let client = database.client().await.unwrap();
    client
        .batch_execute(
            "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
             VALUES (99, 'of_the_future', '2031-01-01T00:00:00Z', '1')",
        )
        .await
        .unwrap();
    assert!(refused(&database).await.contains("newer version"));
    let before = tables(&client).await;
    nothing_goes_down(&database, "newer version").await;
    assert_eq!(tables(&client).await, before);
}

async fn nothing_goes_down(database: &Database, words: &str) {
    for down in [
        PostgresStore::migrate_down(&database.config).await,
        PostgresStore::migrate_down_all(&database.config).await,
    ] {
        assert!(
            matches!(&down, Err(MigrateError::Refused(why)) if why.contains(words)),
            "{down:?}"
        );
    }
}

/// Others keep their history under the same name, and may have tables of our names.
#[tokio::test]
async fn another_programs_database_is_never_taken_down() {
    let database = Database::empty().await.unwrap();
    let client = database.client().await.unwrap();
    let theirs = "CREATE TABLE refinery_schema_history
            (version integer PRIMARY KEY, name varchar, applied_on varchar, checksum varchar);
        INSERT INTO refinery_schema_history VALUES (1, 'users', '2026-01-01T00:00:00Z', '1');
        CREATE TABLE outbox (id integer); CREATE TABLE recipients (id integer)";
    client.batch_execute(theirs).await.unwrap();
    let before = tables(&client).await;
    nothing_goes_down(&database, "another program").await;
    assert!(refused(&database).await.contains("another program"));
    assert_eq!(tables(&client).await, before);
}

#[tokio::test]
async fn a_database_that_is_not_migrated_or_not_there_is_said() {
    let database = Database::empty().await.unwrap();
    let error = PostgresStore::connect(&database.config).await.err().unwrap();
    assert!(error.to_string().contains("migrate up"), "{error}");
    let nowhere = dispatcher_api::config::database::Postgres {
        wait: std::time::Duration::from_secs(1),
        ..dispatcher_api::config::database::Postgres::at(
            "postgres://dispatcher:hunter2@/d?host=/nonexistent",
        )
    };
    let error = PostgresStore::connect(&nowhere).await.err().unwrap();
    assert!(matches!(&error, StoreError::Unavailable(_)), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
