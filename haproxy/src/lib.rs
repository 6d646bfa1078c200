//! HAProxy seen from outside: its statistics, the check of its files, its reload.
//!
//! Reads the sockets and runs the program; never decides what the files say, and never changes a
//! server at run time: the file is the only truth, since a reload forgets everything else. But for
//! what a reload is about to remove ([`leaving`]).

pub mod check;
pub mod leaving;
pub mod processes;
pub mod program;
pub mod reload;
pub mod socket;
pub mod stats;
