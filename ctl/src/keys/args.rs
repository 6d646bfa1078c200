//! What may be typed for `keys …` and `audit`. Nothing is done here.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::inputs;

/// `keys …`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key for a service; it is shown once
    Create(CreateArgs),
    /// List keys, without their secrets
    List {
        /// Only keys of this service
        #[arg(long)]
        service: Option<String>,
        /// Only those that open something
        #[arg(long)]
        live: bool,
    },
    /// Make a successor for a key; the old one ends after an overlap
    Rotate {
        /// The key's id: its first eight characters
        id: String,
        /// How long the old key goes on: 90, 30s, 15m, 24h, 7d
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = inputs::timeout)]
        overlap: i32,
        /// When the new key ends, for example 2027-01-31T12:00:00Z; without it, never
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        #[command(flatten)]
        to: Destination,
    },
    /// Revoke a key, and wait until that is in force
    Revoke {
        /// The key's id: its first eight characters
        id: String,
    },
}

/// `keys create`.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// The service it belongs to
    #[arg(long)]
    pub(crate) service: String,
    /// What it may do
    #[arg(long, value_enum, default_value_t)]
    pub(crate) role: Role,
    /// It may act for every organisation, not only for the one that --org or the context names
    #[arg(long)]
    pub(crate) all_orgs: bool,
    /// When it ends, for example 2027-01-31T12:00:00Z; without it, never
    #[arg(long, value_name = "TIME")]
    pub(crate) expires_at: Option<String>,
    #[command(flatten)]
    pub(crate) to: Destination,
}

/// Where a new key goes.
#[derive(Args, Debug)]
pub(crate) struct Destination {
    /// Write the key to this new file (readable by its owner only) instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) output_file: Option<PathBuf>,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Role {
    /// Look
    Reader,
    /// Look, dispatch, cancel, store playbooks
    #[default]
    Operator,
    /// Everything, keys included
    Admin,
}

impl Role {
    /// Its name on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// `audit`.
#[derive(Args, Debug)]
pub(crate) struct AuditArgs {
    /// Only this action, such as key.revoke; one that ends with a dot means all that begin so
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// Only what this principal did, by its name
    #[arg(long)]
    pub(crate) principal: Option<String>,
    /// Only from then on, for example 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// How many to list
    #[arg(long, value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) limit: u32,
    /// How many to skip
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) offset: u32,
}
