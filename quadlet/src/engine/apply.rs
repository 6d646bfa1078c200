//! `apply`, `scale`, `roll`, `rollback`: what they ask for is written down first (one line of
//! `deploy.yml`, the image in the manifest), then the host is brought there. Killed before that,
//! nothing was asked; killed after it, the same command or `apply` goes on.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{
    balancer,
    converge::{Converge, announced},
    desired::{Desired, instance},
    failure::{Exit, Failure},
    image::{self, Freshness, Pin},
    init,
    observe::observe,
    plan::{Step, plan},
    ports, programs,
    session::Session,
    worker,
};
use crate::{
    entry::{Concerns, What},
    files::{self, Change, diff},
    variables::{Facts, Variables, deploy, edit},
};

const SCALE: &str = "dispatcher_api_container_scale";
const IMAGE: &str = "dispatcher_api_image";

/// What is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// What `deploy.yml` says.
    Apply,
    /// So many instances.
    Scale(u32),
    /// Another image, or the newest of the same name.
    Roll(Option<String>),
    /// The image before this one.
    Rollback,
}

/// `deploy.yml` before and after.
#[derive(Clone, Debug)]
struct Text {
    path: PathBuf,
    before: String,
    after: String,
}

/// Does it.
///
/// # Errors
/// When it cannot be done; the text says what holds now.
pub async fn change(session: &mut Session, request: &Request) -> Result<(), Failure> {
    if session.record.good_image().is_none() {
        init::check(session).await?;
    }
    let target = match request {
        Request::Rollback => Some(previous(session).await?),
        _ => None,
    };
    let text = edited(session, request, target.as_ref())?;
    let variables = variables(session, &text.after)?;
    let pin = match target {
        Some(pin) => pin,
        None => pin(session, request, variables.image()).await?,
    };
    services_images(session, &variables).await?;
    let desired = Desired::new(&session.host, variables, pin).await?;
    if session.options.is_dry_run {
        return show(session, &desired, &text).await;
    }
    before_anything(session, &desired, &text).await?;
    if session.progress.safe_point().is_err() {
        return Err(Failure::new(Exit::Interrupted, "interrupted: nothing was changed"));
    }
    let is_rollback = *request == Request::Rollback;
    session.record.note_rollback(is_rollback.then_some(&desired.pin))?;
    session.record.note_asked_image(&desired.pin)?;
    store(&text)?;
    match converge(session, &desired).await {
        Ok(steps) => finish(session, &desired, steps).await,
        Err(failure) => Err(turn_back(session, request, &desired, failure).await),
    }
}

/// What is asked of this host since the last change, with the image that was found then.
///
/// # Errors
/// When `deploy.yml` is wrong, or the image is not there.
pub async fn asked(session: &mut Session) -> Result<Desired, Failure> {
    let variables = Variables::load(&session.host.layout)?;
    let pin = pin(session, &Request::Apply, variables.image()).await?;
    Desired::new(&session.host, variables, pin).await
}

async fn previous(session: &Session) -> Result<Pin, Failure> {
    let Some(pin) = session.record.previous_image() else {
        return Err(Failure::new(
            Exit::Wrong,
            "there is no image to go back to: this host has had only one (`quadletgen status` lists them)",
        ));
    };
    match session.host.podman.image(&pin.reference).await? {
        Some(_) => Ok(pin),
        None => Err(Failure::new(
            Exit::Wrong,
            format!(
                "{} is not on this host any more: `quadletgen roll --image {}` fetches it",
                pin.reference, pin.named
            ),
        )),
    }
}

fn edited(session: &Session, request: &Request, target: Option<&Pin>) -> Result<Text, Failure> {
    let path = session.host.layout.deploy_file();
    let before = deploy::text(&path)?;
    let set = |name: &str, value: Value| edit::set(&before, name, &value);
    let after = match (request, target) {
        (Request::Scale(count), _) => set(SCALE, json!(count))?,
        (Request::Roll(Some(image)), _) => set(IMAGE, json!(image))?,
        (Request::Rollback, Some(pin)) if variables(session, &before)?.image() != pin.named => {
            set(IMAGE, json!(pin.named))?
        }
        _ => before.clone(),
    };
    Ok(Text { path, before, after })
}

fn variables(session: &Session, text: &str) -> Result<Variables, Failure> {
    let path = session.host.layout.deploy_file();
    let context = deploy::parse(text)
        .map_err(|why| Failure::new(Exit::Wrong, format!("{}: {why}", path.display())))?;
    Ok(Variables::new(context, &Facts::of_host(&session.host.layout))?)
}

/// The very image: the one found before for this name, or looked for now.
async fn pin(session: &mut Session, request: &Request, named: &str) -> Result<Pin, Failure> {
    let podman = session.host.podman;
    let is_roll = matches!(request, Request::Roll(_));
    for pin in session.record.pins_of(named).into_iter().filter(|_| !is_roll) {
        if podman.image(&pin.reference).await?.is_some() {
            return Ok(pin);
        }
    }
    if session.options.is_dry_run {
        let unknown = || Pin { named: named.to_owned(), reference: named.to_owned() };
        return Ok(image::look(&podman, named).await?.unwrap_or_else(unknown));
    }
    let freshness = if is_roll { Freshness::Newest } else { Freshness::Here };
    let wanted = (named, freshness);
    image::resolve(&podman, &session.progress, &mut session.record, wanted).await
}

async fn services_images(session: &Session, variables: &Variables) -> Result<(), Failure> {
    for named in variables.images().into_iter().skip(1) {
        if session.host.podman.image(named).await?.is_some() || session.options.is_dry_run {
            continue;
        }
        session.host.podman.pull(named).await.map_err(|error| {
            Failure::new(
                Exit::Wrong,
                format!(
                    "the image {named} of a bundled service is not on this host and cannot be fetched: {error}\n\
                     Nothing was changed. Bring it here (podman load), name another, or name the address of a service elsewhere"
                ),
            )
        })?;
    }
    Ok(())
}

async fn show(session: &Session, desired: &Desired, text: &Text) -> Result<(), Failure> {
    let progress = &session.progress;
    let observed = observe(&session.host, desired, &session.record).await?;
    programs::check(session, desired).await?;
    if let Some(balancer) = balancer::Balancer::of(desired) {
        balancer.check(observed.to_write(true)).await?;
    }
    let own = (text.before != text.after).then(|| change_of(text));
    for change in own.iter().chain(&observed.changes) {
        progress.say(diff::unified(change, progress.has_colours).trim_end());
    }
    let steps = plan(&desired.asked, &observed.found);
    let (noted, asked) = (session.record.haproxy_unit(), desired.haproxy_unit());
    if steps.contains(&Step::Balance)
        && let Some(warning) =
            balancer::restart(&session.host, noted.as_deref(), asked.as_deref()).await?
    {
        progress.say(&format!("warning: {warning}"));
    }
    let mut steps: Vec<String> = steps.iter().map(announced).collect();
    steps.extend(worker::to_come(session, desired).await?);
    for (number, step) in (1..).zip(&steps) {
        progress.say(&format!("{number}. {step}"));
    }
    progress.say(if steps.is_empty() && own.is_none() {
        "nothing to do"
    } else {
        "nothing was changed (--dry-run)"
    });
    Ok(())
}

fn change_of(text: &Text) -> Change {
    let file = |content: &String| Some(What::File { content: content.clone(), mode: 0o644 });
    Change {
        path: text.path.clone(),
        before: file(&text.before),
        after: file(&text.after),
        concerns: Concerns::Nobody,
        is_secret: false,
        is_drift: false,
    }
}

/// Everything that can be refused is refused here, before `deploy.yml` says what is asked.
async fn before_anything(
    session: &mut Session,
    desired: &Desired,
    text: &Text,
) -> Result<(), Failure> {
    for notice in desired.variables.notices() {
        session.progress.say(&format!("note: {notice}"));
    }
    let observed = observe(&session.host, desired, &session.record).await?;
    programs::check(session, desired).await?;
    converging(session, desired).check(&observed).await?;
    ports::check(&session.host.layout, desired, &observed)?;
    let mut changes = observed.changes;
    changes.extend((text.before != text.after).then(|| change_of(text)));
    session
        .record
        .rehearse(&changes)
        .map_err(|error| Failure::new(Exit::Failed, format!("{error}; nothing was changed")))
}

fn store(text: &Text) -> Result<(), Failure> {
    if text.before == text.after {
        return Ok(());
    }
    Ok(files::replace(&text.path, &text.after)?)
}

fn converging<'a>(session: &'a mut Session, desired: &'a Desired) -> Converge<'a> {
    let Session { host, record, progress, options, .. } = session;
    Converge { host, desired, record, progress, within: options.within }
}

async fn converge(session: &mut Session, desired: &Desired) -> Result<usize, Failure> {
    converging(session, desired).run().await
}

async fn finish(session: &mut Session, desired: &Desired, steps: usize) -> Result<(), Failure> {
    session.record.note_good_image(&desired.pin)?;
    session.record.note_rollback(None)?;
    let steps = steps + worker::take_up(session, desired).await?;
    if let Err(failure) = image::forget_surplus(session).await {
        session.progress.say(&format!("note: names of old images were left: {}", failure.text));
    }
    let count = desired.asked.instances.len();
    let done = match steps {
        0 => "nothing to do: ",
        _ => "",
    };
    session.progress.say(&format!("{done}{count} instances of {} run", desired.pin.reference));
    Ok(())
}

/// After an instance that did not become healthy with another image: all go back to the one before.
async fn turn_back(
    session: &mut Session,
    request: &Request,
    desired: &Desired,
    failure: Failure,
) -> Failure {
    let good = session.record.good_image().filter(|good| good.reference != desired.pin.reference);
    let (Exit::Unhealthy, Some(good)) = (failure.exit, good) else { return told(failure, request) };
    if session.options.is_keeping {
        return failure.and(
            "it is left as it is (--keep), the others serve; `quadletgen roll --image` with another image goes on, \
             `quadletgen rollback` goes back",
        );
    }
    let what = failure.text.lines().next().unwrap_or_default();
    session.progress.say(&format!("{what}\ngoing back to {}", good.reference));
    if let Some(index) = failure.instance {
        // Nobody sends to it, and it may not even hear that it is to end.
        let _gone = session.host.end_now(&instance(index)).await;
    }
    match go_back(session, request, good.clone()).await {
        Ok(()) => Failure {
            text: format!("{}\nevery instance is back on {}", failure.text, good.reference),
            ..failure
        },
        Err(second) => failure.and(&format!(
            "and going back to {} failed, too: {}\n`quadletgen apply` tries again",
            good.reference, second.text
        )),
    }
}

async fn go_back(session: &mut Session, request: &Request, good: Pin) -> Result<(), Failure> {
    let path = session.host.layout.deploy_file();
    let before = deploy::text(&path)?;
    let after = match variables(session, &before)?.image() == good.named {
        true => before.clone(),
        false => edit::set(&before, IMAGE, &json!(good.named))?,
    };
    let variables = variables(session, &after)?;
    // What an administrator has written is left to them; what a command has written is taken back.
    if matches!(request, Request::Roll(_) | Request::Rollback) {
        store(&Text { path, before, after })?;
    }
    session.record.note_asked_image(&good)?;
    let desired = Desired::new(&session.host, variables, good).await?;
    converge(session, &desired).await.map(drop)
}

fn told(failure: Failure, request: &Request) -> Failure {
    let hint = match (failure.exit, request) {
        (Exit::Interrupted | Exit::Busy | Exit::Foreign | Exit::Refused | Exit::Wrong, _) => {
            return failure;
        }
        (_, Request::Scale(_)) => {
            "the instances that served before serve on; mend what is wrong and `quadletgen apply`, or `quadletgen scale` back"
        }
        _ => {
            "the other instances serve on as before; mend what is wrong and `quadletgen apply` goes on from here"
        }
    };
    failure.and(hint)
}
