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
        # Files to plan against nothing, and not a word of it printed: everything of a cold apply that is neither a tool's nor the kernel's.
        found["pure half"] = host.run(self.command("diff", "--stat", *self.nothing_observed()), good=(1,))
        self.texts, found["raw save"] = host.save(self.saved)
        return found, self.texts

    def nothing_observed(self):
        """What the tools print of a kernel without rules."""
        directory = os.path.join(self.scratch, "nothing")
        os.makedirs(directory, exist_ok=True)
        host.on_new_host(host.save, directory)
        return [f"--observed={os.path.join(directory, tool)}.save" for tool in host.TOOLS]

    def raw_restore(self):
        return host.restore(self.texts)

    def watched(self):
        """Memory and processes of a cold apply and of a verifying pass; watching costs time, so nothing else is taken from this run."""
        shims = os.path.join(self.scratch, "shims-cold")
        env = host.shims(shims)
        found = {}
        for name in ("cold apply", "verifying apply"):
            peak = host.run(self.command("apply"), watch=True, env=env).peak
            found[name] = {"peak": peak, "processes": len(host.started(shims)[0])}
        return found

    def watched_raw(self):
        """Memory of the largest raw restore, and of the largest raw save."""
        restores = [host.run([f"{tool}-restore"], stdin=path, watch=True).peak for tool, path in self.texts.items()]
        return {"raw restore": max(restores), "raw save": max(host.run([f"{tool}-save"], watch=True).peak for tool in self.texts)}

    def with_daemon(self, runs):
        """What the daemon does about changes: first one of each kind with shims that note what it runs, then all of them without."""
        host.restore(self.texts)
        host.run(self.command("apply"), good=(0, 1))
        listener = host.Listener()
        shims = os.path.join(self.scratch, "shims-run")
        wall, cpu, fed, processes = {}, {}, {}, {}
        for noted in (True, False):
            log = os.path.join(self.scratch, "run.log")
            env = host.shims(shims) if noted else None
            daemon = host.Daemon(self.command("run"), log, env)
            self.settle_down(daemon)
            for change in self.changes():
                for _ in range(1 if noted else runs):
                    for name, path, text in change:
                        host.started(shims)
                        before = daemon.cpu()
                        taken = self.change(listener, path, text)
                        if noted:
                            started, fed[name] = host.started(shims)
                            processes[name] = len(started)
                        else:
                            wall.setdefault(name, []).append(taken)
                            cpu.setdefault(name, []).append(daemon.cpu() - before)
                        self.settle_down(daemon)
            if not noted:
                wall["flush to restored"] = [self.flush(listener, daemon) for _ in range(runs)]
                peak = host.high_water(daemon.process.pid)
            daemon.stop()
        return {"wall": wall, "cpu": cpu, "fed": fed, "processes": processes, "peak": peak, "idle": self.idle()}

    def settle_down(self, daemon):
        """Has the daemon do a full pass, after which nothing is left to be done or to be read."""
        # Before it listens, `apply` would do a pass of its own and the daemon's first one would still be under way.
        for command in ("status", "apply"):
            for _ in range(2400):
                if subprocess.run(self.command(command), capture_output=True).returncode in (0, 1):
                    break
                if daemon.process.poll() is not None:
                    raise SystemExit("the daemon ended")
                time.sleep(0.05)
        time.sleep(0.2)

    def changes(self):
        # Both on clean-traffic alone.
        last, middle = self.guests + 1, self.guests // 2 + 1
        new, some = (state.guest_path(self.state, number) for number in (last, middle))
        redefined = os.path.join(self.state, "filters", "no-ip-spoofing.xml")
        return [
            [("guest added", new, state.guest(last)), ("guest removed", new, None)],
            [("guest changed", some, state.guest(middle, "10.199.0.1")), ("guest changed back", some, state.guest(middle))],
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
        # The families are committed at the same time, and one can take a second longer than the others: it is over when the pass is.
        listener.last_after(start + 0.001, QUIET)
        self.settle_down(daemon)
        return listener.heard[-1] - start - RULES_SETTLE

    def idle(self):
        """CPU seconds of one look at a host where nothing happened, of fifty in five seconds, and the processes that all of them started."""
        shims = os.path.join(self.scratch, "shims-idle")
        daemon = host.Daemon(self.command("run", "--poll", "100ms"), os.path.join(self.scratch, "idle.log"), host.shims(shims))
        self.settle_down(daemon)
        # Files count as settled three seconds after their last change.
        time.sleep(4)
        host.started(shims)
        before = host.cpu_of(daemon.process.pid)
        time.sleep(5)
        taken = (host.cpu_of(daemon.process.pid) - before) / 50
        processes = len(host.started(shims)[0])
        daemon.stop()
        return {"cpu": taken, "processes": processes}

    def raw_deltas(self, fed, runs):
        """The same edits by the raw tools, one family after the other."""
        host.restore(self.texts)
        found = {}
        for _ in range(runs):
            for name in ("guest added", "guest removed", "guest changed", "guest changed back", "filter redefined", "filter back"):
                runs_of = []
                for number, (tool, text) in enumerate(fed[name]):
                    path = os.path.join(self.scratch, f"delta.{number}")
                    with open(path, "w") as file:
                        file.write(text)
                    runs_of.append(host.run([f"{tool}-restore", "--noflush"], stdin=path))
                found.setdefault(name, []).append(host.total(runs_of))
        return found


def measure(program, guests, runs):
    """All figures of one size."""
    scratch = tempfile.mkdtemp(prefix="bridgeward-bench-")
    try:
        bench = Bench(program, guests, scratch)
        taken = {}
        for number in range(runs):
            print(f"{guests} guests, run {number + 1} of {runs}", flush=True)
            found, bench.texts = host.on_new_host(bench.on_fresh_host)
            found["raw restore"] = host.on_new_host(bench.raw_restore)
            for name, one in found.items():
                taken.setdefault(name, []).append(one)
        watched = host.on_new_host(bench.watched)
        raw_peaks = host.on_new_host(bench.watched_raw)
        daemon = host.on_new_host(bench.with_daemon, runs)
        deltas = host.on_new_host(bench.raw_deltas, daemon["fed"], runs)
        with open(bench.texts["ebtables"]) as file:
            rules = sum(line.startswith("-A") for line in file)
        return {
            "guests": guests,
            "ebtables_rules": rules,
            "wall": {name: statistics.median(one.wall for one in several) for name, several in taken.items()},
            "cpu": {name: statistics.median(one.cpu for one in several) for name, several in taken.items()},
            "reaction": {name: statistics.median(several) for name, several in daemon["wall"].items()},
            # The kernel counts what ended tools used in hundredths of a second, so not the median.
            "reaction_cpu": {name: statistics.mean(several) for name, several in daemon["cpu"].items()},
            "reaction_processes": daemon["processes"],
            "raw_delta": {name: statistics.median(one.wall for one in several) for name, several in deltas.items()},
            "raw_delta_cpu": {name: statistics.mean(one.cpu for one in several) for name, several in deltas.items()},
            "raw_delta_processes": {name: len(edits) for name, edits in daemon["fed"].items()},
            "idle": daemon["idle"],
            "watched": watched,
            "raw_peak_bytes": raw_peaks,
            "daemon_peak_bytes": daemon["peak"],
        }
    finally:
        shutil.rmtree(scratch)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--program", default="target/release/bridgeward")
    options.add_argument("--guests", default="100,1000,3000", help="sizes, separated by commas")
    options.add_argument("--runs", type=int, default=5, help="how often; the median counts")
    options.add_argument("--out", default="target/bench")
    options.add_argument("--readme", metavar="FILE", help="put the summary between the marks of this document as well, and the plot into docs/ beside it")
    options.add_argument("--libvirt", action="store_true", help="the same guests through a real libvirtd as well (20 of them)")
    options = options.parse_args()
    program = os.path.abspath(options.program)
    sizes = [measure(program, int(size), options.runs) for size in options.guests.split(",")]
    beside = host.on_new_host(libvirt.measure, program, 20) if options.libvirt else None
    figures = {"machine": report.machine(), "runs": options.runs, "sizes": sizes, "libvirt": beside}
    report.write(options.out, figures)
    if options.readme:
        report.into(options.readme, figures)


if __name__ == "__main__":
    main()
