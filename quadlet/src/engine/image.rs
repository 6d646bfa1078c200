//! From the name of an image to the very image: by its digest, which does not move.

use serde::{Deserialize, Serialize};

use super::{
    failure::{Exit, Failure},
    progress::Progress,
};
use crate::host::podman::{Image, Podman};

/// An image that is on this host, as the units name it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pin {
    /// What it was called in the variables.
    pub named: String,
    /// With its digest, or its identity where Podman knows it by no other name.
    pub reference: String,
}

/// Whether a registry is asked for a newer image of the same name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Freshness {
    /// What is here is good.
    Here,
    /// Only the newest is good, where the registry can be reached.
    Newest,
}

/// Finds the image, fetches it where that is needed, and keeps it under a name of its own. Where the
/// registry cannot be asked and the image is here, that is said and good enough.
///
/// # Errors
/// When it is neither here nor to be had.
pub async fn resolve(
    podman: &Podman,
    progress: &Progress,
    named: &str,
    freshness: Freshness,
) -> Result<Pin, Failure> {
    let is_local = named.starts_with("localhost/") || named.contains("@sha256:");
    let image = match podman.image(named).await? {
        Some(image) if freshness == Freshness::Here || is_local => image,
        Some(image) => match fetched(podman, named).await {
            Ok(newest) => newest,
            Err(failure) => {
                progress.say(&format!(
                    "note: the image that is here is used: {}",
                    first_line(&failure.text)
                ));
                image
            }
        },
        None => fetched(podman, named).await?,
    };
    pinned(podman, named, &image).await
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// What `--dry-run` says of an image: nothing is fetched or tagged.
///
/// # Errors
/// When Podman cannot be asked.
pub async fn look(podman: &Podman, named: &str) -> Result<Option<Pin>, Failure> {
    let image = podman.image(named).await?;
    Ok(image.map(|image| Pin { named: named.to_owned(), reference: reference(named, &image) }))
}

async fn fetched(podman: &Podman, named: &str) -> Result<Image, Failure> {
    let missing = |why: &str| {
        Failure::new(
            Exit::Wrong,
            format!(
                "the image {named} is not on this host and cannot be fetched: {why}\nNothing was changed. Check the name, \
                 log in (podman login), or bring it here (podman load -i FILE)"
            ),
        )
    };
    podman.pull(named).await.map_err(|error| missing(&error.to_string()))?;
    podman.image(named).await?.ok_or_else(|| missing("Podman fetched it and does not have it"))
}

async fn pinned(podman: &Podman, named: &str, image: &Image) -> Result<Pin, Failure> {
    let short: String = image.digest.trim_start_matches("sha256:").chars().take(12).collect();
    if !short.is_empty() {
        // In the same repository, so that name@digest is found when the name has moved on, and
        // `podman image prune` leaves it here for a rollback.
        podman.tag(&image.id, &format!("{}:quadletgen-{short}", repository(named))).await?;
    }
    let by_digest = reference(named, image);
    let reference = match podman.image(&by_digest).await? {
        Some(found) if found.id == image.id => by_digest,
        _ => image.id.clone(),
    };
    Ok(Pin { named: named.to_owned(), reference })
}

fn reference(named: &str, image: &Image) -> String {
    if image.digest.is_empty() {
        image.id.clone()
    } else {
        format!("{}@{}", repository(named), image.digest)
    }
}

/// The name without tag and digest.
fn repository(named: &str) -> &str {
    let named = named.split('@').next().unwrap_or(named);
    match named.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_what_is_before_tag_and_digest() {
        for (named, expected) in [
            ("localhost/dispatcher-api:1", "localhost/dispatcher-api"),
            ("localhost/dispatcher-api", "localhost/dispatcher-api"),
            ("registry:5000/a/b", "registry:5000/a/b"),
            ("registry:5000/a/b:2@sha256:ab", "registry:5000/a/b"),
            ("quay.io/a/b@sha256:ab", "quay.io/a/b"),
        ] {
            assert_eq!(repository(named), expected);
        }
    }
}
