//! Guests whose every frame is the test's: no addresses, no kernel that answers, one packet socket at each end of a bridge.
//!
//! Frames of one test keep their order all the way (one processor, one queue), so a frame is known to be dropped when one that
//! was sent after it has arrived: nothing here waits for silence.

use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::frame::{Frame, Host};
use crate::namespace::inside;
use crate::world::World;

/// How long a frame that has to arrive may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A bridge, and guests with the MAC addresses 52:54:00:40:00:0N at its ports `vnetN`.
pub struct Wire {
    /// Where bridgeward and the bridge are.
    pub world: World,
    guests: Vec<OwnedFd>,
}

impl Wire {
    /// A bridge with so many guests.
    pub fn new(guests: usize) -> Self {
        let world = World::new();
        world.sh("ip link add br-lab type bridge mcast_snooping 0; ip link set br-lab up");
        let bridged_frames = world.sh("cat /proc/sys/net/bridge/bridge-nf-call-iptables || echo absent");
        assert_eq!(bridged_frames, "1\n", "iptables does not see bridged frames here: load the kernel module br_netfilter");
        let guests: Vec<OwnedFd> = (0..guests).map(|number| attach(&world, number)).collect();
        let wire = Self { world, guests };
        wire.wait_for_carrier();
        wire
    }

    /// Waits until every guest is heard by its neighbour: links and bridge ports open some time after they are set up.
    fn wait_for_carrier(&self) {
        for from in 0..self.guests.len() {
            let to = (from + 1) % self.guests.len();
            let number = u8::try_from(from).expect("few guests");
            let probe = Frame { name: "probe", bytes: Host::guest(number).udp(9, Host::guest(number).broadcast(), 9) };
            let heard = (0..1000).any(|_| {
                self.send(from, &probe.bytes);
                self.receive(to, PATIENCE / 1000).is_some_and(|frame| frame == probe.bytes)
            });
            assert!(heard, "guest {to} never hears guest {from}");
        }
    }

    /// Sends the frames from one guest and names those that reach another; the last one has to, so that the others were judged.
    pub fn arrivals(&self, from: usize, to: usize, frames: &[Frame]) -> Vec<&'static str> {
        let marker = frames.last().expect("something is sent");
        self.forget_arrived(to);
        on_one_processor(|| frames.iter().for_each(|frame| self.send(from, &frame.bytes)));
        let mut arrived = Vec::new();
        loop {
            let bytes = self.receive(to, PATIENCE);
            let bytes = bytes.unwrap_or_else(|| panic!("`{}` never arrived; before it came {arrived:?}", marker.name));
            // Whatever else is on the wire (multicast of the host's own) is nobody's frame.
            let Some(frame) = frames.iter().find(|frame| bytes.starts_with(&frame.bytes)) else { continue };
            arrived.push(frame.name);
            if frame.name == marker.name {
                return arrived;
            }
        }
    }

    /// Sends a question until the same guest hears an answer: the server that it is for may not listen yet.
    pub fn ask(&self, guest: usize, question: &[u8], is_answer: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        for _ in 0..100 {
            self.send(guest, question);
            while let Some(frame) = self.receive(guest, PATIENCE / 100) {
                if is_answer(&frame) {
                    return frame;
                }
            }
        }
        panic!("nobody answers guest {guest}");
    }

    /// Puts a frame on the wire as this guest.
    fn send(&self, from: usize, frame: &[u8]) {
        let sent = send(&self.guests[from], frame, SendFlags::empty()).expect("the guest's link is up");
        assert_eq!(sent, frame.len(), "a frame is sent whole");
    }

    /// Empties a guest's ears.
    fn forget_arrived(&self, guest: usize) {
        while recv(&self.guests[guest], &mut [0; 1][..], RecvFlags::DONTWAIT).is_ok() {}
    }

    /// The next frame that reaches this guest in that time.
    fn receive(&self, guest: usize, within: Duration) -> Option<Vec<u8>> {
        let socket = &self.guests[guest];
        set_socket_timeout(socket, Timeout::Recv, Some(within)).expect("a socket's timeout can be set");
        let mut buffer = vec![0; 2048];
        match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((length, _)) => {
                buffer.truncate(length);
                Some(buffer)
            }
            Err(Errno::AGAIN) => None,
            Err(error) => panic!("guest {guest} cannot hear: {error}"),
        }
    }
}

/// Frames of a veth pair travel in the queue of the processor that sends them, so they stay in order while that stays the same.
pub fn on_one_processor(body: impl FnOnce()) {
    let all = sched_getaffinity(None).expect("a thread may ask for its processors");
    let mut here = CpuSet::new();
    here.set(sched_getcpu());
    sched_setaffinity(None, &here).expect("a thread may choose among its processors");
    body();
    sched_setaffinity(None, &all).expect("a thread may choose among its processors");
}

fn attach(world: &World, number: usize) -> OwnedFd {
    world.sh(&format!(
        "ip netns add guest{number}
         ip netns exec guest{number} sysctl -qw net.ipv6.conf.default.disable_ipv6=1
         ip link add vnet{number} type veth peer name eth0 netns guest{number}
         ip link set vnet{number} master br-lab up
         ip -n guest{number} link set eth0 address 52:54:00:40:00:0{number} up"
    ));
    inside(&world.namespace(Some(&format!("guest{number}"))), || packet_socket("eth0"))
}

/// A socket for whole frames on this device of the calling thread's namespace; it does not hear what it sends.
#[expect(unsafe_code, reason = "rustix has no address type for packet sockets, so `bind` is called as C would")]
pub fn packet_socket(device: &str) -> OwnedFd {
    // No protocol yet: until it is bound, a packet socket would hear every interface.
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None).expect("packet sockets need root");
    let index = name_to_index(&socket, device).expect("the guest's link is there");
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).expect("address families are small"),
        sll_protocol: u16::try_from(libc::ETH_P_ALL).expect("Ethernet types have 16 bits").to_be(),
        sll_ifindex: i32::try_from(index).expect("interface numbers are positive"),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("an address is small");
    // SAFETY: the pointer is to a whole `sockaddr_ll` that outlives the call, and the length is its size.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
    set_socket_recv_buffer_size(&socket, 1 << 20).expect("a buffer can grow");
    socket
}
