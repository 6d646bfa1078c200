//! The constant load of these tests: with 200 requests a second in the long form, which is what the
//! figures are about, and with 50 in the short one, which is for any machine and for programs that
//! no optimiser has seen.

use anyhow::{Result, ensure};
use dispatcher_tests::{
    caller::Caller,
    steady::{Load, Report},
};

use crate::host::is_long;

/// Requests in a second.
fn rate() -> u32 {
    if is_long() { 200 } else { 50 }
}

/// Begins.
pub(crate) async fn start(caller: &Caller) -> Result<Load> {
    Load::start(caller, rate()).await
}

/// Every request was answered; in the long form, there were as many as there should be.
pub(crate) fn ensure_whole(report: &Report, during: &str) -> Result<()> {
    report.ensure_whole(during)?;
    let enough = report.rate() >= f64::from(rate()) * 0.95;
    ensure!(enough || !is_long(), "{during}: {:.0} requests a second only", report.rate());
    Ok(())
}
