//! How long the door waits for a client, and is silent towards one. A deployment has no say in this: proxies and networks have
//! these times, and only tests have others.

use std::time::Duration;

/// What takes how long.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// How often an answer that takes long shows that it is still coming.
    pub heartbeat: Duration,
    /// How long an answer that comes as a whole sends nothing.
    pub silence: Duration,
    /// Longest time a body that is read as a whole may take to arrive.
    pub body: Duration,
    /// Longest wait for the next piece of a form, or for the head of its next field.
    pub piece: Duration,
    /// How long the rest of a refused form is read.
    pub linger: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            // Proxies commonly give up after a minute of silence.
            silence: Duration::from_secs(45),
            body: Duration::from_secs(60),
            piece: Duration::from_secs(30),
            linger: Duration::from_secs(5),
        }
    }
}
