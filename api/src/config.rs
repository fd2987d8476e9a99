//! What the environment may say about the front door.

use std::net::SocketAddr;

use shared::config::parsed;

/// Where and how to listen.
#[derive(Debug, Clone)]
pub struct Http {
    /// `KILN_HTTP_ADDR`: address and port to listen on. Default `127.0.0.1:8080`.
    pub addr: SocketAddr,
    /// `KILN_ALLOW_PRIVATE_ADDRESSES`: `true` lets webhooks and input URLs lead into private networks and use plain
    /// http. For development only. Default `false`.
    pub allow_private_addresses: bool,
}

impl Http {
    /// Reads the variables above.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn from_env() -> anyhow::Result<Self> {
        Ok(Self {
            addr: parsed("KILN_HTTP_ADDR", SocketAddr::from(([127, 0, 0, 1], 8080)))?,
            allow_private_addresses: parsed("KILN_ALLOW_PRIVATE_ADDRESSES", false)?,
        })
    }
}
