//! Rights that one process at a time has. The trait is the tracker's ([`Leases`]), since its library
//! uses it too; here is only how a database's failure looks through it.

pub use auth_tracker::ports::{Lease, Leases, PortError};

use super::StoreError;

impl From<StoreError> for PortError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}
