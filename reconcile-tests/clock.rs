//! The wall clock jumps under a running daemon: nothing is lost, nothing is deleted, and every change is still followed.
//!
//! libfaketime (Debian package `libfaketime`) gives the daemon and the tools it starts another wall clock; the monotonic one goes on.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::{Daemon, World};

/// A daemon whose wall clock the file `clock` sets, with a network and two guests that are guarded.
struct Jumping {
    world: World,
    daemon: Daemon,
}

impl Jumping {
    fn new() -> Self {
        let world = World::new();
        world.write("lab.xml", NETWORK);
        world.write("web.xml", FILTER);
        world.write("vnet0.xml", &guest(0, "web"));
        world.write("vnet1.xml", &guest(1, "clean-traffic"));
        let (state, clock, library) = (world.state().display().to_string(), world.scratch("clock"), library().display().to_string());
        fs::write(&clock, "+0").expect("the scratch directory takes files");
        let faked = [
            ("BRIDGEWARD_STATE", state.as_str()),
            ("LD_PRELOAD", &library),
            ("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        let mut daemon = world.run_with(&faked, &["--poll", "100ms", "--log-format", "json"]);
        daemon.wait_until("the first pass", || world.in_sync());
        Self { world, daemon }
    }

    /// Sets the daemon's clock so many days from the real one.
    fn jump(&self, days: i64) {
        fs::write(self.world.scratch("clock"), format!("{days:+}d")).expect("the scratch directory takes files");
    }

    /// Flushes, edits, adds and removes; each has to be followed, and what is left is what a fresh look at the files says.
    fn everything_is_followed(&mut self, address: u8) {
        let Self { world, daemon } = self;
        let all = world.save_all();
        world.sh("ebtables -t nat -F; ebtables -t nat -X; iptables -F");
        daemon.wait_until("the repair", || world.save_all() == all);
        let words = format!("--ip-src 10.40.0.{address} -j RETURN");
        world.write("vnet1.xml", &guest(1, "clean-traffic").replace("10.40.0.11", &format!("10.40.0.{address}")));
        daemon.wait_until("the edit", || world.save("ebtables").contains(&words));
        world.write("vnet2.xml", &guest(2, "clean-traffic"));
        daemon.wait_until("the new guest", || world.save("ebtables").contains("I-vnet2"));
        world.delete("vnet2.xml");
        daemon.wait_until("the removal", || !world.save("ebtables").contains("vnet2"));
        world.assert_in_sync();
    }

    /// Whether the daemon has logged, since it had said so much, a line dated so many days ago.
    fn dated_days_ago(&self, said: usize, days: u64) -> bool {
        let day = humantime::format_rfc3339_seconds(SystemTime::now() - Duration::from_hours(24 * days)).to_string();
        self.daemon.log()[said..].contains(&day[..10])
    }
}

/// Where Debian puts the library, whatever the architecture.
fn library() -> PathBuf {
    let below = fs::read_dir("/usr/lib").expect("/usr/lib can be read").filter_map(Result::ok);
    below
        .map(|entry| entry.path().join("faketime/libfaketime.so.1"))
        .find(|path| path.exists())
        .expect("libfaketime is installed (Debian package libfaketime)")
}

#[test]
fn a_clock_that_is_set_back_and_ahead_loses_and_deletes_nothing() {
    let mut jumping = Jumping::new();
    let said = jumping.daemon.log().len();
    jumping.jump(-3);
    jumping.everything_is_followed(61);
    assert!(jumping.dated_days_ago(said, 3), "the daemon's clock never jumped:\n{}", jumping.daemon.log());
    jumping.jump(2);
    jumping.everything_is_followed(62);
    jumping.jump(0);
    jumping.everything_is_followed(63);
}

#[test]
fn a_file_that_looks_older_than_the_last_one_counts() {
    let mut jumping = Jumping::new();
    jumping.jump(-3);
    let Jumping { world, daemon } = &mut jumping;
    let path = world.scratch("older.xml");
    fs::write(&path, guest(1, "clean-traffic").replace("10.40.0.11", "10.40.0.71")).expect("the scratch directory takes files");
    let file = fs::File::options().write(true).open(&path).expect("the file is ours");
    file.set_modified(SystemTime::now() - Duration::from_hours(24 * 400)).expect("times can be set");
    fs::rename(&path, world.state().join("vnet1.xml")).expect("one file system");
    daemon.wait_until("the older file", || world.save("ebtables").contains("--ip-src 10.40.0.71 -j RETURN"));
    world.assert_in_sync();
}
