//! `dispatchctl` as people use it: the real program against a scripted dispatcher. One binary, to
//! link once.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod commands;
mod failures;
mod fake;
mod following;
mod interrupts;
mod keys;
mod login;
mod program;
mod terminal;
