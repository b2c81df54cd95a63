//! The security settings of `kafka.properties`, in librdkafka's names, for connections of our own.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_rustls::TlsConnector;

use super::BrokerRequestError;
use super::sasl::Sasl;

#[derive(Clone)]
pub(super) struct Security {
    tls: Option<Arc<ClientConfig>>,
    sasl: Option<Sasl>,
}

impl Security {
    /// Reads `security.protocol` and what belongs to it. What this client cannot do is [`BrokerRequestError::Unsupported`].
    pub(super) fn from_properties(properties: &BTreeMap<String, String>) -> Result<Self, BrokerRequestError> {
        let property =
            |name: &str| properties.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let protocol = property("security.protocol").unwrap_or("plaintext").to_lowercase();
        let (with_tls, with_sasl) = match protocol.as_str() {
            "plaintext" => (false, false),
            "ssl" => (true, false),
            "sasl_plaintext" => (false, true),
            "sasl_ssl" => (true, true),
            other => return Err(BrokerRequestError::Unsupported(format!("security.protocol = {other}"))),
        };
        let tls = with_tls.then(|| tls_config(&property)).transpose()?.map(Arc::new);
        let sasl = with_sasl.then(|| sasl(&property)).transpose()?;
        Ok(Self { tls, sasl })
    }

    pub(super) fn sasl(&self) -> Option<&Sasl> {
        self.sasl.as_ref()
    }

    /// The connector and the name that the broker's certificate must carry; `None` without TLS.
    pub(super) fn tls(
        &self,
        address: &str,
    ) -> Result<Option<(TlsConnector, ServerName<'static>)>, BrokerRequestError> {
        let Some(config) = &self.tls else { return Ok(None) };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| BrokerRequestError::Unsupported(format!("{address}: {error}")))?;
        Ok(Some((TlsConnector::from(Arc::clone(config)), name)))
    }
}

fn sasl<'p>(property: &impl Fn(&str) -> Option<&'p str>) -> Result<Sasl, BrokerRequestError> {
    let named = property("sasl.mechanism").or_else(|| property("sasl.mechanisms")).unwrap_or("GSSAPI");
    let username = property("sasl.username").unwrap_or_default();
    let password = property("sasl.password").unwrap_or_default();
    Sasl::new(named, username, password)
        .ok_or_else(|| BrokerRequestError::Unsupported(format!("sasl.mechanism = {named}")))
}

fn tls_config<'p>(property: &impl Fn(&str) -> Option<&'p str>) -> Result<ClientConfig, BrokerRequestError> {
    for unsupported in ["ssl.keystore.location", "ssl.key.password", "ssl.ca.pem", "ssl.key.pem"] {
        if property(unsupported).is_some() {
            return Err(BrokerRequestError::Unsupported(format!("kafka.properties: {unsupported}")));
        }
    }
    if property("enable.ssl.certificate.verification") == Some("false")
        || property("ssl.endpoint.identification.algorithm") == Some("none")
    {
        return Err(BrokerRequestError::Unsupported("TLS without verification of the broker".into()));
    }
    crate::http::install_crypto();
    let builder = ClientConfig::builder();
    let builder = match property("ssl.ca.location") {
        None => builder.with_platform_verifier().map_err(|error| unreadable("ssl.ca.location", &error))?,
        Some(path) => builder.with_root_certificates(authorities(path)?),
    };
    let config = match (property("ssl.certificate.location"), property("ssl.key.location")) {
        (Some(certificate), Some(key)) => {
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("ssl.key.location", &error))?;
            builder
                .with_client_auth_cert(certificates("ssl.certificate.location", certificate)?, key)
                .map_err(|error| unreadable("ssl.certificate.location", &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(config)
}

fn authorities(path: &str) -> Result<RootCertStore, BrokerRequestError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ssl.ca.location", path)? {
        roots.add(certificate).map_err(|error| unreadable("ssl.ca.location", &error))?;
    }
    Ok(roots)
}

fn certificates(key: &str, path: &str) -> Result<Vec<CertificateDer<'static>>, BrokerRequestError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| unreadable(key, &error))
}

fn unreadable(key: &str, error: &dyn std::fmt::Display) -> BrokerRequestError {
    BrokerRequestError::Unsupported(format!("kafka.properties: {key}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(properties: &[(&str, &str)]) -> Result<Security, BrokerRequestError> {
        let owned = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Security::from_properties(&owned.collect())
    }

    #[test]
    fn plaintext_is_the_default_and_needs_neither_tls_nor_sasl() {
        let security = from(&[]).unwrap();
        assert!(security.sasl().is_none());
        assert!(security.tls("127.0.0.1:9092").unwrap().is_none());
    }

    #[test]
    fn a_mechanism_or_setting_that_this_client_cannot_do_is_named() {
        let refused = |properties: &[(&str, &str)]| from(properties).err().unwrap().to_string();
        assert_eq!(
            refused(&[("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "GSSAPI")]),
            "sasl.mechanism = GSSAPI"
        );
        assert_eq!(
            refused(&[("security.protocol", "ssl"), ("ssl.key.password", "x")]),
            "kafka.properties: ssl.key.password"
        );
        assert!(
            refused(&[("security.protocol", "ssl"), ("ssl.ca.location", "/none")])
                .starts_with("kafka.properties: ssl.ca.location: ")
        );
    }

    #[test]
    fn scram_over_tls_is_taken_from_librdkafkas_properties() {
        let security = from(&[
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanisms", "SCRAM-SHA-512"),
            ("sasl.username", "u"),
            ("sasl.password", "p"),
        ])
        .unwrap();
        assert_eq!(security.sasl().unwrap().mechanism(), "SCRAM-SHA-512");
        assert!(security.tls("broker.example:9093").unwrap().is_some());
    }
}
