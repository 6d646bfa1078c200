//! TLS of outgoing connections: one way to trust, for every service that this one calls.
//!
//! Owns how settings become rustls's configuration and an HTTP client. What is sent over them is the
//! business of the callers. PostgreSQL, whose modes are its own, builds on [`roots`].

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::config::tls::{Timeouts, TlsSettings};

/// What this service calls itself to others.
const USER_AGENT: &str = concat!("dispatcher-api/", env!("CARGO_PKG_VERSION"));

/// The one library that does all cryptography.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The configuration of a client that trusts the system's authorities and those of `TLS_CA_FILE`.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn client_config(settings: &TlsSettings) -> anyhow::Result<ClientConfig> {
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    Ok(builder?.with_root_certificates(roots(settings)?).with_no_client_auth())
}

/// An HTTP client that trusts the same, with a limit on every wait. It does not bound the time of a
/// whole request, which depends on what is asked.
///
/// # Errors
/// When `TLS_CA_FILE` cannot be read or holds no certificate.
pub fn http_client(settings: &TlsSettings, timeouts: &Timeouts) -> anyhow::Result<reqwest::Client> {
    let builder = http_builder(settings)?;
    let client = builder.connect_timeout(timeouts.connect).read_timeout(timeouts.read).build();
    client.context("no HTTP client can be made")
}

/// The beginning of an HTTP client that trusts the same and says who it is. Its limits are whoever
/// builds it to set.
///
/// # Errors
/// When `TLS_CA_FILE` cannot be read or holds no certificate.
pub fn http_builder(settings: &TlsSettings) -> anyhow::Result<reqwest::ClientBuilder> {
    let config = client_config(settings)?;
    Ok(reqwest::Client::builder().tls_backend_preconfigured(config).user_agent(USER_AGENT))
}

/// The system's authorities and those of `TLS_CA_FILE`.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn roots(settings: &TlsSettings) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in system.errors {
        tracing::warn!(%error, "some of the system's certificate authorities cannot be read");
    }
    // One of them that is odd must not keep the others from counting.
    roots.add_parsable_certificates(system.certs);
    if let Some(file) = &settings.ca_file {
        add(&mut roots, file).with_context(|| unusable("TLS_CA_FILE", file))?;
    }
    Ok(roots)
}

/// Only the authorities of one file, which a setting names.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn only(setting: &str, file: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    add(&mut roots, file).with_context(|| unusable(setting, file))?;
    Ok(roots)
}

/// The authorities of `TLS_CA_FILE` for HTTP clients that others build; none where it is not set.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn certificates(settings: &TlsSettings) -> anyhow::Result<Vec<reqwest::Certificate>> {
    let Some(file) = &settings.ca_file else { return Ok(Vec::new()) };
    let all = read(file).with_context(|| unusable("TLS_CA_FILE", file))?;
    Ok(all.iter().map(|one| reqwest::Certificate::from_der(one)).collect::<Result<_, _>>()?)
}

/// The same as [`roots`] as PEM, for clients that read nothing else; `None`: only the system's
/// authorities count, and they may load those themselves.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn bundle(settings: &TlsSettings) -> anyhow::Result<Option<Vec<u8>>> {
    let Some(file) = &settings.ca_file else { return Ok(None) };
    let mut all = read(file).with_context(|| unusable("TLS_CA_FILE", file))?;
    let system = rustls_native_certs::load_native_certs().certs.into_iter();
    // Those clients refuse all where one is odd.
    all.extend(system.filter(|one| RootCertStore::empty().add(one.clone()).is_ok()));
    let pem = |one: &CertificateDer<'_>| {
        let text = BASE64_STANDARD.encode(one);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    Ok(Some(all.iter().map(pem).collect::<String>().into_bytes()))
}

fn unusable(setting: &str, file: &Path) -> String {
    format!("{setting}={} cannot be used; it must be a file with PEM certificates", file.display())
}

fn add(roots: &mut RootCertStore, file: &Path) -> anyhow::Result<()> {
    for certificate in read(file)? {
        roots.add(certificate)?;
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem = std::fs::read(file)?;
    let all = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>()?;
    ensure!(!all.is_empty(), "there is no certificate in it");
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(file: &Path) -> TlsSettings {
        TlsSettings { ca_file: Some(file.to_owned()) }
    }

    #[test]
    fn without_a_file_the_systems_authorities_count() {
        client_config(&TlsSettings::default()).unwrap();
        assert!(certificates(&TlsSettings::default()).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_no_bundle_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        for content in [None, Some(""), Some("no certificate"), Some(BROKEN)] {
            if let Some(content) = content {
                std::fs::write(&file, content).unwrap();
            }
            for error in [
                client_config(&settings(&file)).unwrap_err(),
                only("TLS_CA_FILE", &file).unwrap_err(),
            ] {
                let text = format!("{error:#}");
                assert!(text.contains("TLS_CA_FILE=") && text.contains("ca.pem"), "{text}");
            }
        }
    }

    /// PEM around something that is no certificate.
    const BROKEN: &str = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
}
