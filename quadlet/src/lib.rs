//! quadletgen: one host's deployment, from its variables to its running units.
//!
//! `variables` says what is wanted, `render` turns it into `entry`s (files and links), `files` brings
//! them to the disk, `engine` brings the running state to where they say. Only `host` talks to
//! systemd, Podman and HAProxy.

pub mod check;
pub mod cli;
pub mod engine;
pub mod entry;
pub mod files;
pub mod host;
pub mod jinja;
pub mod layout;
pub mod render;
pub mod variables;
