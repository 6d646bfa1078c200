//! A listener of the tests' own HTTP servers that speaks TLS.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use anyhow::Result;
use axum::Router;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::authority::Authority;

/// Accepts connections, and only those whose peers trust its certificate.
struct TlsListener {
    plain: TcpListener,
    acceptor: TlsAcceptor,
}

/// Serves with TLS, or without where there is no certificate.
///
/// # Errors
/// Those of the server.
pub async fn serve(plain: TcpListener, tls: Option<TlsAcceptor>, router: Router) -> io::Result<()> {
    match tls {
        None => axum::serve(plain, router).await,
        Some(acceptor) => axum::serve(TlsListener { plain, acceptor }, router).await,
    }
}

/// A certificate of an authority for this machine, by its address.
///
/// # Errors
/// When it cannot be made.
pub fn acceptor(authority: &Authority, directory: &Path) -> Result<TlsAcceptor> {
    let files = authority.issue(directory, &["127.0.0.1"])?;
    let certificate = CertificateDer::from_pem_file(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = axum::serve::Listener::accept(&mut self.plain).await;
            // Whoever does not trust it goes away again.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.plain.local_addr()
    }
}
