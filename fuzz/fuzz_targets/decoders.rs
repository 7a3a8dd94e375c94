// The program's decoders, as they are in its sources, without the rest of it. Included, for `crate::` in them has to be the target's root.

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
