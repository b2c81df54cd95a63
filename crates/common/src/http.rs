//! The HTTP client for the registry, Connect, Zipkin and health checks.

use std::sync::Once;
use std::time::Duration;

/// Timeout of a request, connecting included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client with timeouts, rustls with *ring*, and the system's certificate authorities.
///
/// # Errors
/// If the system's certificates cannot be read.
pub fn client() -> anyhow::Result<reqwest::Client> {
    install_crypto();
    let client = builder().build()?;
    Ok(client)
}

/// The settings of the client, for libraries that build it themselves.
pub fn builder() -> reqwest::ClientBuilder {
    install_crypto();
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(TIMEOUT / 2)
        .user_agent(concat!("kstream-agg/", env!("CARGO_PKG_VERSION")))
}

/// Makes *ring* the TLS cryptography of the process. A second call does nothing.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that a provider is installed already.
        rustls::crypto::ring::default_provider().install_default().ok();
    });
}
