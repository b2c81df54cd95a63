//! The one HTTP client configuration: for the registry, Connect, Zipkin and health checks.

use std::sync::Once;
use std::time::Duration;

/// A request takes at most this long, connecting included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client with timeouts, TLS by rustls with *ring* and the system's certificate authorities.
///
/// # Errors
/// If the system's certificates cannot be read.
pub fn client() -> anyhow::Result<reqwest::Client> {
    install_crypto();
    let client = builder().build()?;
    Ok(client)
}

/// The client's settings, for crates that build it themselves.
pub fn builder() -> reqwest::ClientBuilder {
    install_crypto();
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(TIMEOUT / 2)
        .user_agent(concat!("kstream-agg/", env!("CARGO_PKG_VERSION")))
}

/// Makes *ring* the process's cryptography for TLS; harmless if it is already.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that another provider is in force already, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
    });
}
