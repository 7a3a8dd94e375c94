//! Link-layer addresses, port ranges and device names: the small values that every layer shares.
//!
//! Text comes in and checked values come out, in exactly one grammar each; nothing here knows about XML or rules.
//! IP addresses and networks are `std::net` and [`ipnet`].

use std::fmt;
use std::sync::Arc;

/// A 48-bit Ethernet address; printed in lower case, two digits a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// The name of a host-side network device (tap, bridge, uplink), checked against `[A-Za-z0-9_.][A-Za-z0-9_.-]{0,14}`.
///
/// The check keeps out what the tools would read as something else: a trailing `+` (an iptables wildcard), a
/// leading `-` (an option), blanks and quotes. `.` and `..` are refused as the kernel refuses them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(Arc<str>);

/// An inclusive range of transport ports; `first` may exceed `last` only where a tool itself accepts that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The lowest port, 0 to 65535.
    pub first: u16,
    /// The highest port, 0 to 65535.
    pub last: u16,
}

impl DeviceName {
    /// Checks `text` and keeps it; `None` when it is not a device name (see the type).
    pub fn new(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
        let good = (1..=15).contains(&bytes.len())
            && plain(bytes[0])
            && bytes[1..].iter().all(|&b| plain(b) || b == b'-')
            && text != "."
            && text != "..";
        good.then(|| Self(text.into()))
    }

    /// The name as the kernel knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

impl Mac {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// `01:80:c2:00:00:00`, the spanning-tree group address; `ebtables-save` prints it as `BGA`.
    pub const BRIDGE_GROUP: Self = Self([0x01, 0x80, 0xc2, 0, 0, 0]);

    /// Reads six groups of one or two hex digits separated by `:`, libvirt's grammar (nwfilter reference 2.2) without its trailing blank.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut groups = text.split(':');
        for byte in &mut bytes {
            let group = groups.next()?;
            if group.is_empty() || group.len() > 2 || !group.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            *byte = u8::from_str_radix(group, 16).ok()?;
        }
        groups.next().is_none().then_some(Self(bytes))
    }

    /// All but the first byte: what a tap has in common with its guest, for libvirt and QEMU change the first one only.
    pub fn tail(self) -> [u8; 5] {
        let [_, tail @ ..] = self.0;
        tail
    }

    /// True for group addresses, broadcast among them.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl PortRange {
    /// The range that holds one port.
    pub fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// All ports, which every tool prints as no match at all.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_what_every_tool_reads_literally() {
        for name in ["a", "virbr0", "eth0.100", "br-lan", "_x", ".x", "abcdefghijklmno"] {
            assert_eq!(DeviceName::new(name).map(|device| device.to_string()).as_deref(), Some(name));
        }
        for name in ["", ".", "..", "-a", "a+", "!a", "a b", "a/b", "a:1", "virbr%d", "v\u{e9}", "a\n", "abcdefghijklmnop"] {
            assert_eq!(DeviceName::new(name), None, "{name:?}");
        }
    }

    #[test]
    fn ethernet_addresses_are_read_in_one_grammar_and_printed_in_one_spelling() {
        let mac = Mac::parse("52:54:0:AB:c:1").expect("groups of one digit are fine");
        assert_eq!(mac.to_string(), "52:54:00:ab:0c:01");
        assert_eq!(Mac::parse(&mac.to_string()), Some(mac));
        for text in [
            "",
            "52:54:00:11:22",
            "52:54:00:11:22:33:44",
            "52-54-00-11-22-33",
            "052:54:00:11:22:33",
            "5g:54:00:11:22:33",
            " 52:54:00:11:22:33",
            "+5:54:00:11:22:33",
        ] {
            assert_eq!(Mac::parse(text), None, "{text:?}");
        }
        assert!(Mac::BROADCAST.is_multicast() && Mac::BRIDGE_GROUP.is_multicast() && !mac.is_multicast());
    }
}
