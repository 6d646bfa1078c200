//! From the name of an image to the very image: by its digest, which does not move.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    failure::{Exit, Failure},
    progress::Progress,
    record::Record,
    session::Session,
};
use crate::{
    files::{Manifest, manifest::Tag},
    host::podman::{Image, Podman},
};

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
    record: &mut Record,
    (named, freshness): (&str, Freshness),
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
    pinned(podman, record, named, &image).await
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

async fn pinned(
    podman: &Podman,
    record: &mut Record,
    named: &str,
    image: &Image,
) -> Result<Pin, Failure> {
    let short: String = image.digest.trim_start_matches("sha256:").chars().take(12).collect();
    if !short.is_empty() {
        // In the same repository, so that name@digest is found when the name has moved on, and
        // `podman image prune` leaves it here for a rollback.
        let name = format!("{}:quadletgen-{short}", repository(named));
        record.note_tag(&name, Tag { id: image.id.clone(), digest: image.digest.clone() })?;
        podman.tag(&image.id, &name).await?;
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

/// Takes away the names that we gave to images which are neither remembered nor in use. One that
/// cannot be taken away is tried again by the next command.
///
/// # Errors
/// When Podman cannot be asked, or the manifest not be written.
pub async fn forget_surplus(session: &mut Session) -> Result<(), Failure> {
    if session.record.manifest.tags.is_empty() {
        return Ok(());
    }
    let in_use = session.host.podman.images_in_use().await?;
    let asked = session.record.asked_image().map(|pin| pin.reference);
    for name in surplus(&session.record.manifest, asked.as_deref(), &in_use) {
        forget(session, &name).await?;
    }
    Ok(())
}

/// Takes one of our names away, unless somebody has given it to another image since.
///
/// # Errors
/// When Podman cannot be asked, or the manifest not be written.
pub async fn forget(session: &mut Session, name: &str) -> Result<(), Failure> {
    let podman = &session.host.podman;
    let there = podman.image(name).await?.map(|image| image.id);
    let ours = session.record.manifest.tags.get(name).map(|tag| tag.id.clone());
    if there.is_some() && there == ours {
        podman.untag(name).await?;
    }
    session.record.forget_tag(name)
}

/// Those names. The images of the history stay, which the current one and the one before are among,
/// and the one that is asked for.
fn surplus(manifest: &Manifest, asked: Option<&str>, in_use: &BTreeSet<String>) -> Vec<String> {
    let history = manifest.images.iter().map(|image| image.reference.as_str());
    let kept: Vec<&str> = history.chain(asked).collect();
    let is_kept = |tag: &Tag| {
        let by_digest = format!("@{}", tag.digest);
        in_use.contains(&tag.id)
            || kept.iter().any(|reference| {
                *reference == tag.id || (!tag.digest.is_empty() && reference.ends_with(&by_digest))
            })
    };
    let tags = manifest.tags.iter().filter(|(_, tag)| !is_kept(tag));
    tags.map(|(name, _)| name.clone()).collect()
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

    fn host_with(images: usize) -> Manifest {
        let mut manifest = Manifest::default();
        for number in 0..images {
            let (id, digest) = (format!("id{number}"), format!("sha256:{number:064}"));
            manifest.use_image(crate::files::manifest::Image {
                named: "r/d:1".to_owned(),
                reference: format!("r/d@{digest}"),
                since: String::new(),
            });
            manifest.tags.insert(format!("r/d:quadletgen-{number:02}"), Tag { id, digest });
        }
        manifest
    }

    #[test]
    fn names_go_with_the_history_and_not_before() {
        assert_eq!(surplus(&host_with(20), None, &BTreeSet::new()), [] as [String; 0]);
        let gone = surplus(&host_with(23), None, &BTreeSet::new());
        assert_eq!(gone, ["r/d:quadletgen-00", "r/d:quadletgen-01", "r/d:quadletgen-02"]);
    }

    #[test]
    fn what_is_in_use_or_asked_for_keeps_its_name() {
        let manifest = host_with(24);
        let in_use = BTreeSet::from(["id1".to_owned()]);
        let asked = format!("r/d@sha256:{:064}", 2);
        let gone = surplus(&manifest, Some(&asked), &in_use);
        assert_eq!(gone, ["r/d:quadletgen-00", "r/d:quadletgen-03"]);
        let gone = surplus(&manifest, Some("id3"), &in_use);
        assert_eq!(gone, ["r/d:quadletgen-00", "r/d:quadletgen-02"]);
    }

    #[test]
    fn an_image_that_never_was_good_loses_its_name() {
        let mut manifest = host_with(2);
        let bad = Tag { id: "bad".to_owned(), digest: String::new() };
        manifest.tags.insert("r/d:quadletgen-bad".to_owned(), bad);
        assert_eq!(surplus(&manifest, None, &BTreeSet::new()), ["r/d:quadletgen-bad"]);
    }

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
