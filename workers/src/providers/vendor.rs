//! What this program knows of a vendor before it has spoken to it: where it is, and which variables hold its key.

use std::sync::Arc;

use super::Provider;

/// A vendor and its adapter. Each adapter's file has one of these, and [`super::VENDORS`] lists them.
#[derive(Debug)]
pub struct Vendor {
    /// Name in routes, logs, metrics and `kiln doctor`, such as `kling`; the adapter's own.
    pub name: &'static str,
    /// Environment variables that hold the key. All of them are needed; several are joined by `:`.
    pub key_variables: &'static [&'static str],
    /// Environment variable that holds another base URL.
    pub base_variable: &'static str,
    /// Base URL where the variable says nothing.
    pub base_url: &'static str,
    /// Where the vendor's base URL is at the simulator, without a slash at either end.
    pub simulator_path: &'static str,
    /// The key that the simulator takes for it.
    pub simulated_key: &'static str,
    /// How results come, in a few words, for docs/PROVIDERS.md: `in the answer`, `as a task that is polled`.
    pub mode: &'static str,
    /// Whether a task can be stopped at the vendor, in a few words.
    pub cancel: &'static str,
    /// What of the wire protocol nobody could confirm.
    pub unverified: &'static [&'static str],
    /// Makes the adapter that calls this base URL.
    pub adapter: fn(reqwest::Client, String) -> Arc<dyn Provider>,
}
