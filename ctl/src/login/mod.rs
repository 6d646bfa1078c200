//! `dispatchctl login` and `logout`: people log in at the SSO server with any browser (OAuth 2.0
//! device flow); what they get is kept in their context, and renewed when it is needed.

mod device;
mod issuer;
pub(crate) mod session;

use std::path::PathBuf;

use clap::Args;
use dispatcher_wire::{admin::LoginProviders, view::IdentityAnswer};

use self::{issuer::Issuer, session::Login};
use crate::{
    cli::At,
    client::Client,
    connection::{self, Connection},
    context::file::{self, Context, Contexts},
    output::note,
    text,
    trouble::{Result, Trouble, status},
};

/// `login`.
#[derive(Args, Debug)]
pub(crate) struct LoginArgs {
    /// Ask for more than the dispatcher names, for example offline_access; repeatable
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
}

/// The context that is logged in or out.
struct Chosen {
    path: PathBuf,
    contexts: Contexts,
    name: String,
}

impl Chosen {
    fn of(at: &At) -> Result<Self> {
        let path = file::path(&connection::variable)?;
        let contexts = Contexts::load(&path)?;
        let named = at.context.clone().or_else(|| connection::variable("DISPATCHER_CONTEXT"));
        let name = named.or_else(|| contexts.current.clone()).ok_or_else(|| {
            Trouble::usage("a login belongs to a context, and there is none")
                .hint("name the dispatcher first: dispatchctl context set NAME --url URL --org ORG")
        })?;
        contexts.get(&name)?;
        Ok(Self { path, contexts, name })
    }

    fn context(&self) -> Result<&Context> {
        self.contexts.get(&self.name)
    }
}

/// Logs in.
pub(crate) async fn login(at: &At, args: LoginArgs) -> Result<u8> {
    let chosen = Chosen::of(at)?;
    let (url, insecure) = (chosen.context()?.url.clone(), chosen.context()?.insecure);
    let connection = Connection::anonymous(&url, &format!("context `{}`", chosen.name))?;
    let client = Client::to(connection)?;
    let found: LoginProviders = client.get(&["identity", "providers"], &[]).await?;
    let provider = found.data.into_iter().next().ok_or_else(|| {
        Trouble::failed(format!("{url} takes no logins")).hint(
            "those who run it name an SSO server with SSO_URL and SSO_REALM, or SSO_ISSUER; \
             until then, a key is the way in",
        )
    })?;
    let issuer = Issuer::discover(&provider.issuers, insecure).await?;
    let mut scopes = provider.scopes;
    scopes.extend(args.scopes);
    let tokens = device::authorize(&issuer, &provider.client_id, &scopes.join(" ")).await?;
    let login = Login::new(&issuer, provider.client_id, tokens)?;
    session::save(&chosen.path, &chosen.name, Some(login))?;
    welcome(at, &chosen.name).await
}

/// Says who one is now: the dispatcher may still refuse what the SSO server gave.
async fn welcome(at: &At, name: &str) -> Result<u8> {
    let at = At { context: Some(name.to_owned()), key_file: None, url: None, ..at.clone() };
    let client = Client::to(Connection::of_login(&at)?)?;
    let answer: IdentityAnswer = client.get(&["identity"], &[]).await.map_err(|trouble| {
        trouble.hint("the login is kept; ask those who run the dispatcher what your account lacks")
    })?;
    let who = answer.identity;
    let called = who.name.unwrap_or(who.id);
    let org = who.org_id.unwrap_or_else(|| "every organisation".to_owned());
    note(&text::clean(&format!("logged in to `{name}` as {called}, {} of {org}", who.role)));
    Ok(status::SUCCESS)
}

/// Logs out: here in any case, and at the SSO server where that can be reached.
pub(crate) async fn logout(at: &At) -> Result<u8> {
    let chosen = Chosen::of(at)?;
    let name = &chosen.name;
    let Some(login) = chosen.context()?.login.clone() else {
        note(&format!("`{name}` has no login"));
        return Ok(status::SUCCESS);
    };
    session::save(&chosen.path, name, None)?;
    note(&format!("logged out of `{name}`"));
    if let Err(trouble) = login.revoke().await {
        note(&format!("the SSO server was not told: {}", trouble.message()));
    }
    Ok(status::SUCCESS)
}
