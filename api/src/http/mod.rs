//! HTTP: the one page of routes, extractors, errors, pagination, filters.

pub mod problem;
