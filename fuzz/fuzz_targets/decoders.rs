// The program's decoders, as they are in its sources, without the rest of it. Included, for `crate::` in them has to be the target's root.

#[path = "../../src/addr.rs"]
#[allow(dead_code)]
pub mod addr;

#[allow(dead_code)]
pub mod learn {
    #[path = "../../../src/learn/dhcp.rs"]
    pub mod dhcp;
    #[path = "../../../src/learn/dhcpv6.rs"]
    pub mod dhcpv6;
    #[path = "../../../src/learn/frame.rs"]
    pub mod frame;
}
