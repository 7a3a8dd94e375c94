// Included by the targets that decode, for `crate::` has to be their root: the program's decoders, as they are in its sources, without the rest of it.

#[path = "../../src/addr.rs"]
#[allow(dead_code)]
pub mod addr;

#[path = "../../src/learn"]
#[allow(dead_code)]
pub mod learn {
    pub mod dhcp;
    pub mod dhcpv6;
    pub mod frame;
}
