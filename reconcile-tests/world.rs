//! One case's own world: a network and mount namespace, a state directory, and hands to act in it.
//!
//! The namespaces belong to a child that waits on its standard input, so they vanish with the test process however that ends.
//! Nothing is mocked and nothing is skipped: where the kernel or a tool is missing, the case fails and says what to install.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a condition may take to come true; generous, because tests judge what happens and not how fast.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes the namespace private: own mounts, own `/run` (records, locks), own learned addresses, a loopback device that is up.
const SET_UP: &str = "set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /var/lib/bridgeward
mount -t tmpfs -o mode=0700 tmpfs /var/lib/bridgeward
ip link set lo up
";

/// A libvirtd that knows nothing but its stock filters, with all its files in this namespace.
const START_LIBVIRT: &str = "
command -v libvirtd virtlogd virsh dnsmasq qemu-system-x86_64 >/dev/null || {
  echo 'a real libvirtd is needed: install libvirt-daemon-system libvirt-clients qemu-system-x86 dnsmasq-base'
  exit 1
}
cp -a /etc/libvirt libvirt-etc
rm -rf libvirt-etc/qemu/networks libvirt-etc/qemu/autostart
mount --bind libvirt-etc /etc/libvirt
for directory in lib log cache; do
  mkdir -p /var/$directory/libvirt
  mount -t tmpfs tmpfs /var/$directory/libvirt
done
virtlogd >libvirt.log 2>&1 &
libvirtd >>libvirt.log 2>&1 &
# Asked once too often it may fail: libvirtd looks its caller up in /proc, which here shows another process namespace.
answers=
for _ in $(seq 240); do virsh -c qemu:///system nwfilter-list >/dev/null 2>&1 && answers=yes && break; sleep 0.25; done
[ -n \"$answers\" ]
";

/// Says that everything is there, then lives as long as the test holds the other end of standard input.
const STAY: &str = "
echo ready
exec cat";

/// Which iptables and ip6tables stand in the search path; ebtables is the installed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tools {
    /// Those that talk to nf_tables.
    NfTables,
    /// Those that talk to the old tables.
    Legacy,
}

/// A namespace with a state directory.
pub struct World {
    anchor: Child,
    directory: tempfile::TempDir,
    path: String,
}

/// What a command answered, whole.
pub struct Answer {
    /// The command, for messages.
    pub command: String,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Everything it printed.
    pub stdout: String,
    /// Everything it complained about.
    pub stderr: String,
}

/// `bridgeward run`, or another command, in the background; killed when dropped.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

/// A server of a test's own; killed when dropped.
pub struct Server(Child);

impl World {
    /// A new world with the nf_tables variants of the tools.
    pub fn new() -> Self {
        Self::with_tools(Tools::NfTables)
    }

    /// A new world with these variants of iptables and ip6tables.
    pub fn with_tools(tools: Tools) -> Self {
        Self::set_up(tools, SET_UP)
    }

    /// A new world with a real libvirtd in it.
    pub fn with_libvirt() -> Self {
        Self::set_up(Tools::NfTables, &format!("{SET_UP}{START_LIBVIRT}"))
    }

    fn set_up(tools: Tools, script: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("bridgeward-test-").tempdir().expect("a temporary directory can be made");
        fs::create_dir(directory.path().join("state")).expect("the temporary directory is ours");
        let path = tool_path(directory.path(), tools);
        let mut anchor = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", &format!("{script}{STAY}")])
            .current_dir(directory.path())
            .env_clear()
            .env("PATH", &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("`unshare` runs (Debian package util-linux)");
        let mut ready = String::new();
        let stdout = anchor.stdout.take().expect("the anchor's output is piped");
        BufReader::new(stdout).read_line(&mut ready).expect("the anchor's output is text");
        assert_eq!(
            ready.trim(),
            "ready",
            "no world of our own: the tests need root with CAP_SYS_ADMIN and CAP_NET_ADMIN, and the Debian packages util-linux, iproute2, \
             iptables, ebtables and ipset"
        );
        Self { anchor, directory, path }
    }

    /// The directory that bridgeward reads in this world.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// The network namespace that `ip netns add NAME` made in this world, or this world's own without a name.
    pub fn namespace(&self, name: Option<&str>) -> File {
        let anchor = format!("/proc/{}", self.anchor.id());
        let path = name.map_or(format!("{anchor}/ns/net"), |name| format!("{anchor}/root/run/netns/{name}"));
        File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// A path beside the state directory, for logs, plans and saved rules.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a state file as a careful editor does: a temporary file, then a rename over the old one.
    pub fn write(&self, name: &str, text: &str) {
        let file = self.state().join(name);
        let temporary = file.with_extension("new");
        fs::write(&temporary, text).expect("the state directory takes files");
        fs::rename(&temporary, file).expect("a file can be renamed in its directory");
    }

    /// Deletes a state file.
    pub fn delete(&self, name: &str) {
        fs::remove_file(self.state().join(name)).expect("the file to delete is there");
    }

    /// Runs a shell script in this world and returns what it printed; the script has to succeed.
    pub fn sh(&self, script: &str) -> String {
        let answer = self.run_to_end(Command::new("bash").args(["-ec", script]));
        assert_eq!(answer.code, Some(0), "{answer}");
        answer.stdout
    }

    /// Starts a server in this world; its output goes to the file `NAME.log` beside the state directory.
    pub fn serve(&self, name: &str, command: &[&str]) -> Server {
        let log = File::create(self.scratch(&format!("{name}.log"))).expect("the scratch directory takes files");
        let mut server = Command::new(command[0]);
        server.args(&command[1..]);
        let child = self
            .inside(&server)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be cloned"))
            .stderr(log)
            .spawn()
            .expect("`nsenter` runs (Debian package util-linux)");
        Server(child)
    }

    /// Runs bridgeward on this world's state directory.
    pub fn bridgeward(&self, arguments: &[&str]) -> Answer {
        self.bridgeward_with(&[], arguments)
    }

    /// Runs bridgeward with more environment variables.
    pub fn bridgeward_with(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridgeward"));
        command.args(arguments).env("BRIDGEWARD_STATE", self.state()).envs(environment.iter().copied());
        self.run_to_end(&command)
    }

    /// One `apply` that has to succeed.
    pub fn apply(&self) {
        let answer = self.bridgeward(&["apply"]);
        assert_eq!(answer.code, Some(0), "{answer}");
    }

    /// Asserts that the kernel holds what the state directory says.
    pub fn assert_in_sync(&self) {
        let answer = self.bridgeward(&["diff"]);
        assert_eq!(answer.code, Some(0), "{answer}");
    }

    /// True when `diff` finds that the kernel holds what the state directory says.
    pub fn in_sync(&self) -> bool {
        self.bridgeward(&["diff"]).code == Some(0)
    }

    /// Starts `bridgeward run` on this world's state directory.
    pub fn run(&self, arguments: &[&str]) -> Daemon {
        let state = self.state().display().to_string();
        self.run_with(&[("BRIDGEWARD_STATE", &state)], arguments)
    }

    /// The root directory of this world, seen from outside.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.anchor.id()))
    }

    /// Starts `bridgeward run` with these environment variables alone.
    pub fn run_with(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridgeward"));
        command.arg("run").args(arguments).envs(environment.iter().copied());
        self.run_command(&command)
    }

    /// Starts any command of bridgeward in the background on this world's state directory.
    pub fn start(&self, arguments: &[&str]) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridgeward"));
        command.args(arguments).env("BRIDGEWARD_STATE", self.state());
        self.run_command(&command)
    }

    /// Starts a command that comes to a daemon.
    pub fn run_command(&self, command: &Command) -> Daemon {
        let log = self.scratch("run.log");
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("the scratch directory takes files");
        let child = self
            .inside(command)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file handle can be cloned"))
            .stderr(file)
            .spawn()
            .expect("`nsenter` runs (Debian package util-linux)");
        Daemon { child, log }
    }

    /// Starts a shell in this world that reads commands from its standard input and says everything to this file; its descendants are a process group of their own.
    pub fn shell(&self, log: &Path) -> Child {
        let file = File::create(log).expect("the scratch directory takes files");
        let copy = file.try_clone().expect("a file handle can be cloned");
        let mut command = self.inside(&Command::new("bash"));
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(copy)
            .stderr(file)
            .spawn()
            .expect("`nsenter` runs (Debian package util-linux)")
    }

    /// The rules of one tool, without counters: the words of `TOOL-save`, its comments left out.
    pub fn save(&self, tool: &str) -> String {
        let text = self.sh(&format!("{tool}-save"));
        text.lines().filter(|line| !line.starts_with('#')).fold(String::new(), |all, line| all + line + "\n")
    }

    /// The rules of all three tools.
    pub fn save_all(&self) -> String {
        ["iptables", "ip6tables", "ebtables"].iter().fold(String::new(), |all, tool| all + &format!("# {tool}\n") + &self.save(tool))
    }

    /// Runs a command in this world to its end.
    pub fn run_to_end(&self, command: &Command) -> Answer {
        let words = format!("{command:?}");
        let Output { status, stdout, stderr } =
            self.inside(command).stdin(Stdio::null()).output().expect("`nsenter` runs (Debian package util-linux)");
        Answer {
            command: words,
            code: status.code(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// The same command inside this world's namespaces, its environment cleared but for what it sets itself.
    fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside
            .args(["--target", &self.anchor.id().to_string(), "--net", "--mount"])
            .arg(format!("--wd={}", self.directory.path().display()))
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.directory.path())
            .env("LC_ALL", "C.UTF-8")
            .env("COLUMNS", "140")
            .env("NO_COLOR", "1")
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.anchor.kill();
        let _ = self.anchor.wait();
    }
}

impl Daemon {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
        kill_process(id, signal).expect("the daemon is our child and has not been waited for");
    }

    /// Sends a signal and returns the exit code that follows, `None` when the signal ended the process.
    pub fn end(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.child.wait().expect("the daemon is our child").code()
    }

    /// Waits until the process ends by itself.
    pub fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the daemon is our child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the daemon still runs after {PATIENCE:?}:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log file is ours")
    }

    /// Waits until the daemon has said this.
    pub fn wait_until_log(&mut self, words: &str) {
        self.wait_until_log_from(0, words);
    }

    /// Waits until the daemon has said this after the first so many bytes of its log.
    pub fn wait_until_log_from(&mut self, said: usize, words: &str) {
        let log = self.log.clone();
        self.wait_until(words, || fs::read_to_string(&log).expect("the log file is ours")[said..].contains(words));
    }

    /// Waits until a condition holds; the daemon's log is in the message if it never does, or if the daemon ends meanwhile.
    pub fn wait_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            let ended = self.child.try_wait().expect("the daemon is our child");
            assert!(ended.is_none(), "the daemon ended ({ended:?}) while the test waited for: {what}\n{}", self.log());
            assert!(Instant::now() < deadline, "did not happen in {PATIENCE:?}: {what}\n{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("the server is our child").is_some()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "$ {command}\n{stdout}[stderr]\n{stderr}[exit code: {code:?}]")
    }
}

/// A search path whose first directory holds the wanted variants under their plain names: the tools look at the name they are
/// called by.
fn tool_path(directory: &Path, tools: Tools) -> String {
    let system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let variant = match tools {
        Tools::NfTables => "nft",
        Tools::Legacy => "legacy",
    };
    let binary = format!("/usr/sbin/xtables-{variant}-multi");
    assert!(Path::new(&binary).exists(), "{binary} is missing: install the Debian package iptables");
    let front = directory.join("tools");
    fs::create_dir(&front).expect("the temporary directory is ours");
    for family in ["iptables", "ip6tables"] {
        for part in ["", "-save", "-restore"] {
            std::os::unix::fs::symlink(&binary, front.join(format!("{family}{part}"))).expect("the directory takes links");
        }
    }
    format!("{}:{system}", front.display())
}
