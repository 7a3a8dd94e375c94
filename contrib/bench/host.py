"""A host of its own for every measurement: a network and mount namespace, and hands to run and measure commands in it."""

import ctypes
import os
import pickle
import signal
import socket
import subprocess
import threading
import time

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
NETLINK_NETFILTER, NFNLGRP_NFTABLES, NEW_GENERATION = 12, 7, (10 << 8) | 15
SO_RCVBUFFORCE = 33
TOOLS = ("iptables", "ip6tables", "ebtables")


def on_new_host(work, *arguments):
    """Runs `work` in a process and namespaces of its own; gives what it returns."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            os.setpgid(0, 0)
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
                raise OSError(ctypes.get_errno(), "no namespace can be made: run this as root")
            for command in ("mount --make-rprivate /", "mount -t tmpfs tmpfs /run", "ip link set lo up"):
                subprocess.run(command.split(), check=True)
            result = work(*arguments)
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(result, pipe)
            status = 0
        except BaseException:  # The parent says that it failed; the child must never run on as a second parent.
            import traceback

            traceback.print_exc()
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise SystemExit("a measurement failed")
    return pickle.loads(answer)


class Measured:
    """One run: wall and CPU time in seconds (its children's included), peak memory in bytes (its own) where it was watched."""

    def __init__(self, wall, cpu, peak=None):
        self.wall, self.cpu, self.peak = wall, cpu, peak


def run(command, stdin=None, stdout=None, watch=False, env=None, good=(0,)):
    """Runs a command; `stdin` and `stdout` are paths."""
    with open(stdin or os.devnull, "rb") as source, open(stdout or os.devnull, "wb") as sink:
        start = time.monotonic()
        process = subprocess.Popen(command, stdin=source, stdout=sink, stderr=subprocess.PIPE if not watch else subprocess.DEVNULL, env=env)
        peak = None
        if watch:
            peak = 0
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                peak = max(peak, high_water(process.pid))
                time.sleep(0.001)
            errors = b""
        else:
            errors = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in good:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}: {errors.decode()}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, peak)


def high_water(pid):
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM")), 0)
    except OSError:
        return 0


def cpu_of(pid):
    """CPU seconds of all threads of a process so far, to the nanosecond."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def save(directory):
    """What the kernel holds, as three files; the tools' own wall and CPU time, one after the other."""
    texts = {tool: os.path.join(directory, f"{tool}.save") for tool in TOOLS}
    return texts, total(run([f"{tool}-save"], stdout=path) for tool, path in texts.items())


def restore(texts):
    """Loads saved rules, one tool after the other."""
    return total(run([f"{tool}-restore"], stdin=path) for tool, path in texts.items())


def total(runs):
    runs = list(runs)
    return Measured(sum(one.wall for one in runs), sum(one.cpu for one in runs))


def shims(directory):
    """Stand-ins for the tools that note every start, and what a restore is fed; first in the search path, they see all that is run."""
    os.makedirs(directory)
    for tool in TOOLS:
        for name in (tool, f"{tool}-save", f"{tool}-restore"):
            real = subprocess.run(["sh", "-c", f"command -v {name}"], check=True, capture_output=True, text=True).stdout.strip()
            feed = f"tee {directory}/fed.$$.{tool} | " if name.endswith("-restore") else ""
            path = os.path.join(directory, name)
            with open(path, "w") as file:
                file.write(f'#!/bin/sh\necho "$$ {name} $*" >>{directory}/log\n{feed}{"" if feed else "exec "}{real} "$@"\n')
            os.chmod(path, 0o755)
    return dict(os.environ, PATH=f"{directory}:{os.environ['PATH']}")


def started(directory):
    """The runs noted so far, first to last, and what each restore was fed; forgets them."""
    path = os.path.join(directory, "log")
    if not os.path.exists(path):
        return [], []
    with open(path) as file:
        runs = [line.split(" ", 2) for line in file.read().splitlines()]
    os.remove(path)
    fed = []
    for pid, name, _ in runs:
        if name.endswith("-restore"):
            tool = name.removesuffix("-restore")
            with open(f"{directory}/fed.{pid}.{tool}") as file:
                fed.append((tool, file.read()))
    return [name for _, name, _ in runs], fed


class Listener:
    """Notes when the kernel announces a change of rules."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        self.socket.bind((0, 1 << (NFNLGRP_NFTABLES - 1)))
        self.heard = []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        head = bytearray(65536)
        while True:
            self.socket.recv_into(head)
            # The announcement is a datagram of its own.
            if int.from_bytes(head[4:6], "little") == NEW_GENERATION:
                self.heard.append(time.monotonic())

    def last_after(self, start, quiet, patience=120):
        """When the last change after `start` was announced, once there was none for `quiet` seconds."""
        limit = time.monotonic() + patience
        while time.monotonic() < limit:
            last = self.heard[-1] if self.heard else 0
            if last > start and time.monotonic() - last > quiet:
                return last
            time.sleep(0.005)
        raise SystemExit("the daemon does nothing")


class Daemon:
    """`bridgeward run` in the background."""

    def __init__(self, command, log, env=None):
        self.log = open(log, "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env)

    def cpu(self):
        """CPU seconds so far, its own and, in hundredths, those of the tools that it ran and that have ended."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            ended = file.read().rpartition(")")[2].split()[13:15]
        return cpu_of(self.process.pid) + sum(int(ticks) for ticks in ended) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.log.close()
