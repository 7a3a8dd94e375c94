//! A doorbell for the kernel's rules: somebody committed an nf_tables transaction, this is who, and these are the chains that it touched.
//!
//! The kernel's group wakes us about 2 ms after a commit, before the tool that made it has exited (kernel 6.18). What a chain holds now is not
//! looked at here: a pass reads the rules. Legacy tools ring no bell; for them there is the poll.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use tokio::sync::Notify;

use super::transaction::{Reader, Transaction};

/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;
/// A large commit announces every rule; what does not fit is lost, which is noticed.
const BUFFER: usize = 32 << 20;
/// So many transactions are remembered between two looks; when more come, that counts as an overflow.
const MOST: usize = 1024;

/// The listener. It stops when dropped.
#[derive(Debug)]
pub struct RuleMonitor {
    news: Arc<Mutex<News>>,
    task: tokio::task::JoinHandle<()>,
}

/// What was heard since the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Transactions of anybody, ours among them, first to last.
    pub transactions: Vec<Transaction>,
    /// True when more happened than could be heard: anything may have changed.
    pub overflow: bool,
}

impl RuleMonitor {
    /// Listens in this network namespace and rings `bell` at every transaction.
    ///
    /// # Errors
    /// When the kernel has no nf_tables, or we may not listen.
    pub fn new(bell: Arc<Notify>) -> io::Result<Self> {
        Self::with_buffer(bell, BUFFER)
    }

    /// The same with a receive buffer of so many bytes, for those who want it to overflow.
    ///
    /// # Errors
    /// As [`RuleMonitor::new`].
    pub fn with_buffer(bell: Arc<Notify>, bytes: usize) -> io::Result<Self> {
        let socket = open(bytes)?;
        let news = Arc::new(Mutex::new(News::default()));
        let task = tokio::spawn(listen(socket, bytes, Arc::clone(&news), bell));
        Ok(Self { news, task })
    }

    /// What was heard since the last call.
    pub fn take(&self) -> News {
        std::mem::take(&mut *lock(&self.news))
    }

    /// Of what was heard, the transactions up to this generation. The number may wrap around.
    pub fn take_through(&self, generation: u32) -> Vec<Transaction> {
        let mut news = lock(&self.news);
        let later = |transaction: &Transaction| younger(transaction.generation, generation);
        let (rest, through) = std::mem::take(&mut news.transactions).into_iter().partition(later);
        news.transactions = rest;
        through
    }
}

/// Whether one generation is younger than another; the number may wrap around.
pub fn younger(generation: u32, than: u32) -> bool {
    generation.wrapping_sub(than).cast_signed() > 0
}

impl Drop for RuleMonitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn open(bytes: usize) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    // Without the privilege to exceed the host's limit the limit has to do.
    let _ =
        set_socket_recv_buffer_size_force(socket.socket_ref(), bytes).or_else(|_| set_socket_recv_buffer_size(socket.socket_ref(), bytes));
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    socket.socket_ref().add_membership(GROUP)?;
    Ok(socket)
}

async fn listen(mut socket: TokioSocket, bytes: usize, news: Arc<Mutex<News>>, bell: Arc<Notify>) {
    let mut reader = Reader::default();
    loop {
        match socket.recv_from_full().await {
            Ok((datagram, _)) => {
                let heard = reader.read(&datagram);
                if heard.is_empty() {
                    continue;
                }
                let mut news = lock(&news);
                let room = MOST.saturating_sub(news.transactions.len());
                news.overflow |= heard.len() > room;
                news.transactions.extend(heard.into_iter().take(room));
            }
            Err(error) => {
                // ENOBUFS: messages are lost, and until the last of those that wait has been read the kernel goes on losing new ones without another
                // word. A new socket loses none; whoever hears the bell looks at what was before it. Any other error would come again at once.
                let fresh = if error.raw_os_error() == Some(libc::ENOBUFS) { open(bytes) } else { Err(error) };
                reader = Reader::default();
                let fresh = fresh.map(|fresh| socket = fresh);
                lock(&news).overflow = true;
                if let Err(error) = fresh {
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
fn lock(news: &Mutex<News>) -> MutexGuard<'_, News> {
    news.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_ordered_across_their_wrap() {
        assert!(younger(2, 1) && !younger(1, 1) && !younger(1, 2));
        assert!(younger(0, u32::MAX) && younger(5, u32::MAX - 5) && !younger(u32::MAX, 3));
    }
}
