//! How this worker reaches other machines: which certificates it trusts beside the system's, and
//! through which proxy. The same for the service and for playbooks.

use std::{net::IpAddr, path::Path};

use reqwest::{Certificate, ClientBuilder, Proxy, Url};

/// The largest file with certificates.
const MAX_CA_BYTES: u64 = 4 * 1024 * 1024;

/// What every outgoing connection has in common.
#[derive(Clone, Debug, Default)]
pub struct Outbound {
    certificates: Vec<Certificate>,
    proxy: Option<Proxy>,
}

impl Outbound {
    /// With the certificates of this file, and this proxy; without one, the usual variables
    /// (`https_proxy`, `http_proxy`, `no_proxy`) say which.
    ///
    /// # Errors
    /// In words, when the file holds no certificates or the proxy is none.
    pub fn new(ca_file: Option<&Path>, proxy: Option<&str>) -> Result<Self, String> {
        let certificates = ca_file.map(certificates).transpose()?.unwrap_or_default();
        // The address may hold a password, so errors do not repeat it.
        let proxy = proxy.map(Proxy::all).transpose().map_err(|_| {
            "WORKER_PROXY is not the address of a proxy; allowed: http://[user:password@]host:port"
                .to_owned()
        })?;
        Ok(Self { certificates, proxy })
    }

    /// Trusting these authorities beside the system's, with the usual proxy.
    #[must_use]
    pub const fn trusting(certificates: Vec<Certificate>) -> Self {
        Self { certificates, proxy: None }
    }

    /// A client for this address; what is on this very host is reached without a proxy.
    pub(crate) fn builder(&self, url: &Url) -> ClientBuilder {
        let mut builder = reqwest::Client::builder()
            .referer(false)
            .user_agent(concat!("dispatcher-worker/", env!("CARGO_PKG_VERSION")));
        if !self.certificates.is_empty() {
            builder = builder.tls_certs_merge(self.certificates.clone());
        }
        if is_loopback(url) {
            return builder.no_proxy();
        }
        match &self.proxy {
            Some(proxy) => builder.proxy(proxy.clone()),
            None => builder,
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let unusable = |why: &str| {
        format!(
            "WORKER_TLS_CA_FILE={} cannot be used: {why}; allowed: a file with certificates in PEM",
            path.display()
        )
    };
    let size = std::fs::metadata(path).map_err(|error| unusable(&error.to_string()))?.len();
    if size > MAX_CA_BYTES {
        return Err(unusable(&format!("it has {size} bytes, and at most {MAX_CA_BYTES} are read")));
    }
    let pem = std::fs::read(path).map_err(|error| unusable(&error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error.to_string()))?;
    if found.is_empty() { Err(unusable("it has no certificates")) } else { Ok(found) }
}

/// Whether an address is on this very host.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// An error with all its causes: reqwest's own text says only that something went wrong.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_said_without_passwords() {
        let told = Outbound::new(None, Some("http://user:hunter2@[")).unwrap_err();
        assert!(told.contains("WORKER_PROXY") && !told.contains("hunter2"), "{told}");
        let told = Outbound::new(Some(Path::new("/nonexistent/ca.pem")), None).unwrap_err();
        assert!(told.contains("WORKER_TLS_CA_FILE=/nonexistent/ca.pem"), "{told}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let told = Outbound::new(Some(file.path()), None).unwrap_err();
        assert!(told.contains("no certificates"), "{told}");
        assert!(Outbound::new(None, Some("http://user:hunter2@proxy:3128")).is_ok());
    }
}
