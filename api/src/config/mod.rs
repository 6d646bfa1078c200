//! Settings: from the environment only, one file per concern, checked at the start.
//!
//! Every setting is read through [`source::Source`], which knows its names, notes where its value
//! came from and collects what is wrong, so that one start names every mistake.

pub mod cleaner;
pub mod execution;
pub mod playbooks;
pub mod source;
pub mod uploads;
