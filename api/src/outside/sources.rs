//! Sources: which rhc client connects a Satellite (contract §8), and its mock (§12).

use async_trait::async_trait;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{StatusCode, header::HeaderValue};
use serde::{Deserialize, de::DeserializeOwned};

use super::call::Service;

/// Where sources are.
const SOURCES: &str = "/api/sources/v3.1/sources";
/// What both questions are called in metrics, as the original calls them.
const OPERATION: &str = "postMessage";

/// Knows how Satellites are connected.
#[async_trait]
pub trait Sources: Send + Sync {
    /// The id of the rhc client that connects the Satellite with this instance id.
    ///
    /// # Errors
    /// Why it is not known.
    async fn rhc_id(&self, identity: &HeaderValue, instance_id: &str) -> Result<String, String>;
}

/// Sources over HTTP.
#[derive(Clone, Debug)]
pub struct SourcesClient(
    /// Where it is.
    pub Service,
);

/// One client for every Satellite but three.
#[derive(Clone, Copy, Debug)]
pub struct MockSources;

#[derive(Deserialize)]
struct Collection<T> {
    data: Option<Vec<T>>,
}

#[derive(Deserialize)]
struct Source {
    id: Option<Id>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

#[derive(Deserialize)]
struct RhcConnection {
    rhc_id: Option<String>,
}

#[async_trait]
impl Sources for SourcesClient {
    async fn rhc_id(&self, identity: &HeaderValue, instance_id: &str) -> Result<String, String> {
        // Brackets must be encoded and the sign between name and value must not.
        let path = format!("{SOURCES}?filter%5Bsource_ref%5D%5Beq%5D={}", encoded(instance_id));
        let source = self.first::<Source>(identity, &path).await?.and_then(|source| source.id);
        let id = match source.ok_or("there is no source for it")? {
            Id::Text(id) => encoded(&id),
            Id::Number(id) => id.to_string(),
        };
        let path = format!("{SOURCES}/{id}/rhc_connections");
        let connection = self.first::<RhcConnection>(identity, &path).await?;
        let rhc_id = connection.and_then(|connection| connection.rhc_id);
        rhc_id.filter(|id| !id.is_empty()).ok_or_else(|| "its source has no connection".to_owned())
    }
}

impl SourcesClient {
    async fn first<T: DeserializeOwned>(
        &self,
        identity: &HeaderValue,
        path: &str,
    ) -> Result<Option<T>, String> {
        let reply = self.0.get(OPERATION, path).identity(identity).send().await;
        let reply = reply.map_err(|error| error.to_string())?;
        let found: Collection<T> = reply.json_with(StatusCode::OK)?;
        Ok(found.data.and_then(|found| found.into_iter().next()))
    }
}

fn encoded(text: &str) -> String {
    const UNRESERVED: &percent_encoding::AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(text, UNRESERVED).to_string()
}

#[async_trait]
impl Sources for MockSources {
    async fn rhc_id(&self, _: &HeaderValue, instance_id: &str) -> Result<String, String> {
        let error = match instance_id {
            "07c9268f-6dc2-4e05-be57-d9d252a6bb47" => "RHC status not found",
            "5d322fdb-1de4-4402-b383-30f0f66b0bc1" => "RHC status bad request",
            "d3966054-5d45-45a5-a4b4-2f34ea4ae9e0" => "source bad request",
            _ => return Ok("d415fc2d-9700-4e30-9621-6a410ccc92d8".to_owned()),
        };
        Err(error.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_mock_does_not_know_three_satellites() {
        let identity = HeaderValue::from_static("");
        let ask = async |id| MockSources.rhc_id(&identity, id).await;
        assert_eq!(ask("any").await.unwrap(), "d415fc2d-9700-4e30-9621-6a410ccc92d8");
        for (id, error) in [
            ("07c9268f-6dc2-4e05-be57-d9d252a6bb47", "RHC status not found"),
            ("5d322fdb-1de4-4402-b383-30f0f66b0bc1", "RHC status bad request"),
            ("d3966054-5d45-45a5-a4b4-2f34ea4ae9e0", "source bad request"),
        ] {
            assert_eq!(ask(id).await, Err(error.to_owned()));
        }
    }
}
