//! What every version of every kept file begins with: its format's version, and the boot and namespace whose rules it speaks of.

use serde::Deserialize;

use crate::backend::namespace::Identity;

/// The first keys of a file; the rest is its own.
#[derive(Deserialize)]
pub(super) struct Header {
    version: u32,
    pub boot_id: String,
    pub namespace: String,
}

impl Header {
    /// Reads them.
    ///
    /// # Errors
    /// Why they cannot be read, in words.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// Whether the namespace is ours.
    pub fn same_namespace(&self, identity: &Identity) -> bool {
        self.namespace == identity.namespace.as_str()
    }

    /// Whether the host has not been started anew since.
    pub fn same_boot(&self, identity: &Identity) -> bool {
        self.boot_id == identity.boot_id
    }

    /// Takes no format but this one.
    ///
    /// # Errors
    /// Which one it is, in words.
    pub fn require(&self, version: u32) -> Result<(), String> {
        if self.version == version {
            Ok(())
        } else {
            Err(format!("it has version {}, and this bridgeward reads version {version}", self.version))
        }
    }
}
