//! Several real instances of the service as one: `dispatcher-api serve` processes behind an
//! HAProxy, on backing services of their own, with the tracker and with real workers where asked.
//! Each part can be killed, halted and brought back.

use std::{collections::BTreeMap, net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use dispatcher_wire::view::PlaybookView;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    guarded::{Guarded, directory},
    haproxy::PrivateHaproxy,
    ports,
    postgres::{Database, PrivatePostgres},
    process::{BASE, KEY, SECRET_KEYS, binary},
    rabbitmq::PrivateRabbit,
    redis::PrivateRedis,
    s3::{self, PrivateS3},
};

/// The organisation of everything here.
pub const ORG: &str = "org-1";
/// Within which an instance must answer a request, in seconds.
pub const REQUEST_TIMEOUT: u64 = 10;
/// How much longer the balancer waits for it.
const BALANCER_MARGIN: Duration = Duration::from_secs(2);
/// How much longer than an instance may take a client waits.
pub const CLIENT_MARGIN: Duration = Duration::from_secs(5);

/// What a cluster consists of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many instances.
    pub instances: usize,
    /// With Redis.
    pub redis: bool,
    /// With RabbitMQ.
    pub rabbit: bool,
    /// Objects over S3, in a shared directory otherwise.
    pub s3: bool,
    /// With the tracker beside the instances; needs Redis.
    pub tracker: bool,
    /// More settings of every instance and the tracker.
    pub settings: Vec<(String, String)>,
}

impl Plan {
    /// So many instances on PostgreSQL and a shared directory.
    #[must_use]
    pub fn plain(instances: usize) -> Self {
        let (redis, rabbit, s3, tracker) = (false, false, false, false);
        Self { instances, redis, rabbit, s3, tracker, settings: Vec::new() }
    }

    /// So many instances with everything.
    #[must_use]
    pub fn whole(instances: usize) -> Self {
        let (redis, rabbit, s3, tracker) = (true, true, true, true);
        Self { instances, redis, rabbit, s3, tracker, settings: Vec::new() }
    }

    /// With a further setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// An instance.
pub struct Instance {
    /// Its process.
    pub process: Guarded,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Instance {
    /// Its own address, past the balancer.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The status and body of its readiness.
    ///
    /// # Errors
    /// When it does not answer within two seconds.
    pub async fn ready(&self) -> Result<(u16, String)> {
        let url = format!("{}/health/ready", self.url());
        let request = Client::new().get(url).timeout(Duration::from_secs(2));
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time.
    pub async fn until_ready(&self) -> Result<()> {
        let is_ready = async || self.ready().await.is_ok_and(|(status, _)| status == 200);
        self.process.until("was ready", is_ready).await
    }
}

/// A cluster. Ends when dropped, and with the test's process.
pub struct Cluster {
    /// Its database server.
    pub postgres: PrivatePostgres,
    /// Its database.
    pub database: Database,
    /// Its Redis.
    pub redis: Option<PrivateRedis>,
    /// Its RabbitMQ.
    pub rabbit: Option<PrivateRabbit>,
    /// Its S3 server.
    pub s3: Option<PrivateS3>,
    /// The balancer.
    pub haproxy: PrivateHaproxy,
    /// The instances.
    pub instances: Vec<Instance>,
    /// The tracker.
    pub tracker: Option<Guarded>,
    client: Client,
}

impl Cluster {
    /// Starts everything and waits until every instance is ready and in the balancer.
    ///
    /// # Errors
    /// When a program is missing, or something does not start.
    pub async fn start(plan: &Plan) -> Result<Self> {
        let cluster = Self::prepare(plan).await?;
        cluster.start_instances().await?;
        cluster.until_ready().await?;
        Ok(cluster)
    }

    /// Starts the backing services and the balancer, and no instance yet.
    ///
    /// # Errors
    /// When a program is missing, or something does not start.
    pub async fn prepare(plan: &Plan) -> Result<Self> {
        ensure!(plan.redis || !plan.tracker, "the tracker needs Redis");
        let addresses = (0..plan.instances)
            .map(|_| Ok(SocketAddr::from(([127, 0, 0, 1], ports::free()?))))
            .collect::<Result<Vec<_>>>()?;
        let answer = Duration::from_secs(REQUEST_TIMEOUT) + BALANCER_MARGIN;
        let postgres = async { tokio::task::spawn_blocking(PrivatePostgres::start).await? };
        let (postgres, redis, rabbit, s3, haproxy) = tokio::try_join!(
            postgres,
            wanted(plan.redis, PrivateRedis::start()),
            wanted(plan.rabbit, PrivateRabbit::start()),
            wanted(plan.s3, PrivateS3::start()),
            PrivateHaproxy::start_with(&addresses, answer),
        )?;
        let database = postgres.migrated().await?;
        let mut cluster = Self {
            postgres,
            database,
            redis,
            rabbit,
            s3,
            haproxy,
            instances: Vec::new(),
            tracker: None,
            client: Client::new(),
        };
        let variables = cluster.variables(plan);
        for (index, address) in addresses.into_iter().enumerate() {
            let process = instance(&variables, index, address)?;
            cluster.instances.push(Instance { process, address });
        }
        cluster.tracker = plan.tracker.then(|| tracker(&variables)).transpose()?;
        Ok(cluster)
    }

    /// Starts every instance and the tracker, and waits for none.
    ///
    /// # Errors
    /// When one runs already.
    pub async fn start_instances(&self) -> Result<()> {
        for instance in &self.instances {
            instance.process.start()?;
        }
        self.tracker.as_ref().map_or(Ok(()), Guarded::start)
    }

    /// Waits until every instance is ready and in the balancer.
    ///
    /// # Errors
    /// When one ends, or is not ready in time.
    pub async fn until_ready(&self) -> Result<()> {
        for instance in &self.instances {
            instance.until_ready().await?;
        }
        self.haproxy.until_up(self.instances.len()).await
    }

    /// The address of the whole.
    #[must_use]
    pub fn url(&self) -> String {
        self.haproxy.url()
    }

    /// A request through the balancer, with the key of the service `test`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.url()))
            .header("authorization", format!("PSK {KEY}"))
            .header("x-dispatcher-org", ORG)
    }

    /// Reads JSON through the balancer.
    ///
    /// # Errors
    /// When it is not answered with success.
    pub async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        answered(self.request(Method::GET, path)).await
    }

    /// Stores a playbook; answers with the address to dispatch it by.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn put_playbook(&self, name: &str, content: &str) -> Result<String> {
        let path = format!("{BASE}/playbooks/{name}");
        let request = self.request(Method::PUT, &path).body(content.to_owned());
        Ok(answered::<PlaybookView>(request).await?.url)
    }

    /// A token with which a worker may register once.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn registration_token(&self, recipient: Uuid) -> Result<String> {
        let path = format!("{BASE}/recipients/registrations");
        let body = serde_json::json!({ "recipient": recipient });
        let made: Value = answered(self.request(Method::POST, &path).json(&body)).await?;
        let token = made.get("token").and_then(Value::as_str).context("a token")?;
        Ok(token.to_owned())
    }

    fn variables(&self, plan: &Plan) -> BTreeMap<String, String> {
        let objects = self.haproxy.process().directory().join("objects").display().to_string();
        let timeout = REQUEST_TIMEOUT.to_string();
        let mut all = vec![
            ("DATABASE_URL", self.database.url.clone()),
            ("PUBLIC_URL", self.url()),
            ("HTTP_REQUEST_TIMEOUT", timeout),
            ("METRICS_PORT", "0".to_owned()),
            ("TRACKER_METRICS_PORT", "0".to_owned()),
            ("DISPATCHER_SECRET_KEYS", SECRET_KEYS.to_owned()),
            ("PSK_AUTH_TEST", KEY.to_owned()),
            ("DRAIN_DELAY", "2".to_owned()),
        ];
        if let Some(redis) = &self.redis {
            all.push(("REDIS_URL", redis.url()));
        }
        if let Some(rabbit) = &self.rabbit {
            all.push(("AMQP_URL", rabbit.url()));
        }
        match &self.s3 {
            None => {
                all.extend([("STORE_ENGINE", "file".to_owned()), ("STORE_FILE_PATH", objects)]);
            }
            Some(server) => all.extend([
                ("STORE_ENGINE", "s3".to_owned()),
                ("STORE_FILES_CONTAINER", s3::BUCKET.to_owned()),
                ("STORE_COMPONENTS_CONTAINER", s3::BUCKET.to_owned()),
                ("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY.to_owned()),
                ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY.to_owned()),
                ("AWS_REGION", s3::REGION.to_owned()),
                ("S3_ENDPOINT_URL", server.url()),
            ]),
        }
        let own = all.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(plan.settings.iter().cloned()).collect()
    }
}

/// Reads the JSON of a request that must succeed.
///
/// # Errors
/// When it does not.
pub async fn answered<T: serde::de::DeserializeOwned>(request: RequestBuilder) -> Result<T> {
    let answer = request.send().await?;
    let (status, url) = (answer.status(), answer.url().path().to_owned());
    let text = answer.text().await?;
    ensure!(status.is_success(), "{url}: {status}: {text}");
    serde_json::from_str(&text).context(text)
}

async fn wanted<T>(is_wanted: bool, made: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    if is_wanted { made.await.map(Some) } else { Ok(None) }
}

fn instance(
    variables: &BTreeMap<String, String>,
    index: usize,
    address: SocketAddr,
) -> Result<Guarded> {
    let mut command = Command::new(binary("dispatcher-api")?);
    command.arg("serve").envs(variables);
    command.env("LISTEN", format!("tcp:{address}"));
    command.env("INSTANCE_NAME", format!("instance-{index}"));
    Guarded::new(directory("instance")?, &command, "")
}

fn tracker(variables: &BTreeMap<String, String>) -> Result<Guarded> {
    let mut command = Command::new(binary("auth-tracker")?);
    command.envs(variables).env("INSTANCE_NAME", "tracker");
    Guarded::new(directory("tracker")?, &command, "")
}
