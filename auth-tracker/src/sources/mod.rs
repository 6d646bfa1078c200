//! Where the authentication state comes from: the database ([`psk`]) and the SSO server ([`sso`]).
//! The sidecar asks them for everybody; an instance without a fresh snapshot asks them itself.

pub mod psk;
pub mod sso;
