//! What the commands do: every change of running state goes through here, one step after the other.
//!
//! `plan` is pure and says which steps; the rest carries them out on a `host`.

pub mod apply;
pub mod balancer;
pub mod converge;
pub mod departure;
pub mod desired;
pub mod failure;
pub mod image;
pub mod init;
pub mod inputs;
pub mod instance;
pub mod logs;
pub mod observe;
pub mod plan;
pub mod ports;
pub mod programs;
pub mod progress;
pub mod record;
pub mod restart;
pub mod secret;
pub mod session;
pub mod status;
pub mod uninstall;
pub mod worker;
