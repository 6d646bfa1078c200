//! Where the state comes from: `sso` asks the SSO server for its keys, `psk` the database for those
//! of services.
