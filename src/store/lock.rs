//! One writer per network namespace: `lock` is held during a pass, `run.lock` for a daemon's life.
//!
//! Both are `flock`s: the kernel releases them when their holder dies, however it dies, and no stale file can keep anybody out. The files themselves are
//! never removed: a lock on a removed file excludes nobody.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::time::{Duration, Instant};

use rustix::fs::{self, Mode, OFlags};

use super::{Store, StoreFailure};

const WRITE_LOCK: &str = "lock";
const RUN_LOCK: &str = "run.lock";

/// How often a taken lock is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// How long [`Store::daemon`] gives [`Store::lock_as_daemon`] to write its process id down, which takes microseconds.
const GLANCE: Duration = Duration::from_millis(300);

/// How long [`Store::lock_as_daemon`] waits for one that was killed to be gone.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// The writer's lock; released when dropped.
#[derive(Debug)]
pub struct WriteLock {
    _file: File,
}

/// The daemon's lock, held for its life; released when dropped.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl Store {
    /// Takes the lock that every writer of rules holds during a pass. Blocking: waits at most `limit`.
    ///
    /// # Errors
    /// When somebody else keeps it.
    pub fn lock(&self, limit: Duration) -> Result<WriteLock, StoreFailure> {
        let file = self.open_lock(WRITE_LOCK)?;
        match wait_for(limit, || taken(file.try_lock())).map_err(|source| self.failure("lock", WRITE_LOCK, source))? {
            Some(()) => Ok(WriteLock { _file: file }),
            None => Err(StoreFailure::Locked { path: self.path.join(WRITE_LOCK), waited: limit }),
        }
    }

    /// Takes the daemon's lock and writes our process id into it.
    ///
    /// # Errors
    /// When a daemon runs already.
    pub fn lock_as_daemon(&self) -> Result<RunLock, StoreFailure> {
        let mut file = self.open_lock(RUN_LOCK)?;
        // Not at once: `daemon` holds the lock for as long as it takes to look, and the child of a daemon that was killed while it started a tool until it is the tool.
        match wait_for(LAST_BREATH, || taken(file.try_lock())).map_err(|source| self.failure("lock", RUN_LOCK, source))? {
            Some(()) => {}
            None => return Err(StoreFailure::Running { pid: read_pid(&mut file).ok().flatten() }),
        }
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|source| self.failure("write", RUN_LOCK, source))?;
        Ok(RunLock { _file: file })
    }

    /// The process id of the daemon that runs in this namespace, if one does; as that process sees itself.
    ///
    /// # Errors
    /// When its lock file cannot be read, or somebody keeps the lock without saying who.
    pub fn daemon(&self) -> Result<Option<u32>, StoreFailure> {
        let mut file = self.open_lock(RUN_LOCK)?;
        let look = || match taken(file.try_lock_shared())? {
            // Free: nobody is a daemon, whatever the file says.
            Some(()) => file.unlock().map(|()| Some(None)),
            None => Ok(read_pid(&mut file)?.map(Some)),
        };
        match wait_for(GLANCE, look).map_err(|source| self.failure("read", RUN_LOCK, source))? {
            Some(answer) => Ok(answer),
            None => Err(StoreFailure::Running { pid: None }),
        }
    }

    fn open_lock(&self, name: &str) -> Result<File, StoreFailure> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR);
        Ok(file.map_err(|errno| self.failure("open", name, errno.into()))?.into())
    }
}

/// Asks until there is an answer, at most for `limit`, and at least once. Polling, for a blocking `flock` can be ended by a signal only.
fn wait_for<T>(limit: Duration, mut ask: impl FnMut() -> io::Result<Option<T>>) -> io::Result<Option<T>> {
    let start = Instant::now();
    loop {
        let answer = ask()?;
        let left = limit.saturating_sub(start.elapsed());
        if answer.is_some() || left.is_zero() {
            return Ok(answer);
        }
        std::thread::sleep(PAUSE.min(left));
    }
}

fn taken(attempt: Result<(), TryLockError>) -> io::Result<Option<()>> {
    match attempt {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The process id in a lock file; `None` while its owner is writing it, which a missing line end shows.
fn read_pid(file: &mut File) -> io::Result<Option<u32>> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text.strip_suffix('\n').and_then(|pid| pid.parse().ok()))
}
