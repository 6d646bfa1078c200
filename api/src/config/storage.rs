//! The object store: named in `serve`, a directory of its own in `standalone`.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::source::{Source, Spec};

const ENGINE: Spec = Spec {
    names: &["STORE_ENGINE"],
    about: "Where uploads and stored playbooks are kept: in a directory that all instances share, \
            or in a service with the protocol of S3.",
    allowed: "file, s3",
    secret: false,
};
const FILE_PATH: Spec = Spec {
    names: &["STORE_FILE_PATH"],
    about: "The directory of the object store, the same for every instance (file).",
    allowed: "an absolute path",
    secret: false,
};
const FILES: Spec = Spec {
    names: &["STORE_FILES_CONTAINER"],
    about: "The bucket of uploads, made where it is not there (s3).",
    allowed: "3 to 63 lower-case letters, digits, dots and hyphens",
    secret: false,
};
const COMPONENTS: Spec = Spec {
    names: &["STORE_COMPONENTS_CONTAINER"],
    about: "The bucket of stored playbooks, made where it is not there; may be the same (s3).",
    allowed: "3 to 63 lower-case letters, digits, dots and hyphens",
    secret: false,
};
const KEY_ID: Spec = Spec {
    names: &["AWS_ACCESS_KEY_ID"],
    about: "The id of the key to the buckets, which must allow to list, read, write and delete (s3).",
    allowed: "any text",
    secret: false,
};
const KEY: Spec = Spec {
    names: &["AWS_SECRET_ACCESS_KEY"],
    about: "The key to the buckets (s3).",
    allowed: "any text",
    secret: true,
};
const REGION: Spec = Spec {
    names: &["AWS_REGION", "AWS_DEFAULT_REGION"],
    about: "The region of the buckets (s3).",
    allowed: "a name, such as us-east-1",
    secret: false,
};
const ENDPOINT: Spec = Spec {
    names: &["S3_ENDPOINT_URL"],
    about: "The service, where it is not Amazon's; buckets are then named in the path (s3).",
    allowed: "an address that begins with https:// or http://",
    secret: false,
};
const SIGNATURE: Spec = Spec {
    names: &["AWS_SIGNATURE_VERSION"],
    about: "How requests are signed (s3).",
    allowed: "s3v4 (the older s3 is not spoken)",
    secret: false,
};

/// Where objects are kept.
#[derive(Clone, Debug)]
pub enum StorageSettings {
    /// In a directory.
    Directory(PathBuf),
    /// In buckets.
    S3(S3Settings),
}

/// Buckets, and how they are reached.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// The bucket of uploads.
    pub files: String,
    /// The bucket of stored playbooks.
    pub components: String,
    /// The id of the key.
    pub key_id: String,
    /// The key.
    pub key: SecretString,
    /// Where the buckets are.
    pub region: String,
    /// The service, where it is not Amazon's.
    pub endpoint: Option<String>,
}

impl StorageSettings {
    /// The directory inside a data directory; nothing is read.
    #[must_use]
    pub fn inside(data: &Path) -> Self {
        Self::Directory(data.join("objects"))
    }

    /// The directory, where it is one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::S3(_) => None,
        }
    }

    /// Reads them; the engine has to be named, and what it needs.
    pub fn read(source: &mut Source) -> Self {
        let engine = source.text(&ENGINE);
        let path = source.text(&FILE_PATH);
        let s3 = read_s3(source, engine.as_deref() == Some("s3"));
        match engine.as_deref() {
            Some("s3") => return Self::S3(s3),
            Some("file") => {}
            Some(other) => source.reject(&ENGINE, other),
            None => source.error(
                "STORE_ENGINE is required: file (with STORE_FILE_PATH), or s3 (with \
                 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)",
            ),
        }
        let path = path.unwrap_or_default();
        if path.is_empty() {
            source.error("STORE_FILE_PATH is required with STORE_ENGINE=file");
        } else if !path.starts_with('/') {
            source.reject(&FILE_PATH, &path);
        }
        Self::Directory(path.into())
    }
}

/// Settings of the engine s3; only where it is in use are they checked.
fn read_s3(source: &mut Source, in_use: bool) -> S3Settings {
    let files = source.parsed(&FILES, "dispatcher-files".to_owned());
    let components = source.parsed(&COMPONENTS, "dispatcher-components".to_owned());
    let key_id = source.text(&KEY_ID).unwrap_or_default();
    let key = source.text(&KEY).unwrap_or_default();
    let region = source.parsed(&REGION, "us-east-1".to_owned());
    let endpoint = source.text(&ENDPOINT).map(|url| url.trim_end_matches('/').to_owned());
    let signature = source.parsed(&SIGNATURE, "s3v4".to_owned());
    if in_use {
        for (spec, bucket) in [(&FILES, &files), (&COMPONENTS, &components)] {
            if !is_bucket(bucket) {
                source.reject(spec, bucket);
            }
        }
        for (name, value) in [("AWS_ACCESS_KEY_ID", &key_id), ("AWS_SECRET_ACCESS_KEY", &key)] {
            if value.is_empty() {
                source.error(format!("{name} is required with STORE_ENGINE=s3"));
            }
        }
        let is_address = |url: &&String| url.starts_with("https://") || url.starts_with("http://");
        if let Some(url) = endpoint.as_ref().filter(|url| !is_address(url)) {
            source.reject(&ENDPOINT, url);
        }
        if signature != "s3v4" {
            source.reject(&SIGNATURE, &signature);
        }
    }
    S3Settings { files, components, key_id, key: key.into(), region, endpoint }
}

fn is_bucket(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'.' || c == b'-';
    (3..=63).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(variables: &[(&str, &str)]) -> Result<StorageSettings, String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut source = Source::new(variables.iter().map(own).collect());
        let settings = StorageSettings::read(&mut source);
        source.finish().map_err(|error| error.to_string())?;
        Ok(settings)
    }

    const S3: [(&str, &str); 3] =
        [("STORE_ENGINE", "s3"), ("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];

    #[test]
    fn either_engine_is_named_with_what_it_needs() {
        let directory = reading(&[("STORE_ENGINE", "file"), ("STORE_FILE_PATH", "/o")]).unwrap();
        assert_eq!(directory.directory(), Some(Path::new("/o")));
        let StorageSettings::S3(s3) = reading(&S3).unwrap() else { panic!("it is s3") };
        assert_eq!((s3.files.as_str(), s3.region.as_str()), ("dispatcher-files", "us-east-1"));
        for (variables, named) in [
            (&[][..], "STORE_ENGINE"),
            (&[("STORE_ENGINE", "swift")], "STORE_ENGINE=swift"),
            (&[("STORE_ENGINE", "file")], "STORE_FILE_PATH"),
            (&[("STORE_ENGINE", "s3")], "AWS_SECRET_ACCESS_KEY"),
        ] {
            let error = reading(variables).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn what_s3_cannot_be_told_is_refused() {
        for (name, value) in [
            ("AWS_SIGNATURE_VERSION", "s3"),
            ("S3_ENDPOINT_URL", "minio:9000"),
            ("STORE_FILES_CONTAINER", "Uploads"),
        ] {
            let error = reading(&[&S3[..], &[(name, value)]].concat()).unwrap_err();
            assert!(error.contains(&format!("{name}={value}")), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
