//! TLS to PostgreSQL, in libpq's six modes (see [`SslMode`]): what is checked of the server.
//!
//! libpq's words differ from the rest of the world: `require` encrypts and trusts whoever answers.
//! The proof that the server has its certificate's key is checked in every mode.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    config::database::{PostgresTls, SslMode},
    tls,
};

/// What PostgreSQL from version 17 on wants to hear where TLS begins without asking.
const PROTOCOL: &[u8] = b"postgresql";

/// The connector of these settings; `None`: nothing is ever encrypted.
pub(super) fn connector(settings: &PostgresTls) -> anyhow::Result<Option<MakeRustlsConnect>> {
    // As in libpq, an authority that is named for the database counts in `require` too.
    let mode = match settings.mode {
        SslMode::Require if settings.ca.is_some() => SslMode::VerifyCa,
        mode => mode,
    };
    let provider = tls::provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let custom = |roots: Option<RootCertStore>| {
        let verifier = Arc::new(Verifier { provider, roots });
        builder.clone().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    };
    let mut config = match mode {
        SslMode::Disable => return Ok(None),
        SslMode::Allow | SslMode::Prefer | SslMode::Require => custom(None),
        SslMode::VerifyCa => custom(Some(roots(settings)?)),
        SslMode::VerifyFull => {
            let provider = tls::provider();
            let roots = Arc::new(roots(settings)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build()?;
            builder.with_webpki_verifier(verifier).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Some(MakeRustlsConnect::new(config)))
}

fn roots(settings: &PostgresTls) -> anyhow::Result<RootCertStore> {
    match &settings.ca {
        Some(file) => tls::only("DB_CA", file),
        None => tls::roots(&settings.general),
    }
}

/// Checks less than the name: the chain, or only that the server has the key.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// Who must have signed; `None`: whoever.
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let server = ParsedCertificate::try_from(server)?;
            let known = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&server, roots, intermediates, now, known)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, server, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, server, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

/// What helps against a failed check of a certificate; `None`: nothing that settings can do.
pub(super) fn cure(error: &Error) -> Option<&'static str> {
    let Error::InvalidCertificate(why) = error else { return None };
    Some(match why {
        // Another authority of the same name has another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "DB_CA must name the authority that has signed for the server"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "DB_HOST must be a name that the server's certificate has, or DB_SSLMODE verify-ca"
        }
        _ => "the server needs another certificate",
    })
}
