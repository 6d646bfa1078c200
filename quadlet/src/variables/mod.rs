//! What is wanted of a host: the variables of `deploy.yml`, checked, with their defaults and with
//! what follows from them.
//!
//! Reads one file and three facts of the host; writes nothing but that file's one line (`edit`).

mod agreement;
mod bounded;
pub mod deploy;
mod derived;
pub mod edit;
mod environment;
mod facts;
mod limits;
mod names;
pub mod secrets;
pub mod spec;
mod validate;

use serde_json::Value;

pub use self::facts::Facts;
use crate::{jinja::Context, layout::Layout};

/// Everything that is wrong, a line each. No line shows a secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Problems(pub Vec<String>);

impl Problems {
    /// A single one.
    #[must_use]
    pub fn one(text: impl Into<String>) -> Self {
        Self(vec![text.into()])
    }
}

/// How HAProxy reaches the instances.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Upstream {
    /// By a socket in a directory per instance.
    Unix,
    /// By a port per instance.
    Tcp,
}

/// What is wanted of a host, checked and complete.
#[derive(Clone, Debug)]
pub struct Variables {
    context: Context,
    notices: Vec<String>,
}

impl Variables {
    /// Reads them from the host's file, with the host's facts.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn load(layout: &Layout) -> Result<Self, Problems> {
        Self::new(deploy::read(&layout.deploy_file())?, &Facts::of_host(layout))
    }

    /// Checks what was set, adds defaults and what follows.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn new(set: Context, facts: &Facts) -> Result<Self, Problems> {
        let (mut context, notices) = validate::complete(set)?;
        derived::extend(&mut context, facts)?;
        Ok(Self { context, notices })
    }

    /// What is allowed and yet likely not meant.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// All names with their values, as templates see them.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// How many instances.
    #[must_use]
    pub fn scale(&self) -> u32 {
        u32::try_from(self.number("dispatcher_api_container_scale")).unwrap_or(0)
    }

    /// The image of the instances and of the tracker, as it was named.
    #[must_use]
    pub fn image(&self) -> &str {
        self.text("dispatcher_api_image")
    }

    /// How HAProxy reaches the instances.
    #[must_use]
    pub fn upstream(&self) -> Upstream {
        if self.text("__dispatcher_upstream") == "unix" { Upstream::Unix } else { Upstream::Tcp }
    }

    /// Whether the image is somebody else's: no tracker, worker, or bundled service goes with it.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.is("__dispatcher_foreign")
    }

    /// Whether the tracker runs here.
    #[must_use]
    pub fn has_tracker(&self) -> bool {
        self.is("__dispatcher_tracker")
    }

    /// Whether a worker runs here, natively.
    #[must_use]
    pub fn has_worker(&self) -> bool {
        self.is("__dispatcher_worker")
    }

    /// Whether HAProxy is on this host.
    #[must_use]
    pub fn has_haproxy(&self) -> bool {
        self.is("__dispatcher_haproxy")
    }

    /// The words of a list, none where it is not set.
    #[must_use]
    pub fn words(&self, name: &str) -> Vec<String> {
        let words = self.context.get(name).and_then(Value::as_array);
        words.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The bundled services, by the names of their units without `.service`.
    #[must_use]
    pub fn services(&self) -> Vec<&'static str> {
        const ALL: [(&str, &str); 3] = [
            ("__dispatcher_postgresql", "dispatcher-postgresql"),
            ("__dispatcher_redis", "dispatcher-redis"),
            ("__dispatcher_rabbitmq", "dispatcher-rabbitmq"),
        ];
        ALL.iter().filter(|(wanted, _)| self.is(wanted)).map(|(_, unit)| *unit).collect()
    }

    /// The images that must be on the host, with the service's first.
    #[must_use]
    pub fn images(&self) -> Vec<&str> {
        let name = |unit: &str| format!("{}_image", unit.replace('-', "_"));
        let of_services = self.services().into_iter().map(|unit| self.text(&name(unit)));
        std::iter::once(self.image()).chain(of_services).collect()
    }

    /// Where HAProxy on this host takes requests, for those who are on it, too.
    #[must_use]
    pub fn local_url(&self) -> &str {
        self.text("__dispatcher_local_url")
    }

    /// A text, empty where it is not set.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.context.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// A number, 0 where it is not set.
    #[must_use]
    pub fn number(&self, name: &str) -> i64 {
        self.context.get(name).and_then(Value::as_i64).unwrap_or_default()
    }

    /// Whether a switch is on.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.context.get(name).and_then(Value::as_bool).unwrap_or_default()
    }
}
