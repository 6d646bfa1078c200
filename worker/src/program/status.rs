//! `dispatcher-worker status`: who this worker is, what it does, and whether it is known.

use anyhow::bail;
use dispatcher_worker::{disk, http::HttpLink, status::Local};

use super::cli::Settings;

/// Prints it; an error where runs would not come.
pub(super) async fn status(settings: &Settings) -> anyhow::Result<()> {
    let identity = settings.identity_files().load()?;
    let url = settings.url.clone().unwrap_or_else(|| identity.url.clone());
    println!("recipient     {}", identity.recipient);
    println!("name          {}", identity.name);
    println!("organisation  {}", identity.org_id);
    println!("dispatcher    {url}");
    println!("version       {}", env!("CARGO_PKG_VERSION"));
    let local = Local::of(&settings.state_dir)?;
    println!("agent         {}", if local.is_running { "running" } else { "not running" });
    println!(
        "disk          {} bytes in {}",
        disk::used(&settings.state_dir)?,
        settings.state_dir.display()
    );
    println!("runs          {}", local.runs.len());
    for (run_id, stage) in &local.runs {
        println!("  {run_id}  {stage}");
    }
    let link = HttpLink::new(settings.service(&url)?, &identity, Box::new(|| None));
    match link.check().await {
        Ok(()) => println!("key           accepted"),
        Err(error) => {
            println!("key           not known to be accepted");
            bail!(error);
        }
    }
    if local.is_running {
        Ok(())
    } else {
        bail!("the agent does not run: systemctl start dispatcher-worker")
    }
}
