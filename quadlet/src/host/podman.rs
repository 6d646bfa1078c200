//! Podman through its program: version, images by digest, containers of units, files out of images.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use serde::Deserialize;

use super::{HostError, program::Program};

/// The oldest Podman whose Quadlet has template units with instances and drop-ins.
pub const NEEDED: (u32, u32) = (5, 0);

/// How long a pull may take.
const PULL: Duration = Duration::from_secs(900);

/// An image of this host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Image {
    /// Its identity here.
    pub id: String,
    /// Its digest, `sha256:…`.
    pub digest: String,
}

/// A container that belongs to a unit.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Container {
    /// Its identity, another one with each start.
    pub id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The image it was made from, by identity.
    pub image_id: String,
}

#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(rename = "Id", default)]
    id: String,
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "ImageID", default)]
    image_id: String,
}

#[derive(Debug, Deserialize)]
struct Inspected {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Digest", default)]
    digest: String,
}

/// Podman, for whoever runs this process.
#[derive(Clone, Copy, Debug)]
pub struct Podman;

impl Podman {
    /// Its version, as printed and as numbers.
    ///
    /// # Errors
    /// When it cannot be run, or prints something else.
    pub async fn version(&self) -> Result<(String, (u32, u32)), HostError> {
        let text = podman(["version", "--format", "{{.Client.Version}}"]).run().await?;
        let text = text.trim().to_owned();
        let mut numbers = text.split('.').map(|part| part.parse::<u32>().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(major), Some(minor)) => Ok((text, (major, minor))),
            _ => Err(HostError::Answer { program: "podman version", what: text }),
        }
    }

    /// An image that is here.
    ///
    /// # Errors
    /// When Podman cannot be asked.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>, HostError> {
        let output = podman(["image", "inspect", reference]).output(None).await?;
        if !output.is_success {
            let said = output.said();
            let is_absent = ["no such image", "image not known", "unable to find"]
                .iter()
                .any(|word| said.contains(word));
            return if is_absent { Ok(None) } else { Err(answer("podman image inspect", &said)) };
        }
        let images: Vec<Inspected> = serde_json::from_str(&output.stdout)
            .map_err(|error| answer("podman image inspect", &error.to_string()))?;
        Ok(images.into_iter().next().map(|image| Image { id: image.id, digest: image.digest }))
    }

    /// Fetches an image from its registry.
    ///
    /// # Errors
    /// When it is not to be had.
    pub async fn pull(&self, reference: &str) -> Result<(), HostError> {
        podman(["pull", "--quiet", reference]).within(PULL).run().await?;
        Ok(())
    }

    /// Gives an image one more name, so that it is not lost when its own name moves on.
    ///
    /// # Errors
    /// When Podman refuses.
    pub async fn tag(&self, image: &str, name: &str) -> Result<(), HostError> {
        podman(["tag", image, name]).run().await?;
        Ok(())
    }

    /// Takes a name away from its image, and leaves the image and its other names.
    ///
    /// # Errors
    /// When Podman refuses.
    pub async fn untag(&self, name: &str) -> Result<(), HostError> {
        // With the name once only, it would take all names away.
        podman(["untag", name, name]).run().await?;
        Ok(())
    }

    /// The images of all containers, by identity, whoever made them.
    ///
    /// # Errors
    /// When Podman cannot be asked.
    pub async fn images_in_use(&self) -> Result<BTreeSet<String>, HostError> {
        let text = podman(["ps", "--all", "--no-trunc", "--format", "{{.ImageID}}"]).run().await?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    /// The running containers that units made, by the unit's name.
    ///
    /// # Errors
    /// When Podman cannot be asked.
    pub async fn containers(&self) -> Result<BTreeMap<String, Container>, HostError> {
        let text = podman(["ps", "--filter", "label=PODMAN_SYSTEMD_UNIT", "--format", "json"])
            .run()
            .await?;
        let listed: Vec<Listed> =
            serde_json::from_str(&text).map_err(|error| answer("podman ps", &error.to_string()))?;
        let unit = |container: Listed| {
            let labels = container.labels.unwrap_or_default();
            let unit = labels.get("PODMAN_SYSTEMD_UNIT")?.clone();
            Some((unit, Container { id: container.id, labels, image_id: container.image_id }))
        };
        Ok(listed.into_iter().filter_map(unit).collect())
    }

    /// Ends the container of a unit at once; where there is none, there is nothing to end.
    ///
    /// # Errors
    /// When Podman cannot be asked.
    pub async fn kill(&self, unit: &str) -> Result<(), HostError> {
        let filter = format!("label=PODMAN_SYSTEMD_UNIT={unit}");
        let listed = podman(["ps", "--quiet", "--filter", &filter]).run().await?;
        for container in listed.split_whitespace() {
            podman(["kill", "--signal", "KILL", container]).output(None).await?;
        }
        Ok(())
    }

    /// Copies one file out of an image, through a container of this name that never runs.
    ///
    /// # Errors
    /// When the image has no such file, or it cannot be written.
    pub async fn copy_out(
        &self,
        name: &str,
        image: &str,
        file: &str,
        to: &Path,
    ) -> Result<(), HostError> {
        podman([
            "create",
            "--quiet",
            "--replace",
            "--name",
            name,
            "--network",
            "none",
            "--entrypoint",
            "/bin/true",
            image,
        ])
        .run()
        .await?;
        let source = format!("{name}:{file}");
        let copied = podman(["cp", &source, &to.display().to_string()]).run().await;
        let removed = self.remove_container(name).await;
        copied?;
        removed?;
        Ok(())
    }

    /// Removes a container; one that is not there is no trouble.
    ///
    /// # Errors
    /// When Podman refuses.
    pub async fn remove_container(&self, name: &str) -> Result<(), HostError> {
        podman(["rm", "--force", "--ignore", name]).run().await?;
        Ok(())
    }

    /// Removes a volume; one that is not there is no trouble.
    ///
    /// # Errors
    /// When it is in use.
    pub async fn remove_volume(&self, name: &str) -> Result<(), HostError> {
        podman(["volume", "rm", "--force", name]).run().await?;
        Ok(())
    }

    /// Removes a network; one that is not there is no trouble, one that a container of somebody else
    /// uses is left.
    ///
    /// # Errors
    /// When Podman does not answer.
    pub async fn remove_network(&self, name: &str) -> Result<(), HostError> {
        let others = format!("network={name}");
        let using = podman(["ps", "--all", "--quiet", "--filter", &others]).run().await?;
        if using.trim().is_empty() {
            podman(["network", "rm", "--force", name]).run().await?;
        }
        Ok(())
    }
}

pub(super) fn podman<const N: usize>(arguments: [&str; N]) -> Program {
    Program::new("podman").args(arguments)
}

fn answer(program: &'static str, what: &str) -> HostError {
    HostError::Answer { program, what: what.to_owned() }
}
