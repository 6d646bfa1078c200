//! `init`: looks whether the host has what is needed, writes a `deploy.yml` to be edited where there
//! is none, and makes the secrets that nobody has to think up. Nothing that is there is overwritten.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::{
    failure::{Exit, Failure},
    session::Session,
};
use crate::{
    entry::{Concerns, What},
    files::{self, Change, diff},
    host::podman::NEEDED,
    jinja::Context,
    variables::{
        Facts, Variables,
        secrets::{Making, Secret},
        spec::{self, Variable},
    },
};

/// The oldest systemd that has what the units use.
const NEEDED_SYSTEMD: u32 = 250;
/// How long a password is, of 62 letters and digits.
const PASSWORD: usize = 40;

/// Does it.
///
/// # Errors
/// When the host lacks something, or `deploy.yml` is wrong.
pub async fn init(session: &mut Session) -> Result<(), Failure> {
    session.options.within = std::time::Duration::from_secs(60);
    let progress = session.progress.clone();
    let mut lacking = needed(session, &mut |found| progress.say(&format!("✓ {found}"))).await?;
    let path = session.host.layout.deploy_file();
    let is_new = matches!(files::look(&path), Ok(None));
    let variables = match is_new {
        // All of it is comments.
        true => Variables::new(Context::new(), &Facts::of_host(&session.host.layout))?,
        false => Variables::load(&session.host.layout)?,
    };
    haproxy(&variables, &mut lacking);
    if !lacking.is_empty() {
        return Err(Failure::new(Exit::Lacking, lacking.join("\n")));
    }
    deploy_file(session, &path, is_new)?;
    let missing = secrets(session, &variables).await?;
    for secret in &missing {
        session.progress.say(&format!(
            "! the secret {} ({}) is not there: quadletgen secret set {}",
            secret.name, secret.setting, secret.name
        ));
    }
    let next = match (session.options.is_dry_run, missing.is_empty()) {
        (true, _) => "nothing was changed (--dry-run)",
        (_, true) => "next: quadletgen apply",
        _ => "next: set these secrets, then quadletgen apply",
    };
    session.progress.say(next);
    Ok(())
}

/// Whether the host has what is needed, for whoever has not asked `init`.
///
/// # Errors
/// When something is missing or too old.
pub async fn check(session: &Session) -> Result<(), Failure> {
    let lacking = needed(session, &mut |_| {}).await?;
    if lacking.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Lacking, format!("{}\nNothing was changed", lacking.join("\n"))))
}

/// What the host lacks; everything at once. What it has is told.
async fn needed(
    session: &Session,
    has: &mut (dyn FnMut(&str) + Send),
) -> Result<Vec<String>, Failure> {
    let layout = &session.host.layout;
    let mut lacking = Vec::new();
    match session.host.podman.version().await {
        Ok((found, numbers)) if numbers < NEEDED => lacking.push(format!(
            "podman is {found}: {}.{} or newer is needed, since its Quadlet has template units with instances",
            NEEDED.0, NEEDED.1
        )),
        Ok((found, _)) => has(&format!("podman {found}")),
        Err(error) => lacking.push(error.to_string()),
    }
    let version = session.host.systemd.version().await?;
    let number = version.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
    if number.parse::<u32>().is_ok_and(|number| number < NEEDED_SYSTEMD) {
        lacking.push(format!("systemd is {version}: {NEEDED_SYSTEMD} or newer is needed"));
    } else {
        has(&format!("systemd {version}"));
    }
    if layout.is_user {
        lacking.extend(linger());
    }
    Ok(lacking)
}

/// Without linger a user's units end with the last session.
fn linger() -> Option<String> {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let is_lingering =
        !user.is_empty() && Path::new("/var/lib/systemd/linger").join(&user).exists();
    (!is_lingering).then(|| {
        format!(
            "the user {user} does not linger, so its services would end when it logs out: \
             `loginctl enable-linger {user}` as root, then this again"
        )
    })
}

fn haproxy(variables: &Variables, lacking: &mut Vec<String>) {
    let program = variables.text("dispatcher_haproxy_program");
    let is_asked = variables.words("dispatcher_haproxy_reload_command").is_empty();
    if variables.has_haproxy() && is_asked && !Path::new(program).exists() {
        lacking.push(format!(
            "{program} is not there: install haproxy 2.6 or newer (apt or dnf install haproxy)"
        ));
    }
}

fn deploy_file(session: &Session, path: &Path, is_new: bool) -> Result<(), Failure> {
    let progress = &session.progress;
    if !is_new {
        progress.say(&format!("✓ {} there already, left as it is", path.display()));
        return Ok(());
    }
    let what = What::File { content: commented()?, mode: 0o644 };
    if session.options.is_dry_run {
        let change = Change {
            path: path.to_owned(),
            before: None,
            after: Some(what),
            concerns: Concerns::Nobody,
            is_secret: false,
            is_drift: false,
        };
        progress.say(diff::unified(&change, progress.has_colours).trim_end());
        return Ok(());
    }
    files::write(path, &what)?;
    progress.say(&format!("✓ {} written", path.display()));
    Ok(())
}

/// Every variable with what it does and its default, all of them comments.
fn commented() -> Result<String, Failure> {
    let mut text = String::from(
        "# What is asked of this host. Everything has a default, which is shown: take the # away to change\n\
         # it, then `quadletgen apply`. No secret belongs here: `quadletgen secret set NAME`.\n---\n",
    );
    for variable in spec::all()? {
        let _ = write!(text, "\n{}", entry(variable));
    }
    Ok(text)
}

fn entry(variable: &Variable) -> String {
    let mut text = String::new();
    let mut line = String::from("#");
    for word in variable.description.split_whitespace() {
        if line.len() + word.len() > 98 {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    if !variable.choices.is_empty() {
        let _ = write!(text, "\n# One of: {}.", variable.choices.join(", "));
    }
    let default = match &variable.default {
        Value::Null => String::new(),
        value => format!(" {value}"),
    };
    let _ = writeln!(text, "\n#{}:{default}", variable.name);
    text
}

/// Makes those that are not there and can be made; those that somebody has to give remain.
async fn secrets(session: &mut Session, variables: &Variables) -> Result<Vec<Secret>, Failure> {
    let podman = session.host.podman;
    let mut there: BTreeSet<String> = podman.secrets().await?.into_keys().collect();
    let mut missing = Vec::new();
    for secret in variables.secrets() {
        if there.contains(&secret.name) {
            continue;
        }
        if session.options.is_dry_run && secret.making != Making::Given {
            session.progress.say(&format!("the secret {} would be made", secret.name));
            there.insert(secret.name);
            continue;
        }
        let Some(value) = made(session, &secret.making).await? else {
            missing.push(secret);
            continue;
        };
        session.record.note_secret(&secret.name)?;
        podman.store_secret(&secret.name, value.as_bytes()).await?;
        there.insert(secret.name.clone());
        session.progress.say(&format!("✓ secret {} made", secret.name));
        if secret.setting == "PSK_AUTH_OPERATOR" {
            session.progress.say(&format!(
                "  the operator's key; root reads it with: podman secret inspect --showsecret --format '{{{{.SecretData}}}}' {}",
                secret.name
            ));
        }
    }
    Ok(missing)
}

async fn made(session: &Session, making: &Making) -> Result<Option<String>, Failure> {
    let value = |name: &'static str| async move { session.host.podman.secret_value(name).await };
    Ok(match making {
        Making::SecretKeys => Some(format!("k1:{}", BASE64_STANDARD.encode(random::<32>()?))),
        Making::Password => Some(password()?),
        Making::RedisUrl(of) => {
            Some(format!("redis://:{}@dispatcher-redis:6379/0", value(of).await?))
        }
        Making::AmqpUrl(of) => {
            Some(format!("amqp://dispatcher:{}@dispatcher-rabbitmq:5672/%2f", value(of).await?))
        }
        Making::Given => None,
    })
}

fn password() -> Result<String, Failure> {
    const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut password = String::with_capacity(PASSWORD);
    while password.len() < PASSWORD {
        // 248 is four times 62: beyond it, some letters would come more often.
        let letters = random::<64>()?.into_iter().filter(|byte| *byte < 248);
        let letters = letters.filter_map(|byte| {
            LETTERS.get(usize::from(byte % 62)).map(|letter| char::from(*letter))
        });
        password.extend(letters.take(PASSWORD - password.len()));
    }
    Ok(password)
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()).map_err(
            |error| {
                Failure::new(Exit::Failed, format!("the kernel gives no random bytes: {error}"))
            },
        )?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::deploy;

    #[test]
    fn the_written_file_asks_for_the_defaults() {
        let text = commented().unwrap();
        let set = deploy::parse(&text).unwrap();
        assert!(set.is_empty());
        Variables::new(set, &Facts::default()).unwrap();
        assert!(text.contains("\n#dispatcher_api_container_scale: 4\n"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 200), "{text}");
    }

    #[test]
    fn taking_the_marks_away_asks_for_the_same() {
        let text = commented().unwrap();
        let uncommented: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') && !rest.ends_with(':') => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let set = deploy::parse(&uncommented).unwrap();
        assert_eq!(set.get("dispatcher_api_container_scale"), Some(&4.into()));
    }

    #[test]
    fn passwords_are_long_and_none_is_like_another() {
        let (one, other) = (password().unwrap(), password().unwrap());
        assert_eq!(one.len(), PASSWORD);
        assert!(one.chars().all(|letter| letter.is_ascii_alphanumeric()));
        assert_ne!(one, other);
    }
}
