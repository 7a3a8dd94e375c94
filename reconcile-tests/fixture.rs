//! The small state that most cases start from: a network, a filter with rules in all three families, and guests.

use crate::world::World;

/// A nat network with both families, DHCP, on `br-lab`.
pub const NETWORK: &str = "<network>
  <name>lab</name>
  <bridge name='br-lab'/>
  <forward mode='nat'/>
  <ip address='10.40.0.1' prefix='24'><dhcp><range start='10.40.0.10' end='10.40.0.99'/></dhcp></ip>
  <ip family='ipv6' address='fd40::1' prefix='64'/>
</network>
";

/// A filter with rules in ebtables, iptables and ip6tables; needs `IP`.
pub const FILTER: &str = "<filter name='web' chain='root'>
  <filterref filter='clean-traffic'/>
  <rule action='accept' direction='in'><tcp dstportstart='443'/></rule>
  <rule action='drop' direction='in'><all/></rule>
  <rule action='drop' direction='in'><all-ipv6/></rule>
</filter>
";

/// A binding of `vnetN` to a filter, with the address 10.40.0.1N.
pub fn guest(number: usize, filter: &str) -> String {
    format!(
        "<filterbinding>
  <owner><name>vm{number}</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1{number:03}</uuid></owner>
  <portdev name='vnet{number}'/>
  <mac address='52:54:00:40:00:{number:02}'/>
  <filterref filter='{filter}'><parameter name='IP' value='10.40.0.1{number}'/></filterref>
</filterbinding>
"
    )
}

/// A world with the network, the filter and one guest; nothing is installed.
pub fn world() -> World {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    world
}
