//! The conformance suite, one test per case. Loaded once per database: by `conformance_sqlite` and by
//! `conformance_postgres`, each of which says what `subject()` is.

mod admin;
mod dispatch;
mod events;
mod execution;
mod inbox;
mod instances;
