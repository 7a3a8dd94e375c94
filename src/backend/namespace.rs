//! Which network namespace and which boot we are in, and whether a libvirtd shares it with us.
//!
//! Rules live in a network namespace and die with it, so everything remembered about them is filed under its identity.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// The namespace of the calling thread. `/proc/self` would be that of the process' first thread.
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
/// The Unix sockets of the calling thread's namespace: a line each, its path at the end.
const OWN_SOCKETS: &str = "/proc/thread-self/net/unix";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The daemons of libvirt that make or use base chains; each makes them once in its life.
const DAEMONS: [&str; 4] = ["libvirtd", "virtnetworkd", "virtnwfilterd", "virtqemud"];

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
    source: io::Error,
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
    let boot_id = fs::read_to_string(BOOT_ID).map_err(|source| NamespaceFailure { path: BOOT_ID, source })?;
    let namespace = match namespace_cookie() {
        Some(cookie) => format!("cookie-{cookie}"),
        // Before Linux 5.14. An inode number comes back once its namespace is gone, which a record then takes for its own: its rules are not there,
        // and that is drift like any other.
        None => format!("inode-{}", fs::metadata(OWN_NAMESPACE).map_err(|source| NamespaceFailure { path: OWN_NAMESPACE, source })?.ino()),
    };
    Ok(Identity { boot_id: boot_id.trim().to_owned(), namespace: NamespaceId(namespace) })
}

/// Whether the process ids that the kernel gives to all are those that we see: so in its first process namespace alone.
pub fn sees_kernel_ids() -> bool {
    // PROC_PID_INIT_INO
    fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace.as_os_str() == "pid:[4026531836]")
}

/// A daemon of libvirt that writes firewall rules in the calling thread's network namespace, if one runs where our process namespace lets us see it.
pub fn libvirt_daemon() -> Option<LibvirtDaemon> {
    libvirt_daemons().next()
}

/// All of them.
pub fn libvirt_daemons() -> impl Iterator<Item = LibvirtDaemon> {
    let sockets = || fs::read_to_string(OWN_SOCKETS).ok();
    processes(|name| DAEMONS.contains(&name)).filter_map(move |process| {
        let name = DAEMONS.into_iter().find(|&daemon| daemon == process.name)?;
        // Without the privilege to look into the process, its sockets tell.
        let is_ours = process.in_own_namespace.unwrap_or_else(|| listens(name, sockets().as_deref()));
        is_ours.then_some(LibvirtDaemon { name, pid: process.pid })
    })
}

/// A process that we see.
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) name: String,
    /// Whether it is in the calling thread's network namespace; `None` without the privilege to look into it.
    pub(super) in_own_namespace: Option<bool>,
}

/// The living processes that have such a name, as far as our process namespace lets us see them.
pub(super) fn processes(is_wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = Process> {
    let own = fs::read_link(OWN_NAMESPACE).ok();
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(move |pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned();
        if !is_wanted(&name) {
            return None;
        }
        let in_own_namespace = match (&own, fs::read_link(format!("/proc/{pid}/ns/net"))) {
            (Some(own), Ok(theirs)) => Some(*own == theirs),
            // Dead: it may still have a name, but no namespace.
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => return None,
            _ => None,
        };
        Some(Process { pid, name, in_own_namespace })
    })
}

/// Whether a Unix socket of the calling thread's network namespace is the one that a daemon of libvirt listens on. `sockets` is the kernel's list of them; without
/// it the daemon counts as ours: its base chains then stay, which harms nobody.
///
/// Such a socket belongs to the network namespace that it was made in, by the daemon or by systemd for it, and the list shows no others.
fn listens(daemon: &str, sockets: Option<&str>) -> bool {
    let Some(sockets) = sockets else { return true };
    let name = match daemon {
        "libvirtd" => "/libvirt-sock".to_owned(),
        modular => format!("/{modular}-sock"),
    };
    sockets.lines().any(|line| line.ends_with(&name))
}

/// The number that the kernel gives a network namespace, never twice within one boot; `None` before Linux 5.14.
#[allow(unsafe_code, reason = "neither std nor rustix has this socket option; see the argument inside")]
fn namespace_cookie() -> Option<u64> {
    // Any socket will do: the option is the namespace's, not the protocol's. A Unix one exists in every kernel.
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).expect("8 fits");
    // SAFETY: `socket` is open for the whole call. `cookie` and `length` are live, aligned, exclusively ours, and `length` says how many bytes the kernel
    // may write to `cookie`; every bit pattern is a valid `u64`.
    let status = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut length)
    };
    (status == 0 && length as usize == size_of::<u64>()).then_some(cookie)
}

impl NamespaceId {
    /// One by its name.
    #[cfg(test)]
    pub fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_libvirtd_is_known_by_its_socket_where_its_process_may_not_be_looked_into() {
        let line =
            |path| format!("Num       RefCount Protocol Flags    Type St Inode Path\n0000: 00000002 00000000 00010000 0001 01 7 {path}\n");
        assert!(listens("libvirtd", Some(&line("/run/libvirt/libvirt-sock"))));
        assert!(listens("virtnetworkd", Some(&line("/run/libvirt/virtnetworkd-sock"))));
        assert!(!listens("virtqemud", Some(&line("/run/libvirt/virtqemud-admin-sock"))));
        assert!(!listens("libvirtd", Some(&line("/run/systemd/notify"))));
        assert!(listens("libvirtd", None));
    }

    #[test]
    fn the_identity_is_stable_and_names_a_directory() {
        let identity = identity().expect("proc is mounted");
        assert_eq!(identity.boot_id.len(), 36, "{}", identity.boot_id);
        assert_eq!(identity, super::identity().expect("proc is mounted"));
        assert!(identity.namespace.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{}", identity.namespace);
    }
}
