//! `dispatchctl logs`: what a run printed so far, or until it ends.

use crate::{
    cli::{At, LogsArgs},
    client::Client,
    follow::{self, Target, interrupt::OnInterrupt},
    runs::reference,
    trouble::Result,
};

/// Carries out `logs`.
pub(crate) async fn logs(at: &At, args: LogsArgs) -> Result<u8> {
    let client = Client::new(at)?;
    let run = reference::find(&client, &args.run).await?;
    let target = Target { run, host: args.host, from: args.from, retries: args.patience.retries };
    if args.follow {
        // Somebody who only looks is not asked whether to end it.
        return follow::follow(at, &client, &target, OnInterrupt::Detach).await;
    }
    follow::print_stored(at, &client, &target).await
}
