//! What a long command is doing right now, on a line of its own that goes when it is done.
//!
//! Only on a terminal, and only when a step takes longer than anybody would wait without asking; a pipe and a log never see it.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Steps that are shorter are not mentioned.
const PATIENCE: Duration = Duration::from_millis(400);
const EVERY: Duration = Duration::from_millis(100);

/// A step in progress; dropping it ends the step and clears the line.
#[derive(Debug)]
pub struct Step {
    /// Dropped first: that is what ends the thread.
    end: Option<Sender<()>>,
    line: Option<JoinHandle<()>>,
}

/// Begins a step; `what` says what is being done.
pub fn step(what: &'static str) -> Step {
    if !io::stderr().is_terminal() {
        return Step { end: None, line: None };
    }
    let (end, ended) = mpsc::channel::<()>();
    let began = Instant::now();
    let line = thread::spawn(move || {
        let mut wait = PATIENCE;
        let mut shown = false;
        while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            (wait, shown) = (EVERY, true);
            let mut stderr = io::stderr().lock();
            // Nothing is left to do when stderr itself is gone.
            let _ = write!(stderr, "\r\x1b[K{what} ... {:.1} s", began.elapsed().as_secs_f64()).and_then(|()| stderr.flush());
        }
        if shown {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    });
    Step { end: Some(end), line: Some(line) }
}

impl Drop for Step {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(line) = self.line.take() {
            let _ = line.join();
        }
    }
}
