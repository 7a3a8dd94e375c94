//! The network devices of this namespace as a value that is kept up to date, and a bell that rings when it changes.
//!
//! The kernel's messages ring; they are not read. What a message says is ambiguous (a tap that leaves its bridge sends a deletion and lives on, a new master
//! is six messages, a wireless device sends halves; kernel 6.18), what a dump says is not, and a lost message or an overflow costs nothing then.
//! The first message of a burst is answered at once, the rest of it together.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::backend::links::{self, LinksFailure};
use crate::resolve::Link;

/// `RTNLGRP_LINK`
const GROUP: u32 = 1;
/// The devices are listed no more often than this: a host that starts a thousand guests is busy enough.
const SPACING: Duration = Duration::from_millis(20);
/// A listing that failed is tried again after so long.
const AGAIN: Duration = Duration::from_secs(1);

/// All Ethernet devices by interface index. A device that was made anew under its old name has another index; one that was renamed keeps it.
pub type Links = Arc<BTreeMap<u32, Link>>;

/// The listener. It stops when dropped; its receivers then see no more changes.
#[derive(Debug)]
pub struct LinkMonitor {
    links: watch::Receiver<Links>,
    task: tokio::task::JoinHandle<()>,
}

/// Why devices cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum LinkMonitorFailure {
    /// The socket could not be had.
    #[error("cannot listen to network devices: {0}")]
    Listen(#[from] io::Error),
    /// There was no first listing.
    #[error(transparent)]
    List(#[from] LinksFailure),
}

impl LinkMonitor {
    /// Listens to the devices of this network namespace and lists them a first time.
    ///
    /// # Errors
    /// When the kernel lets us neither listen nor list.
    pub async fn new() -> Result<Self, LinkMonitorFailure> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_ref().add_membership(GROUP)?;
        // Listening first: what comes or goes from here on rings.
        let (sender, links) = watch::channel(Arc::new(links::by_index().await?));
        let task = tokio::spawn(follow(socket, sender));
        Ok(Self { links, task })
    }

    /// Waits until they change; for ever, if they are no longer heard of.
    pub async fn changed(&mut self) {
        if self.links.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The devices now.
    pub fn links(&self) -> Links {
        Arc::clone(&self.links.borrow())
    }

    /// The devices now, and whenever they have changed, for one more listener.
    pub fn subscribe(&self) -> watch::Receiver<Links> {
        self.links.clone()
    }
}

impl Drop for LinkMonitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(socket: TokioSocket, sender: watch::Sender<Links>) {
    let mut again = false;
    while again || rings(&socket).await {
        let listed = links::by_index().await;
        again = listed.is_err();
        let pause = if again { AGAIN } else { SPACING };
        match listed {
            Ok(now) => publish(&sender, now),
            Err(error) => tracing::warn!(%error, "devices that came or went are seen later"),
        }
        // Emptied meanwhile, so that a storm of messages does not overflow; whatever it was about, one more listing answers all of it.
        let next = Instant::now() + pause;
        while let Ok(rung) = timeout_at(next, rings(&socket)).await {
            if !rung {
                return;
            }
            again = true;
        }
    }
}

fn publish(sender: &watch::Sender<Links>, now: BTreeMap<u32, Link>) {
    sender.send_if_modified(|links| {
        let changed = **links != now;
        if changed {
            *links = Arc::new(now);
        }
        changed
    });
}

/// Waits for a message; false when there will be no more.
async fn rings(socket: &TokioSocket) -> bool {
    match socket.recv_from_full().await {
        // ENOBUFS: messages are lost, so something happened.
        Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => {
            tracing::warn!(%error, "new devices are no longer heard of; they are seen at the next poll");
            false
        }
        _ => true,
    }
}
