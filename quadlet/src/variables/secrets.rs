//! Which podman secrets a deployment needs, what for, and how those that nobody gives are made.
//! Knows names only, never a value.

use serde_json::Value;

use super::Variables;

/// How a secret comes to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Making {
    /// `<key id>:<base64 of 32 random bytes>`.
    SecretKeys,
    /// 32 or more random letters and digits.
    Password,
    /// `redis://:<password>@dispatcher-redis:6379/0`, with the password of that other secret.
    RedisUrl(&'static str),
    /// `amqp://dispatcher:<password>@dispatcher-rabbitmq:5672/%2f`, likewise.
    AmqpUrl(&'static str),
    /// Somebody has to give it: `quadletgen secret set NAME`.
    Given,
}

/// A podman secret that must be there before anything starts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// The setting that it is for, in the environment of the containers that get it.
    pub setting: String,
    /// How it comes to be.
    pub making: Making,
}

/// The password of the bundled Redis.
pub const REDIS_PASSWORD: &str = "dispatcher-redis-password";
/// The password of the bundled RabbitMQ.
pub const AMQP_PASSWORD: &str = "dispatcher-amqp-password";

impl Variables {
    /// Every secret that is needed; those that others are made of come first.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let own = |name: &str, setting: &str| Secret {
            name: name.to_owned(),
            setting: setting.to_owned(),
            making: Making::Password,
        };
        let mut found = Vec::new();
        if self.is("__dispatcher_redis") {
            found.push(own(REDIS_PASSWORD, "REDISCLI_AUTH"));
        }
        if self.is("__dispatcher_rabbitmq") {
            found.push(own(AMQP_PASSWORD, "RABBITMQ_DEFAULT_PASS"));
        }
        found.extend(self.needed_secrets());
        found.extend(self.named_secrets());
        found
    }

    /// Those with names of ours, unless another is named.
    fn needed_secrets(&self) -> impl Iterator<Item = Secret> {
        let pairs = self.context.get("__dispatcher_needed_secrets").and_then(Value::as_array);
        let has_database = self.is("__dispatcher_postgresql");
        pairs.into_iter().flatten().filter_map(move |pair| {
            let setting = pair.get(0)?.as_str()?;
            let making = match setting {
                "DISPATCHER_SECRET_KEYS" => Making::SecretKeys,
                "PSK_AUTH_OPERATOR" => Making::Password,
                "DB_PASSWORD" if has_database => Making::Password,
                "REDIS_URL" => Making::RedisUrl(REDIS_PASSWORD),
                "AMQP_URL" => Making::AmqpUrl(AMQP_PASSWORD),
                _ => Making::Given,
            };
            let name = pair.get(1)?.as_str()?.to_owned();
            let is_ours = self.named(setting).is_none();
            is_ours.then(|| Secret { name, setting: setting.to_owned(), making })
        })
    }

    /// Those that `dispatcher_secrets` names.
    fn named_secrets(&self) -> impl Iterator<Item = Secret> {
        let map = self.context.get("dispatcher_secrets").and_then(Value::as_object);
        map.into_iter().flatten().filter_map(|(setting, name)| {
            let name = name.as_str().filter(|name| !name.is_empty())?.to_owned();
            Some(Secret { name, setting: setting.clone(), making: Making::Given })
        })
    }

    fn named(&self, setting: &str) -> Option<&Value> {
        self.context.get("dispatcher_secrets")?.get(setting)
    }
}
