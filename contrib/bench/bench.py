#!/usr/bin/env python3
"""Measures bridgeward beside the tools that it uses: `make bench`.

Every figure stands beside the raw `*-restore` and `*-save` of the same text in the same run, on a host of its own (network and mount namespaces), and is the
median of several runs. Needs root, iptables, ip6tables and ebtables (nf_tables variants), python3 and nothing else; with --libvirt, also libvirtd and virsh.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time

import host
import libvirt
import report
import state

# What the daemon waits for before it acts, which no figure contains: files have to be quiet (the configuration's `settle`), rules as well.
FILES_SETTLE, RULES_SETTLE = 0.075, 0.050
QUIET = 0.6


class Bench:
    """The state of so many guests, and where it is measured."""

    def __init__(self, program, guests, scratch):
        self.program, self.guests, self.scratch = program, guests, scratch
        self.state = os.path.join(scratch, "state")
        self.saved = os.path.join(scratch, "saved")
        for path in (self.state, self.saved):
            os.makedirs(path)
        state.write(self.state, guests)

    def command(self, *words):
        return [self.program, "--state", self.state, *words]

    def on_fresh_host(self):
        """Commands that end, one after the other on a host that holds nothing."""
        found = {"cold apply": host.run(self.command("apply")), "verifying apply": host.run(self.command("apply"))}
        found["render"] = host.run(self.command("render"))
        found["diff"] = host.run(self.command("diff"))
        self.texts, found["raw save"] = host.save(self.saved)
        return found, self.texts

    def raw_restore(self):
        return host.restore(self.texts)

    def watched(self):
        """Memory and processes of a cold apply; watching costs time, so nothing else is taken from this run."""
        shims = os.path.join(self.scratch, "shims-cold")
        cold = host.run(self.command("apply"), watch=True, env=host.shims(shims))
        return cold.peak, len(host.started(shims)[0])

    def with_daemon(self, runs):
        """What the daemon does about changes, once in a while with shims that note what it feeds to which tool."""
        host.restore(self.texts)
        host.run(self.command("apply"), good=(0, 1))
        listener = host.Listener()
        shims = os.path.join(self.scratch, "shims-run")
        found, fed = {}, {}
        for noted in (True, False):
            log = os.path.join(self.scratch, "run.log")
            env = host.shims(shims) if noted else None
            daemon = host.Daemon(self.command("run"), log, env)
            self.settle_down(daemon)
            for change in self.changes():
                for number in range(1 if noted else runs):
                    for name, path, text in change:
                        host.started(shims)
                        taken = self.change(listener, path, text)
                        if noted:
                            fed[name] = host.started(shims)[1]
                        else:
                            found.setdefault(name, []).append(taken)
                        self.settle_down(daemon)
            if not noted:
                found["flush to restored"] = [self.flush(listener, daemon) for _ in range(runs)]
            daemon.stop()
        found["idle"] = self.idle()
        return found, fed

    def settle_down(self, daemon):
        """Has the daemon do a full pass, after which nothing is left to be done or to be read."""
        for _ in range(200):
            if subprocess.run(self.command("apply"), capture_output=True).returncode in (0, 1) and daemon.process.poll() is None:
                break
            time.sleep(0.05)
        time.sleep(0.2)

    def changes(self):
        new = state.guest_path(self.state, self.guests)
        some = state.guest_path(self.state, self.guests // 2 + 1)
        redefined = os.path.join(self.state, "filters", "no-ip-spoofing.xml")
        number = self.guests // 2 + 1
        return [
            [("guest added", new, state.guest(self.guests)), ("guest removed", new, None)],
            [("guest changed", some, state.guest(number, "10.199.0.1")), ("guest changed back", some, state.guest(number))],
            [("filter redefined", redefined, state.REDEFINED), ("filter back", redefined, None)],
        ]

    def change(self, listener, path, text):
        """From the change of a file to the commit, less the time that files have to be quiet."""
        start = time.monotonic()
        if text is None:
            os.remove(path)
        else:
            state.put(path, text)
        return listener.last_after(start, QUIET) - start - FILES_SETTLE

    def flush(self, listener, daemon):
        """From the last commit of a flush of every table to the last commit of the repair, less the time that rules have to be quiet."""
        empty = os.path.join(self.scratch, "empty")
        tables = {"iptables": ("mangle", "nat", "filter"), "ip6tables": ("mangle", "nat", "filter"), "ebtables": ("nat",)}
        for tool, names in tables.items():
            with open(f"{empty}.{tool}", "w") as file:
                file.write("".join(f"*{name}\nCOMMIT\n" for name in names))
        flushes = [subprocess.Popen([f"{tool}-restore"], stdin=open(f"{empty}.{tool}"), stderr=subprocess.DEVNULL) for tool in tables]
        for one in flushes:
            one.wait()
        start = listener.heard[-1]
        taken = listener.last_after(start + 0.001, QUIET) - start - RULES_SETTLE
        self.settle_down(daemon)
        return taken

    def idle(self):
        """CPU seconds of one look at a host where nothing happened: fifty looks in five seconds."""
        daemon = host.Daemon(self.command("run", "--poll", "100ms"), os.path.join(self.scratch, "idle.log"))
        self.settle_down(daemon)
        time.sleep(4)
        before = host.cpu_of(daemon.process.pid)
        time.sleep(5)
        taken = (host.cpu_of(daemon.process.pid) - before) / 50
        daemon.stop()
        return taken

    def raw_deltas(self, fed, runs):
        """The same edits by the raw tools, one family after the other."""
        host.restore(self.texts)
        listener = host.Listener()
        found = {}
        for _ in range(runs):
            for name in ("guest added", "guest removed", "guest changed", "guest changed back", "filter redefined", "filter back"):
                runs_of = []
                for number, (tool, text) in enumerate(fed[name]):
                    path = os.path.join(self.scratch, f"delta.{number}")
                    with open(path, "w") as file:
                        file.write(text)
                    runs_of.append(host.run([f"{tool}-restore", "--noflush"], stdin=path))
                found.setdefault(name, []).append(sum(one.wall for one in runs_of))
        del listener
        return found


def measure(program, guests, runs):
    """All figures of one size."""
    scratch = tempfile.mkdtemp(prefix="bridgeward-bench-")
    try:
        bench = Bench(program, guests, scratch)
        taken, raw = {}, []
        for number in range(runs):
            print(f"{guests} guests, run {number + 1} of {runs}", flush=True)
            found, bench.texts = host.on_new_host(bench.on_fresh_host)
            found["raw restore"] = host.on_new_host(bench.raw_restore)
            for name, one in found.items():
                taken.setdefault(name, []).append(one)
        peak, processes = host.on_new_host(bench.watched)
        found, fed = host.on_new_host(bench.with_daemon, runs)
        deltas = host.on_new_host(bench.raw_deltas, fed, runs)
        idle = found.pop("idle")
        with open(bench.texts["ebtables"]) as file:
            rules = sum(line.startswith("-A") for line in file)
        return {
            "guests": guests,
            "ebtables_rules": rules,
            "wall": {name: statistics.median(one.wall for one in several) for name, several in taken.items()},
            "cpu": {name: statistics.median(one.cpu for one in several) for name, several in taken.items()},
            "reaction": {name: statistics.median(several) for name, several in found.items()},
            "raw_delta": {name: statistics.median(several) for name, several in deltas.items()},
            "idle_cpu": idle,
            "cold_peak_bytes": peak,
            "cold_processes": processes,
            "processes": {name: len(edits) for name, edits in fed.items()},
        }
    finally:
        shutil.rmtree(scratch)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--program", default="target/release/bridgeward")
    options.add_argument("--guests", default="100,1000,3000", help="sizes, separated by commas")
    options.add_argument("--runs", type=int, default=5, help="how often; the median counts")
    options.add_argument("--out", default="target/bench")
    options.add_argument("--libvirt", action="store_true", help="the same guests through a real libvirtd as well (20 of them)")
    options = options.parse_args()
    program = os.path.abspath(options.program)
    sizes = [measure(program, int(size), options.runs) for size in options.guests.split(",")]
    beside = host.on_new_host(libvirt.measure, program, 20) if options.libvirt else None
    report.write(options.out, {"machine": report.machine(), "runs": options.runs, "sizes": sizes, "libvirt": beside})


if __name__ == "__main__":
    main()
