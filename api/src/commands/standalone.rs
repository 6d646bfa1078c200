//! `standalone`: everything in one process, with nothing to install, for this machine only.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use clap::Args;

use super::{data_dir::DataDir, frame::Frame, opening, serve::Instance, telemetry};
use crate::{
    app::{App, Parts},
    config::{
        Settings, Standalone, database::Database, secrets::ServiceKey, source::Source,
        values::ListenAddress,
    },
    http::listen::Bound,
    storage::Objects,
};

/// The service that runs dispatched with the generated key belong to.
const OWN_SERVICE: &str = "local";

/// Where it lives and listens.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Where everything is kept.
    #[arg(long, default_value = "./data")]
    data_dir: PathBuf,
    /// The loopback address to listen on; port 0 is any free one.
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// What people call the recipient on this machine.
    #[arg(long)]
    name: Option<String>,
}

/// Serves until a signal.
///
/// # Errors
/// When the directory or address is taken, or the settings are wrong.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    ensure!(
        arguments.listen.ip().is_loopback(),
        "standalone listens on loopback only, not on {}; use serve to be reached by others",
        arguments.listen
    );
    let bound = Bound::to(&ListenAddress::Tcp(arguments.listen))?;
    let listen = bound.tcp_address().context("the listener has no address")?;
    let data = DataDir::at(&arguments.data_dir)?;
    let (data_dir, url) = (data.path().to_owned(), format!("http://{listen}"));
    let own = Standalone { data_dir, listen, url };
    let (mut settings, _) = Settings::checked(Source::from_process(), Some(&own))?;
    settings.local.name = arguments.name.unwrap_or(settings.local.name);
    telemetry::start(settings.logging)?;
    let frame = Frame::raise(&settings, vec![bound])?;
    let app = wire(settings, &data).await?;
    let instance = Instance::start(app.clone(), frame).await?;
    let (url, local) = (&app.settings.dispatch.public_url, &app.settings.local);
    data.announce(url, &local.org_id, local.recipient)?;
    println!("Dispatcher is serving on {url}");
    println!("  key      {}", data.key_file().display());
    if let Some(metrics) = instance.metrics {
        println!("  metrics  http://{metrics}{}", app.settings.http.metrics_path);
    }
    instance.until_signal().await;
    Ok(ExitCode::SUCCESS)
}

/// The service over the data directory; a second process on it is refused here.
async fn wire(settings: Settings, data: &DataDir) -> anyhow::Result<App> {
    let stores = opening::open(&Database::Sqlite(data.path().to_owned())).await?;
    let secret_keys = match settings.secrets.secret_keys.clone() {
        Some(given) => given,
        None => data.secret_keys()?,
    };
    let own_key = ServiceKey {
        service: OWN_SERVICE.to_owned(),
        key: data.api_key()?,
        org_id: Some(settings.local.org_id.clone()),
    };
    let objects = Objects::of(&settings.storage, &settings.tls, &settings.requests)?;
    let more_services = vec![own_key];
    App::new(Parts { settings, stores, objects, secret_keys, more_services, connector: None })
}
