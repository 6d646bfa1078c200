//! Podman's secrets: which there are, and their making. Their values pass through standard input only.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    HostError,
    podman::{Podman, podman},
};

#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Name")]
    name: String,
}

impl Podman {
    /// The secrets of this host: name, and an identity that is another once the value was replaced.
    ///
    /// # Errors
    /// When Podman cannot be asked.
    pub async fn secrets(&self) -> Result<BTreeMap<String, String>, HostError> {
        let text = podman(["secret", "ls", "--format", "{{json .}}"]).run().await?;
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                serde_json::from_str::<Listed>(line).map(|secret| (secret.name, secret.id)).map_err(
                    |error| HostError::Answer {
                        program: "podman secret ls",
                        what: error.to_string(),
                    },
                )
            })
            .collect()
    }

    /// Stores a secret, in place of the one of that name.
    ///
    /// # Errors
    /// When Podman refuses.
    pub async fn store_secret(&self, name: &str, value: &[u8]) -> Result<(), HostError> {
        podman(["secret", "create", "--replace", name, "-"]).run_with(Some(value)).await?;
        Ok(())
    }

    /// The value of a secret, for a program that is given it in its environment.
    ///
    /// # Errors
    /// When there is no such secret, or Podman refuses.
    pub async fn secret_value(&self, name: &str) -> Result<String, HostError> {
        let format = "{{.SecretData}}";
        let value =
            podman(["secret", "inspect", "--showsecret", "--format", format, name]).run().await?;
        Ok(value.trim_end_matches('\n').to_owned())
    }

    /// Removes a secret; one that is not there is no trouble.
    ///
    /// # Errors
    /// When Podman refuses.
    pub async fn remove_secret(&self, name: &str) -> Result<(), HostError> {
        podman(["secret", "rm", "--ignore", name]).run().await?;
        Ok(())
    }
}
