//! Listening on the taps of guests that learn: frames off the wire, decoded, into one channel.
//!
//! One capture per tap and no thread per capture. The alternative, one capture on all devices at once, would show every frame of the host
//! to our filter and let one guest's flood push the others' frames out of the one buffer. Opening and closing wait for the kernel
//! (10 to 30 ms each), so that is done on a few threads for blocking work, never on those of the runtime.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pcap::{Active, Capture};
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
const BUFFER: i32 = 32 << 10;
/// Frames of one guest that are decoded: a burst, then so many a second, as in libvirt.
const BURST: u32 = 50;
const RATE: f64 = 10.0;
/// Whoever sends more is not listened to for so long.
const PAUSE: Duration = Duration::from_millis(100);
/// So many captures are opened or closed at the same time, each on a thread.
const PARALLEL: usize = 32;
/// Frames that wait to be judged.
const QUEUE: usize = 256;

/// Something that a capture has to say.
#[derive(Debug)]
pub enum Heard {
    /// A frame.
    Frame(DeviceName, Utterance),
    /// Nothing more is heard from this device: it is gone, or went down while the capture was opened.
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
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Whether nobody is listened to.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Listens to these guests and to no others: opens what is missing where the tap is there and up, and closes what is no longer wanted,
    /// or belongs to a tap that was made anew under the same name.
    pub fn follow(&mut self, wanted: &BTreeMap<DeviceName, (Mac, Hearing)>, taps: &BTreeMap<DeviceName, Tap>) {
        self.running.retain(|device, running| {
            let same = wanted.get(device) == Some(&(running.mac, running.hearing))
                && taps.get(device).is_some_and(|tap| tap.index == running.index)
                && !running.task.is_finished();
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

/// An open capture; closed on a thread for blocking work when dropped.
struct Ear {
    capture: Option<AsyncFd<Capture<Active>>>,
    permits: Arc<Semaphore>,
}

impl Drop for Ear {
    fn drop(&mut self) {
        let Some(capture) = self.capture.take() else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let capture = capture.into_inner();
        let permits = Arc::clone(&self.permits);
        runtime.spawn(async move {
            let _permit = permits.acquire().await;
            let _ = tokio::task::spawn_blocking(move || drop(capture)).await;
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
    mac: Mac,
    hearing: Hearing,
    sender: mpsc::Sender<Heard>,
    permits: Arc<Semaphore>,
    counts: Arc<Counts>,
}

impl Listening {
    /// Opens a capture and hands on what it hears until the device is gone.
    async fn run(self, opening: Opening) {
        let opened = self.open().await;
        drop(opening);
        let reason = match opened {
            Ok(mut ear) => hear(&mut ear, &self.device, &self.sender, &self.counts).await,
            Err(error) => error.to_string(),
        };
        // Whoever listens may have gone.
        let _ = self.sender.send(Heard::Silence(self.device, reason)).await;
    }

    async fn open(&self) -> Result<Ear, pcap::Error> {
        let (name, mac, hearing) = (self.device.clone(), self.mac, self.hearing);
        let opening = move || {
            let capture = Capture::from_device(name.as_str())?
                .immediate_mode(true)
                .promisc(false)
                .snaplen(hearing.snap_length())
                .buffer_size(BUFFER)
                .open()?;
            let mut capture = capture.setnonblock()?;
            capture.filter(&hearing.program(mac), true)?;
            Ok(capture)
        };
        let capture = {
            let _permit = self.permits.acquire().await;
            tokio::task::spawn_blocking(opening).await.unwrap_or_else(|gone| Err(pcap::Error::PcapError(gone.to_string())))?
        };
        Ok(Ear { capture: Some(register(capture)?), permits: Arc::clone(&self.permits) })
    }
}

/// Has the runtime wake us for frames, and for the end of the device: an error on the descriptor, which is no frame.
#[allow(unsafe_code, reason = "tokio's registration is unsafe by signature; see the argument inside")]
fn register(capture: Capture<Active>) -> Result<AsyncFd<Capture<Active>>, pcap::Error> {
    // SAFETY: the capture owns its descriptor from `open` until it is closed when dropped, always answers `as_raw_fd` with it, and the
    // `AsyncFd` owns the capture.
    let registered = unsafe { AsyncFd::register_with_interest(capture, Interest::READABLE | Interest::ERROR) };
    registered.map_err(|error| pcap::Error::PcapError(error.to_string()))
}

/// Hands on frames; returns why there are no more.
async fn hear(ear: &mut Ear, device: &DeviceName, sender: &mpsc::Sender<Heard>, counts: &Counts) -> String {
    let start = Instant::now();
    let mut bucket = Bucket::full(BURST, RATE);
    let Some(capture) = &mut ear.capture else { return String::new() };
    loop {
        let mut guard = match capture.ready_mut(Interest::READABLE | Interest::ERROR).await {
            Ok(guard) => guard,
            Err(error) => return error.to_string(),
        };
        let decoded = match guard.get_inner_mut().next_packet() {
            Ok(_) if !bucket.take(start.elapsed()) => {
                counts.surplus.fetch_add(1, Ordering::Relaxed);
                drop(guard);
                // The kernel's buffer fills up meanwhile, and then frames are dropped where that costs next to nothing.
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Ok(packet) => frame::decode(packet.data),
            Err(pcap::Error::TimeoutExpired) => {
                guard.clear_ready();
                continue;
            }
            Err(error) => return error.to_string(),
        };
        drop(guard);
        counts.frames.fetch_add(1, Ordering::Relaxed);
        match decoded {
            Ok(Some(utterance)) => {
                if sender.send(Heard::Frame(device.clone(), utterance)).await.is_err() {
                    return "nobody listens any more".to_owned();
                }
            }
            Ok(None) => {}
            Err(frame::Malformed) => {
                counts.malformed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
