//! The devices that can be captured on: their numbers, whether they are up, and which bridge they are at.
//!
//! One rtnetlink dump in, a list out; nothing is changed.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::learner::Segment;
use crate::addr::DeviceName;
use crate::backend::links::LinksFailure;

/// A device of this network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tap {
    /// The kernel's number for it, which a device made anew under the same name does not have.
    pub index: u32,
    /// Whether it is up: a capture on one that is down cannot be opened.
    pub up: bool,
    /// The bridge that it is a port of.
    pub bridge: Option<Segment>,
}

/// All devices, by name.
///
/// # Errors
/// When the kernel does not list them; that is never taken for "there are none".
pub async fn taps() -> Result<BTreeMap<DeviceName, Tap>, LinksFailure> {
    let (connection, handle, _unsolicited) = rtnetlink::new_connection().map_err(|error| LinksFailure::new(&error))?;
    let connection = tokio::spawn(connection);
    let dump = handle.link().get().execute().try_filter_map(async |message| Ok(tap(&message))).try_collect().await;
    connection.abort();
    dump.map_err(|error| LinksFailure::new(&error))
}

fn tap(message: &LinkMessage) -> Option<(DeviceName, Tap)> {
    let mut name = None;
    let mut bridge = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(found) => name = DeviceName::new(found),
            LinkAttribute::Controller(found) => bridge = Some(Segment(*found)),
            _ => {}
        }
    }
    Some((name?, Tap { index: message.header.index, up: message.header.flags.contains(LinkFlags::Up), bridge }))
}
