//! A doorbell for the kernel's rules: somebody committed an nf_tables transaction, and this is who.
//!
//! The kernel's group wakes us about 2 ms after a commit, before the tool that made it has exited (kernel 6.18). What was changed is not looked
//! at here: the next pass reads the rules. Legacy tools ring no bell; for them there is the poll.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use tokio::sync::Notify;

use crate::backend::generation::{Generation, generations};

/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;
/// A large commit announces every rule; what does not fit is lost, which is noticed.
const BUFFER: usize = 32 << 20;
/// So many transactions are remembered between two passes; of more, the first ones.
const MOST: usize = 256;

/// The listener. It stops when dropped.
#[derive(Debug)]
pub struct Monitor {
    news: Arc<Mutex<News>>,
    task: tokio::task::JoinHandle<()>,
}

/// What was heard since the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Transactions, first to last.
    pub generations: Vec<Generation>,
    /// True when more happened than could be heard: anything may have changed.
    pub overflow: bool,
}

impl Monitor {
    /// Listens in this network namespace and rings `bell` at every transaction.
    ///
    /// # Errors
    /// When the kernel has no nf_tables, or we may not listen.
    pub fn new(bell: Arc<Notify>) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        // Without the privilege to exceed the host's limit the limit has to do.
        let _ = set_socket_recv_buffer_size_force(socket.socket_ref(), BUFFER);
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_ref().add_membership(GROUP)?;
        let news = Arc::new(Mutex::new(News::default()));
        let task = tokio::spawn(listen(socket, Arc::clone(&news), bell));
        Ok(Self { news, task })
    }

    /// What was heard since the last call.
    pub fn take(&self) -> News {
        std::mem::take(&mut *lock(&self.news))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(socket: TokioSocket, news: Arc<Mutex<News>>, bell: Arc<Notify>) {
    loop {
        match socket.recv_from_full().await {
            Ok((datagram, _)) => {
                let heard = generations(&datagram);
                if heard.is_empty() {
                    continue;
                }
                let mut news = lock(&news);
                let room = MOST.saturating_sub(news.generations.len());
                news.generations.extend(heard.into_iter().take(room));
            }
            Err(error) => {
                // ENOBUFS: the socket lives on, but messages are lost. Anything else would come again at once.
                lock(&news).overflow = true;
                if error.raw_os_error() != Some(libc::ENOBUFS) {
                    tracing::warn!(%error, "rule changes are no longer heard; they are seen at the next poll");
                    bell.notify_one();
                    return;
                }
            }
        }
        bell.notify_one();
    }
}

/// No code panics while it holds this lock, and a list is a list even if some did.
fn lock(news: &Mutex<News>) -> std::sync::MutexGuard<'_, News> {
    news.lock().unwrap_or_else(PoisonError::into_inner)
}
