//! The types that cross a process boundary: HTTP bodies, execution messages, job events.
//!
//! Only data and pure rules on it: no IO, no clock, no framework. The service, the worker and the
//! command line all speak with these types, so a change here is a change of the wire.
//!
//! `registration` → a recipient comes to be; `dispatch` → a run is asked for; `execution` → a worker
//! takes it; `event`, `satellite` → what it prints and does; `status` → how it ends; `view` → what clients read;
//! `admin` → what admins do.

pub mod admin;
pub mod dispatch;
pub mod event;
pub mod execution;
pub mod inputs;
pub mod registration;
pub mod satellite;
pub mod service_key;
pub mod status;
pub mod view;

pub use status::RunStatus;
