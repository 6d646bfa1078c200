//! What the commands do: every change of running state goes through here, one step after the other.
//!
//! `plan` is pure and says which steps; the rest carries them out on a `host`.

pub mod plan;
