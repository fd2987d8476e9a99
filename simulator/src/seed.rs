//! Where the variety of the content comes from: a hash of what was asked and of which request asked it.
//!
//! The same seed always makes the same bytes, so a file can be downloaded twice, or after a restart, and compare equal.

use sha2::{Digest as _, Sha256};

/// Thirty-two bytes that decide how a piece of content looks or sounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seed([u8; 32]);

impl Seed {
    /// The seed of some work, from its prompt and the id that makes it different from its twins.
    pub fn of(prompt: &str, id: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(prompt.as_bytes());
        hash.update([0]);
        hash.update(id.as_bytes());
        Self(hash.finalize().into())
    }

    /// One byte of it; positions wrap around.
    pub fn byte(&self, position: usize) -> u8 {
        self.0[position % self.0.len()]
    }

    /// One byte as a number below `limit`, which must not be zero.
    pub fn below(&self, position: usize, limit: usize) -> usize {
        usize::from(self.byte(position)) % limit
    }

    /// The first eight bytes in hexadecimal, to name the content by.
    pub fn name(&self) -> String {
        self.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// `length` bytes of noise that belong to no file format.
    pub fn noise(&self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 32);
        let mut block = self.0;
        while bytes.len() < length {
            block = Sha256::digest(block).into();
            bytes.extend_from_slice(&block);
        }
        bytes.truncate(length);
        bytes
    }
}
