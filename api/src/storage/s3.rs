//! Buckets of a service with the protocol of S3: how one is reached, looked at and made.

use std::{sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    client::{HttpClient, HttpConnector},
    path::Path,
    signer::Signer as _,
};
use reqwest::{Client, Method, Response, StatusCode};
use secrecy::ExposeSecret as _;

use super::Unready;
use crate::config::storage::S3Settings;

/// The region in which a bucket is made without being told so.
const FIRST_REGION: &str = "us-east-1";
/// How long a signature for one request of ours counts.
const SIGNED_FOR: Duration = Duration::from_secs(60);
/// How often a request is begun again that the service did not take, and within which time.
const MOST_RETRIES: usize = 4;
const RETRY_WITHIN: Duration = Duration::from_secs(20);
/// The most of an error's text that is shown.
const MOST_SHOWN: usize = 300;

/// A bucket.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    name: String,
    region: String,
    pub(super) s3: Arc<AmazonS3>,
    client: Client,
}

/// Makes object_store use our client, and with it our timeouts and authorities.
#[derive(Debug)]
struct OurClient(Client);

impl HttpConnector for OurClient {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

impl Bucket {
    pub(super) fn of(settings: &S3Settings, name: &str, client: &Client) -> anyhow::Result<Self> {
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: MOST_RETRIES,
            retry_timeout: RETRY_WITHIN,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(name)
            .with_region(&settings.region)
            .with_access_key_id(&settings.key_id)
            .with_secret_access_key(settings.key.expose_secret())
            .with_virtual_hosted_style_request(settings.endpoint.is_none())
            .with_http_connector(OurClient(client.clone()))
            .with_retry(retry);
        if let Some(endpoint) = &settings.endpoint {
            builder =
                builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        let region = settings.region.clone();
        let s3 = Arc::new(builder.build()?);
        Ok(Self { name: name.to_owned(), region, s3, client: client.clone() })
    }

    /// Makes sure that it is there and may be listed, which everything else relies on: without the
    /// right to list, an object that is not there looks like one that may not be read.
    pub(super) async fn prepare(&self) -> Result<(), Unready> {
        match self.look().await? {
            StatusCode::NOT_FOUND => self.make().await,
            status if status.is_success() => Ok(()),
            status => Err(self.unready(status, "")),
        }
    }

    /// Whether it is there and may be listed.
    pub(super) async fn check(&self) -> Result<(), Unready> {
        match self.look().await? {
            status if status.is_success() => Ok(()),
            status => Err(self.unready(status, "")),
        }
    }

    async fn look(&self) -> Result<StatusCode, Unready> {
        Ok(self.ask(Method::HEAD, String::new()).await?.status())
    }

    async fn make(&self) -> Result<(), Unready> {
        let body = if self.region == FIRST_REGION {
            String::new()
        } else {
            format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{}</LocationConstraint></CreateBucketConfiguration>",
                self.region
            )
        };
        let answer = self.ask(Method::PUT, body).await?;
        let status = answer.status();
        // Another instance may have been faster.
        if status.is_success() || status == StatusCode::CONFLICT {
            tracing::info!(bucket = self.name, "the bucket was made");
            return self.check().await;
        }
        let text = answer.text().await.unwrap_or_default();
        Err(self.unready(
            status,
            &format!(" (it is not there, and making it failed: {})", shown(&text)),
        ))
    }

    async fn ask(&self, method: Method, body: String) -> Result<Response, Unready> {
        let failed =
            |why: String| Unready { why: format!("bucket {}: {why}", self.name), lasting: false };
        let url = self.s3.signed_url(method.clone(), &Path::default(), SIGNED_FOR).await;
        let url = url.map_err(|error| failed(error.to_string()))?;
        let answer = self.client.request(method, url).body(body).send().await;
        // The address has the signature.
        answer.map_err(|error| failed(with_causes(&error.without_url())))
    }

    fn unready(&self, status: StatusCode, more: &str) -> Unready {
        let name = &self.name;
        let cure = match status {
            StatusCode::NOT_FOUND => "make it, or restart an instance, which makes it",
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be right, and allow s3:ListBucket \
                 (and s3:CreateBucket where the bucket is not there)"
            }
            StatusCode::MOVED_PERMANENTLY | StatusCode::BAD_REQUEST => {
                "AWS_REGION and S3_ENDPOINT_URL must be those of the bucket"
            }
            _ => "the service says that it cannot answer now",
        };
        let lasting = status.is_client_error() || status.is_redirection();
        let lasting = lasting
            && ![StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
        Unready { why: format!("bucket {name}: {status}{more}; {cure}"), lasting }
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MOST_SHOWN).collect()
}

fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
