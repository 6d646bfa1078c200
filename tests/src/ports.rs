//! Free loopback ports for services that a test starts, kills and starts again on the same port.
//!
//! Not those that the kernel gives to outgoing connections: while a service is down, such a
//! connection could take its port, or, from that very port, connect to itself.

use std::{collections::HashSet, net::TcpListener, sync::Mutex};

use anyhow::{Context, Result};
use uuid::Uuid;

/// Below the first port of outgoing connections, as Linux has them by default.
const FIRST: u16 = 12_000;
const LAST: u16 = 32_000;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port that nobody uses now and that this process has not given out before.
///
/// # Errors
/// When there is none.
pub fn free() -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let given = given.get_or_insert_default();
    let wishes = std::iter::repeat_with(|| {
        let (random, _) = Uuid::new_v4().as_u64_pair();
        let offset = random % u64::from(LAST - FIRST);
        u16::try_from(offset).map(|offset| FIRST + offset).unwrap_or(FIRST)
    });
    let mut wishes = wishes.take(1000);
    let is_free =
        |port: &u16| !given.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = wishes.find(is_free).context("no loopback port is free between 12000 and 32000")?;
    given.insert(port);
    Ok(port)
}
