//! `dispatchctl context …`: list, choose, change and show the named dispatchers. Shows where a key
//! is, never the key.

pub(crate) mod file;

use std::path::Path;

use serde_json::{Value, json};

use self::file::{Context, Contexts};
use crate::{
    cli::{At, ContextCommand, ContextSetArgs},
    connection::{self, Connection, Key, parse_url},
    output::{self, Columns, Format, cell, note},
    secret,
    trouble::{Result, Trouble, status},
};

/// Carries out a context command.
pub(crate) fn context(at: &At, command: ContextCommand) -> Result<u8> {
    let path = file::path(&connection::variable)?;
    match command {
        ContextCommand::List => list(at, &Contexts::load(&path)?)?,
        ContextCommand::Use { name } => choose(&path, &name)?,
        ContextCommand::Set(args) => set(at, &path, args)?,
        ContextCommand::Remove { name } => remove(&path, &name)?,
        ContextCommand::Show => show(at)?,
    }
    Ok(status::SUCCESS)
}

fn list(at: &At, contexts: &Contexts) -> Result<()> {
    if at.output != Format::Table {
        let all: Vec<_> = contexts.contexts.iter().map(|(n, c)| entry(contexts, n, c)).collect();
        return output::data(at.output, &all);
    }
    if contexts.contexts.is_empty() {
        note("no contexts; add one with `dispatchctl context set NAME --url URL`");
        return Ok(());
    }
    let mut table = Columns::new(at, &["", "NAME", "URL", "ORG", "KEY"]);
    for (name, context) in &contexts.contexts {
        let mark = if contexts.current.as_ref() == Some(name) { "*" } else { "" };
        let org = context.org.as_deref().unwrap_or("-");
        let key = key_place(context);
        table.row(vec![cell(mark), cell(name), cell(&context.url), cell(org), cell(key)]);
    }
    table.print()
}

fn entry(contexts: &Contexts, name: &str, context: &Context) -> Value {
    json!({
        "name": name,
        "current": contexts.current.as_deref() == Some(name),
        "url": context.url,
        "org": context.org,
        "key": key_place(context),
        "insecure": context.insecure,
    })
}

fn key_place(context: &Context) -> String {
    if let Some(login) = &context.login {
        return format!("login at {}", login.issuer);
    }
    match (&context.key, &context.key_file) {
        (Some(_), _) => "stored".to_owned(),
        (None, Some(file)) => file.display().to_string(),
        (None, None) => "-".to_owned(),
    }
}

fn choose(path: &Path, name: &str) -> Result<()> {
    let mut contexts = Contexts::load(path)?;
    let url = contexts.get(name)?.url.clone();
    contexts.current = Some(name.to_owned());
    contexts.save(path)?;
    note(&format!("now using `{name}` ({url})"));
    Ok(())
}

fn remove(path: &Path, name: &str) -> Result<()> {
    let mut contexts = Contexts::load(path)?;
    if contexts.contexts.remove(name).is_none() {
        return Err(contexts.unknown(name));
    }
    let was_current = contexts.current.as_deref() == Some(name);
    if was_current {
        contexts.current = None;
    }
    contexts.save(path)?;
    let then = if was_current { "; no context is current now" } else { "" };
    note(&format!("removed `{name}`{then}"));
    Ok(())
}

fn set(at: &At, path: &Path, args: ContextSetArgs) -> Result<()> {
    file::check_name(&args.name)?;
    let mut contexts = Contexts::load(path)?;
    let is_new = !contexts.contexts.contains_key(&args.name);
    let mut context = contexts.contexts.remove(&args.name).unwrap_or_default();
    change(at, &args, &mut context)?;
    contexts.contexts.insert(args.name.clone(), context);
    if args.make_current || contexts.current.is_none() {
        contexts.current = Some(args.name.clone());
    }
    contexts.save(path)?;
    let current = contexts.current.as_deref() == Some(args.name.as_str());
    let done = if is_new { "added" } else { "changed" };
    note(&format!("{done} `{}`{}", args.name, if current { ", the current context" } else { "" }));
    Ok(())
}

fn change(at: &At, args: &ContextSetArgs, context: &mut Context) -> Result<()> {
    match &at.url {
        Some(url) => {
            let url = parse_url(url, "--url".to_owned())?.value.to_string();
            // The key of the old address is nothing for the new one.
            if !context.url.is_empty() && context.url != url {
                (context.key, context.key_file) = (None, None);
                context.login = None;
            }
            context.url = url;
        }
        None if context.url.is_empty() => {
            return Err(Trouble::usage("a new context needs an address: --url URL")
                .hint("for example: dispatchctl context set prod --url https://dispatcher.example --org 1"));
        }
        None => {}
    }
    if let Some(org) = &at.org {
        context.org = (!org.is_empty()).then(|| org.clone());
    }
    context.insecure = args.insecure.unwrap_or(context.insecure);
    if let Some(file) = &at.key_file {
        let absolute = std::path::absolute(file).map_err(|error| {
            Trouble::usage(format!("`{}` cannot be a key file: {error}", file.display()))
        })?;
        (context.key, context.key_file) = (None, Some(absolute));
        context.login = None;
    }
    if args.key_stdin {
        let key = Key::parse(&secret::from_stdin("key")?, "standard input")?;
        (context.key, context.key_file) = (Some(key), None);
        context.login = None;
    }
    Ok(())
}

fn show(at: &At) -> Result<()> {
    let found = Connection::resolve(at)?;
    let url = (found.url.value.to_string(), Some(found.url.from));
    let org = found.org.map_or(("-".to_owned(), None), |org| (org.value, Some(org.from)));
    let key = match (found.login, found.key) {
        (Some(login), _) => ("(login)".to_owned(), Some(login.from)),
        (None, Some(key)) => ("(set)".to_owned(), Some(key.from)),
        (None, None) => ("-".to_owned(), None),
    };
    let parts = [("url", url), ("org", org), ("key", key)];
    if at.output != Format::Table {
        let all: serde_json::Map<_, _> = parts
            .into_iter()
            .map(|(name, (value, from))| (name.to_owned(), json!({"value": value, "from": from})))
            .collect();
        return output::data(at.output, &all);
    }
    let mut table = Columns::new(at, &["", "VALUE", "FROM"]);
    for (name, (value, from)) in parts {
        table.row(vec![cell(name), cell(value), cell(from.as_deref().unwrap_or("-"))]);
    }
    table.print()
}
