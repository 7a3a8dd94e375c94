//! A lease from a real DHCP server, asked for through the stock filter that is made for it.

use super::frame::{Frame, Host};
use super::wire::Wire;

const GUEST: Host = Host::guest(0);
const PEER: Host = Host::guest(1);

/// The number that an answer has to repeat.
const TRANSACTION: [u8; 4] = [0x40, 0x41, 0x42, 0x43];

/// Ethernet, IPv4 and UDP headers without options.
const BEFORE_MESSAGE: usize = 14 + 20 + 8;

/// From the start of a message to its options.
const BEFORE_OPTIONS: usize = 240;

/// Ends the chain that the stock filter puts its rules in, with one more rule for a probe.
const CLOSED: &str = "<filter name='closed' chain='ipv4'>
  <rule action='accept' direction='out' priority='500'><ip protocol='udp' dstportstart='9'/></rule>
  <rule action='drop' direction='inout' priority='1000'/>
</filter>
";

/// DHCPDISCOVER: a request on Ethernet that wants its answer broadcast.
pub(super) fn discover() -> Vec<u8> {
    let mut message = vec![0; BEFORE_OPTIONS];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[4..8].copy_from_slice(&TRANSACTION);
    message[10] = 0x80;
    message[28..34].copy_from_slice(&GUEST.mac);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend([53, 1, 1, 255]);
    GUEST.with_ipv4([0; 4]).udp_with(68, PEER.broadcast().with_ipv4([255; 4]), 67, &message)
}

fn is_offer(frame: &[u8]) -> bool {
    let transaction = BEFORE_MESSAGE + 4..BEFORE_MESSAGE + 8;
    let options = BEFORE_MESSAGE + BEFORE_OPTIONS..;
    frame.get(transaction) == Some(&TRANSACTION) && frame.get(options).is_some_and(|options| options.starts_with(&[53, 1, 2]))
}

#[test]
fn a_lease_comes_through_allow_dhcp_and_nothing_else_does() {
    let wire = Wire::new(2);
    wire.world.sh("command -v dnsmasq || { echo 'a DHCP server is needed: install dnsmasq-base' >&2; exit 1; }
         ip -n guest1 addr add 10.40.0.1/24 dev eth0");
    let server = "ip netns exec guest1 dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= --port=0 --interface=eth0
         --bind-interfaces --leasefile-ro --no-ping --dhcp-authoritative --dhcp-range=10.40.0.50,10.40.0.60";
    let _server = wire.world.serve("dnsmasq", &server.split_whitespace().collect::<Vec<_>>());
    wire.ask(0, &discover(), is_offer);

    let frames = [
        Frame { name: "request for a lease", bytes: discover() },
        Frame { name: "request for a name", bytes: GUEST.udp(5000, PEER, 53) },
        Frame { name: "datagram to the server alone", bytes: GUEST.udp(68, PEER, 67) },
        Frame { name: "probe", bytes: GUEST.udp(5000, PEER, 9) },
    ];
    assert_eq!(wire.arrivals(0, 1, &frames).len(), frames.len(), "without rules everything passes");
    wire.world.write("closed.xml", CLOSED);
    wire.filter("  <filterref filter='closed'/>");
    assert_eq!(wire.arrivals(0, 1, &frames), ["probe"]);
    wire.filter("  <filterref filter='allow-dhcp'/>\n  <filterref filter='closed'/>");
    assert_eq!(wire.arrivals(0, 1, &frames), ["request for a lease", "probe"]);
    wire.ask(0, &discover(), is_offer);
}
