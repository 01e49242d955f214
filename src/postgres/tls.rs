//! What `sslmode` asks for, done with rustls: `prefer` and `require` encrypt without checking (as libpq does, when there is no
//! root certificate file), `verify-ca` checks the chain, `verify-full` the host name too.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Error, Resolved, SslMode};
use crate::fs;

/// The connector for these parameters.
///
/// # Errors
/// The CA certificates cannot be read.
pub fn connector(resolved: &Resolved) -> Result<MakeRustlsConnect, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let checks = match resolved.sslmode {
        SslMode::VerifyFull => Checks::All,
        SslMode::VerifyCa => Checks::Chain,
        SslMode::Require if resolved.sslrootcert.is_some() => Checks::Chain,
        SslMode::Require | SslMode::Prefer | SslMode::Disable => Checks::Nothing,
    };
    let chain = if checks == Checks::Nothing {
        None
    } else {
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots(resolved)?), provider.clone());
        Some(verifier.build().map_err(|error| Error::Certificates { what: error.to_string() })?)
    };
    let verifier = Verifier { checks, chain, provider: provider.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Certificates { what: error.to_string() })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn roots(resolved: &Resolved) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &resolved.sslrootcert else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let what = found.errors.first().map_or_else(
                || "this machine has none; set sslrootcert".to_owned(),
                |error| format!("{error}; set sslrootcert"),
            );
            return Err(Error::Certificates { what });
        }
        return Ok(roots);
    };
    let text = fs::read(path)?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate
            .map_err(|error| Error::Certificates { what: format!("{}: {error}", path.display()) })?;
        roots
            .add(certificate)
            .map_err(|error| Error::Certificates { what: format!("{}: {error}", path.display()) })?;
    }
    if roots.is_empty() {
        return Err(Error::Certificates { what: format!("{} holds no certificate", path.display()) });
    }
    Ok(roots)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checks {
    Nothing,
    Chain,
    All,
}

#[derive(Debug)]
struct Verifier {
    checks: Checks,
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The chain is checked before the name, so a wrong name means a good chain.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.checks == Checks::Chain => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
