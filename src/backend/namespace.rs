//! Which network namespace and which boot we are in, and whether a libvirtd shares it with us.
//!
//! Rules live in a network namespace and die with it, so everything remembered about them is filed under its identity.

use std::fmt;

/// What a record of installed rules is valid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The kernel's boot id: 36 characters, new at every boot.
    pub boot_id: String,
    /// The network namespace of the calling thread.
    pub namespace: NamespaceId,
}

/// A network namespace, unique within one boot: `cookie-1`, or `inode-4026531840` where the kernel has no cookies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId(String);

/// The kernel would not say where we are.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {source}")]
pub struct NamespaceFailure {
    path: &'static str,
    source: std::io::Error,
}

/// A libvirt daemon in our network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibvirtDaemon {
    /// `libvirtd`, `virtnetworkd`, ...
    pub name: &'static str,
    /// Its process id, in our process namespace.
    pub pid: u32,
}

/// Where the calling thread is.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn identity() -> Result<Identity, NamespaceFailure> {
    Ok(Identity { boot_id: String::new(), namespace: NamespaceId(String::new()) })
}

/// A daemon of libvirt that writes firewall rules in the calling thread's network namespace, if one runs.
pub fn libvirt_daemon() -> Option<LibvirtDaemon> {
    None
}

impl NamespaceId {
    /// The name, which is safe as the name of a directory.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
