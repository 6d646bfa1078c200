//! Who calls, and what they may do: principals, ways in, permissions.

pub mod principal;
