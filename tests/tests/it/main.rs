//! Every integration test, in one binary: linking the service once per file would take longer than
//! the tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should panic"
)]
#![expect(
    clippy::duplicate_mod,
    reason = "the conformance cases are written once and loaded once per database"
)]

mod agent_network;
mod agent_registration;
mod agent_runs;
mod agent_versions;
mod audit;
mod blocklist;
mod cloud_connector;
mod cluster_auth;
mod cluster_faults;
mod cluster_recovery;
mod cluster_recycling;
mod conformance_complete;
mod conformance_postgres;
mod conformance_sqlite;
mod connection_status;
mod contract_quirks;
mod dispatch_metrics;
mod events_broker;
mod events_feed;
mod events_stream;
mod execution_local;
mod execution_volume;
mod execution_work;
mod faults;
mod faults_requests;
mod hostile_output;
mod http_callers;
mod http_contract;
mod http_order;
mod http_process;
mod internal_run_hosts;
mod keys;
mod layering;
mod limits;
mod lists_agree;
mod metrics_documented;
mod metrics_scraped;
mod openapi;
mod openapi_answers;
mod openapi_bodies;
mod openapi_names;
mod openapi_schema;
mod original_start;
mod outcomes;
mod own_run_only;
mod people;
mod playbooks;
mod postgres_both_ways;
mod postgres_original;
mod postgres_replication;
mod postgres_rows;
mod postgres_schema;
mod postgres_servers;
mod postgres_store;
mod process_life;
mod rbac;
mod recipients;
mod references;
mod route_roles;
mod runs_accounts;
mod runs_cancel;
mod runs_dispatch;
mod runs_faults;
mod runs_idempotency;
mod runs_lists;
mod runs_logs;
mod satellites;
mod satellites_order;
mod serve_postgres;
mod services;
mod several_instances;
mod sqlite_store;
mod storage_s3;
mod tracker_state;
mod tracker_times;
mod uploads;
mod uploads_contract;
mod uploads_order;
mod wakeups;
