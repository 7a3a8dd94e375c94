//! A network namespace for code that runs inside the test process itself (`world` is for the whole program).
//!
//! A namespace belongs to a thread, and the processes and threads that it starts inherit it. So the code under test gets a thread of its own, with a runtime that
//! stays on it.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Runs `body` in a fresh network namespace with its own empty `/run` (the legacy tools' lock lies there), and hands back what it returns or panics with.
pub fn in_new_namespace<T: Send + 'static>(body: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(move || {
        enter();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        runtime.block_on(body())
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs `body` on a thread inside an existing network namespace; what it opens stays there.
pub fn inside<T: Send>(namespace: &File, body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let moved = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
            moved.expect("entering a namespace needs root with CAP_SYS_ADMIN");
            body()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a shell script in the namespace of the calling thread; it must succeed.
pub fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().expect("`sh` runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the tools print ASCII")
}

#[allow(unsafe_code, reason = "there is no safe call that gives one thread a namespace of its own")]
fn enter() {
    // SAFETY: the call is unsafe for `UnshareFlags::FILES` alone, which takes descriptors away from the thread; it is not used here.
    let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) };
    unshared.expect("a test needs a namespace, and that needs root with CAP_SYS_ADMIN");
    sh("mount --make-rprivate / && mount -t tmpfs tmpfs /run && ip link set lo up");
}
