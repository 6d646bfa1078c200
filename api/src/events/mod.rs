//! Events: changes of runs and run hosts, as consumers get them. Rows are written by the stores.

pub mod model;
