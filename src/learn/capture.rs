//! Listening on the taps of guests that learn: frames off the wire, decoded, into one channel.
//!
//! One socket per tap and no thread per socket. The alternative, one socket for all devices at once, would show every frame of the host
//! to our filter and let one guest's flood push the others' frames out of the one buffer. Compiling a filter takes a while, and closing waits for
//! the kernel (10 to 30 ms), so that is done on a few threads for blocking work, never on those of the runtime.
//!
//! libpcap compiles the filters but does not listen: it hears before it filters, so what was heard before has to be filtered again by itself,
//! where (1.10.3) the direction of a frame is not known. A socket of our own has its filter before it has its device.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::{Domain, SockAddr, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};

use super::filter::Hearing;
use super::frame::{self, Utterance};
use super::limit::Bucket;
use super::tap::Tap;
use crate::addr::{DeviceName, Mac};

/// So many frames of one guest wait in the kernel at most, in bytes; of more, the kernel drops the rest before they cost us anything.
const BUFFER: usize = 32 << 10;
/// Frames of one guest that are decoded: a burst, then so many a second, as in libvirt.
const BURST: u32 = 50;
const RATE: f64 = 10.0;
/// Whoever sends more is not listened to for so long; nor is a device that is gone, or went down.
const PAUSE: Duration = Duration::from_millis(100);
/// So long after the host did not let us listen it is tried again.
const RETRY: Duration = Duration::from_mins(1);
/// So many sockets are opened or closed at the same time, each on a thread.
const PARALLEL: usize = 32;
/// Frames that wait to be judged.
const QUEUE: usize = 256;

/// Something that a capture has to say.
#[derive(Debug)]
pub enum Heard {
    /// A frame.
    Frame(DeviceName, Utterance),
    /// Nothing more is heard from this device: it is gone or went down, or the host did not let us listen, some time ago.
    Silence(DeviceName, String),
}

/// The captures that run.
#[derive(Debug)]
pub struct Captures {
    running: BTreeMap<DeviceName, Running>,
    sender: mpsc::Sender<Heard>,
    permits: Arc<Semaphore>,
    counts: Arc<Counts>,
    /// How many captures are being opened.
    opening: watch::Sender<usize>,
}

/// How much was heard, by all captures since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Frames that were decoded.
    pub frames: AtomicU64,
    /// Those of them that were not what they claimed to be.
    pub malformed: AtomicU64,
    /// Frames that were not looked at because their guest sent too many.
    pub surplus: AtomicU64,
}

#[derive(Debug)]
struct Running {
    index: u32,
    mac: Mac,
    hearing: Hearing,
    task: tokio::task::JoinHandle<()>,
}

impl Captures {
    /// None yet; what they hear comes out of the receiver.
    pub fn new() -> (Self, mpsc::Receiver<Heard>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let captures = Self {
            running: BTreeMap::new(),
            sender,
            permits: Arc::new(Semaphore::new(PARALLEL)),
            counts: Arc::new(Counts::default()),
            opening: watch::Sender::new(0),
        };
        (captures, receiver)
    }

    /// How much was heard.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many taps are listened to.
    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// Listens to these guests and to no others: opens what is missing where the tap is there and up, and closes what is no longer wanted,
    /// or belongs to a tap that was made anew under the same name.
    pub fn follow(&mut self, wanted: &BTreeMap<DeviceName, (Mac, Hearing)>, taps: &BTreeMap<DeviceName, Tap>) {
        self.running.retain(|device, running| {
            let same = wanted.get(device) == Some(&(running.mac, running.hearing))
                && taps.get(device).is_some_and(|tap| tap.index == running.index);
            if !same {
                running.task.abort();
            }
            same
        });
        for (device, &(mac, hearing)) in wanted {
            let Some(tap) = taps.get(device).filter(|tap| tap.up) else { continue };
            if self.running.contains_key(device) {
                continue;
            }
            let listening = Listening {
                device: device.clone(),
                index: tap.index,
                mac,
                hearing,
                sender: self.sender.clone(),
                permits: Arc::clone(&self.permits),
                counts: Arc::clone(&self.counts),
            };
            let listening = listening.run(Opening::new(&self.opening));
            self.running.insert(device.clone(), Running { index: tap.index, mac, hearing, task: tokio::spawn(listening) });
        }
    }

    /// Takes in that nothing more is heard from this device: what follows may open it again.
    pub fn end(&mut self, device: &DeviceName) {
        if let Some(running) = self.running.remove(device) {
            running.task.abort();
        }
    }

    /// Waits until all captures are open, or turned out not to be possible; at most for so long.
    pub async fn opened(&self, limit: Duration) {
        let mut opening = self.opening.subscribe();
        // When time is up, the rest is opened later.
        let _ = tokio::time::timeout(limit, opening.wait_for(|count| *count == 0)).await;
    }

    /// Closes all of them, and waits until they are.
    pub async fn close(&mut self) {
        for (_, running) in std::mem::take(&mut self.running) {
            running.task.abort();
            let _ = running.task.await;
        }
        // Whoever is closing holds a permit.
        let _ = self.permits.acquire_many(u32::try_from(PARALLEL).expect("few")).await;
    }
}

/// An open socket; closed on a thread for blocking work when dropped.
struct Ear {
    socket: Option<AsyncFd<Socket>>,
    permits: Arc<Semaphore>,
}

impl Drop for Ear {
    fn drop(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let socket = socket.into_inner();
        let permits = Arc::clone(&self.permits);
        runtime.spawn(async move {
            let _permit = permits.acquire().await;
            let _ = tokio::task::spawn_blocking(move || drop(socket)).await;
        });
    }
}

/// Counts one capture that is being opened, until it is open, or given up.
struct Opening(watch::Sender<usize>);

impl Opening {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// What one capture works with.
struct Listening {
    device: DeviceName,
    index: u32,
    mac: Mac,
    hearing: Hearing,
    sender: mpsc::Sender<Heard>,
    permits: Arc<Semaphore>,
    counts: Arc<Counts>,
}

impl Listening {
    /// Opens a socket and hands on what it hears until the device is gone.
    async fn run(self, opening: Opening) {
        let opened = self.open().await;
        drop(opening);
        let error = match opened {
            Ok(mut ear) => self.hear(&mut ear).await,
            Err(error) => error,
        };
        // As long as nothing is said the device is not opened again.
        if is_gone(&error) {
            tokio::time::sleep(PAUSE).await;
        } else {
            tracing::warn!(device = %self.device, %error, "this device cannot be listened to; it is tried again in a minute");
            tokio::time::sleep(RETRY).await;
        }
        // Whoever listens may have gone.
        let _ = self.sender.send(Heard::Silence(self.device, error.to_string())).await;
    }

    async fn open(&self) -> io::Result<Ear> {
        let (index, mac, hearing) = (self.index, self.mac, self.hearing);
        let opening = move || open(index, &hearing.program(mac).map_err(io::Error::other)?);
        let socket = {
            let _permit = self.permits.acquire().await;
            tokio::task::spawn_blocking(opening).await??
        };
        Ok(Ear { socket: Some(register(socket)?), permits: Arc::clone(&self.permits) })
    }

    /// Hands on frames; returns why there are no more.
    async fn hear(&self, ear: &mut Ear) -> io::Error {
        let start = Instant::now();
        let mut bucket = Bucket::full(BURST, RATE);
        let mut buffer = vec![0; self.hearing.snap_length().into()];
        let socket = ear.socket.as_mut().expect("it is there until it is dropped");
        loop {
            let mut guard = match socket.ready(Interest::READABLE | Interest::ERROR).await {
                Ok(guard) => guard,
                Err(error) => return error,
            };
            let length = match recv(guard.get_inner(), &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => {
                    guard.clear_ready();
                    continue;
                }
                Err(error) => return error.into(),
            };
            drop(guard);
            if !bucket.take(start.elapsed()) {
                self.counts.surplus.fetch_add(1, Ordering::Relaxed);
                // The kernel's buffer fills up meanwhile, and then frames are dropped where that costs next to nothing.
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            self.counts.frames.fetch_add(1, Ordering::Relaxed);
            match frame::decode(&buffer[..length]) {
                Ok(Some(utterance)) => {
                    if self.sender.send(Heard::Frame(self.device.clone(), utterance)).await.is_err() {
                        return Errno::NODEV.into();
                    }
                }
                Ok(None) => {}
                Err(frame::Malformed) => {
                    self.counts.malformed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Whether there is nothing to listen to: the device is gone, or went down.
fn is_gone(error: &io::Error) -> bool {
    [Errno::NODEV, Errno::NXIO, Errno::NETDOWN].iter().any(|gone| error.raw_os_error() == Some(gone.raw_os_error()))
}

/// A socket that hears what its filter passes of one device, by its number, and has never heard anything else: without a protocol it hears
/// nothing until it is bound.
fn open(index: u32, program: &[SockFilter]) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.attach_filter(program)?;
    socket.bind(&device(index))?;
    Ok(socket)
}

/// Every frame of the device with this number, in the words of `bind`.
#[allow(unsafe_code, reason = "neither socket2 nor rustix makes an address of this family; see the argument inside")]
fn device(index: u32) -> SockAddr {
    // SAFETY: the storage is zeroed, exclusively ours, and aligned and large enough for every kind of address; `length` says how much of it is
    // this one.
    let address = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = &mut *storage.cast::<libc::sockaddr_ll>();
            address.sll_family = u16::try_from(libc::AF_PACKET).expect("a small number");
            address.sll_protocol = u16::try_from(libc::ETH_P_ALL).expect("a small number").to_be();
            address.sll_ifindex = index.cast_signed();
            *length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("20 fits");
            Ok(())
        })
    };
    address.expect("nothing in it fails").1
}

/// Has the runtime wake us for frames, and for the end of the device: an error on the descriptor, which is no frame.
#[allow(unsafe_code, reason = "tokio's registration is unsafe by signature; see the argument inside")]
fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: the socket owns its descriptor until it is closed when dropped, always answers `as_raw_fd` with it, and the `AsyncFd` owns it.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE | Interest::ERROR) };
    registered.map_err(io::Error::from)
}
