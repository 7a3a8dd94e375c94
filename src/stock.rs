//! The 24 stock filters, as XML text: what a filter may refer to without anybody having written it.
//!
//! Reference: nwfilter.md section 6. They mean what libvirt's filters of the same names mean, in our own words. This is data only:
//! [`crate::parse`] reads it like any other file, and a user's filter of the same name replaces one.

/// Every stock filter as its name and its XML, sorted by name.
pub fn stock_filters() -> impl Iterator<Item = (&'static str, &'static str)> {
    STOCK.iter().copied()
}

macro_rules! stock {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("stock/", $name, ".xml")))),*]
    };
}

const STOCK: &[(&str, &str)] = stock![
    "allow-arp",
    "allow-dhcp",
    "allow-dhcp-server",
    "allow-dhcpv6",
    "allow-dhcpv6-server",
    "allow-incoming-ipv4",
    "allow-incoming-ipv6",
    "allow-ipv4",
    "allow-ipv6",
    "clean-traffic",
    "clean-traffic-gateway",
    "no-arp-ip-spoofing",
    "no-arp-mac-spoofing",
    "no-arp-spoofing",
    "no-ip-multicast",
    "no-ip-spoofing",
    "no-ipv6-multicast",
    "no-ipv6-spoofing",
    "no-mac-broadcast",
    "no-mac-spoofing",
    "no-other-l2-traffic",
    "no-other-rarp-traffic",
    "qemu-announce-self",
    "qemu-announce-self-rarp",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_twenty_four_in_order_and_none_twice() {
        let names: Vec<_> = stock_filters().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 24);
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }

    #[test]
    fn every_text_defines_the_name_it_is_listed_under() {
        for (name, xml) in stock_filters() {
            assert!(xml.contains(&format!("<filter name='{name}'")), "{name}");
        }
    }
}
