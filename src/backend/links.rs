//! The network devices of this namespace, for guest interfaces that name no target.
//!
//! One rtnetlink dump in, names and Ethernet addresses out. Nothing is subscribed to and nothing is changed.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};

use crate::addr::{DeviceName, Mac};
use crate::resolve::{Link, LinkKind};

/// The kernel would not list its devices.
#[derive(Debug, thiserror::Error)]
#[error("cannot list network devices: {0}")]
pub struct LinksFailure(String);

impl LinksFailure {
    /// With the kernel's or the library's words.
    pub fn new(words: &impl ToString) -> Self {
        Self(words.to_string())
    }
}

/// All Ethernet devices, by name. A device whose name is not a [`DeviceName`] is left out: no rule could name it.
///
/// # Errors
/// When the netlink socket cannot be opened or the dump fails.
pub async fn links() -> Result<Vec<Link>, LinksFailure> {
    let mut links: Vec<Link> = by_index().await?.into_values().collect();
    links.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(links)
}

/// The same devices by interface index, which a device that is renamed keeps and one that is made anew under its old name does not.
///
/// # Errors
/// As [`links`].
pub async fn by_index() -> Result<BTreeMap<u32, Link>, LinksFailure> {
    let (connection, handle, _unsolicited) = rtnetlink::new_connection().map_err(|error| LinksFailure(error.to_string()))?;
    let connection = tokio::spawn(connection);
    let found = handle.link().get().execute().try_filter_map(async |message| Ok(link(&message).map(|link| (message.header.index, link))));
    let dump = found.try_collect().await;
    connection.abort();
    dump.map_err(|error| LinksFailure(error.to_string()))
}

fn link(message: &LinkMessage) -> Option<Link> {
    // The loopback and tunnels have addresses too, which are not Ethernet's and must not match a guest's.
    if message.header.link_layer_type != LinkLayerType::Ether {
        return None;
    }
    let name =
        message.attributes.iter().find_map(|attribute| if let LinkAttribute::IfName(name) = attribute { Some(name) } else { None })?;
    let bytes =
        message.attributes.iter().find_map(|attribute| if let LinkAttribute::Address(bytes) = attribute { Some(bytes) } else { None })?;
    Some(Link { device: DeviceName::new(name)?, mac: Mac(bytes.as_slice().try_into().ok()?), kind: kind(message) })
}

fn kind(message: &LinkMessage) -> LinkKind {
    let bridge = message
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, LinkAttribute::LinkInfo(details) if details.contains(&LinkInfo::Kind(InfoKind::Bridge))));
    if bridge { LinkKind::Bridge } else { LinkKind::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: LinkLayerType, name: &str, address: &[u8]) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.link_layer_type = kind;
        message.attributes = vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::Address(address.to_vec())];
        message
    }

    #[test]
    fn an_ethernet_device_has_its_name_and_address() {
        let expected = |kind| Link { device: DeviceName::new("vnet0").expect("a name"), mac: Mac([0xfe, 1, 2, 3, 4, 5]), kind };
        let mut tap = message(LinkLayerType::Ether, "vnet0", &[0xfe, 1, 2, 3, 4, 5]);
        assert_eq!(link(&tap), Some(expected(LinkKind::Other)));
        tap.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        assert_eq!(link(&tap), Some(expected(LinkKind::Bridge)));
    }

    #[test]
    fn other_devices_and_names_that_no_rule_can_hold_are_left_out() {
        assert_eq!(link(&message(LinkLayerType::Loopback, "lo", &[0; 6])), None);
        assert_eq!(link(&message(LinkLayerType::Ether, "odd+", &[0; 6])), None);
        assert_eq!(link(&message(LinkLayerType::Ether, "ib0", &[0; 20])), None);
    }
}
