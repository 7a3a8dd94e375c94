"""The same guests through a real libvirtd: how long it takes to guard them, and to guard them again after a flush."""

import os
import signal
import subprocess
import tempfile
import time

import host
import state

VIRSH = ["virsh", "-c", "qemu:///system"]


def measure(program, guests):
    """Wall seconds of libvirt and of bridgeward; runs on a host of its own."""
    scratch = tempfile.mkdtemp(prefix="bridgeward-libvirt-")
    daemons = start(scratch)
    try:
        found = {"guests": guests, "version": subprocess.run(["libvirtd", "--version"], capture_output=True, text=True).stdout.strip()}
        bindings = [binding(scratch, number) for number in range(guests)]
        for number in range(guests):
            subprocess.run(["ip", "tuntap", "add", f"vnet{number}", "mode", "tap"], check=True)
        begun = time.monotonic()
        for path in bindings:
            subprocess.run([*VIRSH, "nwfilter-binding-create", path], check=True, stdout=subprocess.DEVNULL)
        found["libvirt_create"] = time.monotonic() - begun
        subprocess.run(["ebtables", "-t", "nat", "-F"], check=True)
        begun = time.monotonic()
        # It puts rules back only when it is told to.
        daemons[-1].send_signal(signal.SIGHUP)
        wait_for_rules(guests)
        found["libvirt_restore"] = time.monotonic() - begun
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()
    found["bridgeward_apply"] = host.on_new_host(ours, program, scratch, guests)
    return found


def ours(program, scratch, guests):
    directory = os.path.join(scratch, "state")
    os.makedirs(os.path.join(directory, "guests"))
    for number in range(guests):
        state.put(state.guest_path(directory, number), state.guest(number).replace("'service'", "'clean-traffic'"))
    return host.run([program, "--state", directory, "apply"]).wall


def start(scratch):
    """virtlogd and libvirtd with all their files in this namespace."""
    script = f"""set -e
cp -a /etc/libvirt {scratch}/etc; rm -rf {scratch}/etc/qemu/networks {scratch}/etc/qemu/autostart
mount --bind {scratch}/etc /etc/libvirt
for directory in lib log cache; do mkdir -p /var/$directory/libvirt; mount -t tmpfs tmpfs /var/$directory/libvirt; done"""
    subprocess.run(["sh", "-c", script], check=True)
    log = open(os.path.join(scratch, "libvirt.log"), "wb")
    daemons = [subprocess.Popen([name], stdout=log, stderr=log) for name in ("virtlogd", "libvirtd")]
    for _ in range(240):
        if subprocess.run([*VIRSH, "nwfilter-list"], capture_output=True).returncode == 0:
            return daemons
        time.sleep(0.25)
    raise SystemExit("libvirtd does not come up")


def binding(scratch, number):
    path = os.path.join(scratch, f"binding{number}.xml")
    with open(path, "w") as file:
        file.write(f"""<filterbinding>
  <owner><name>vm{number}</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1{number:03}</uuid></owner>
  <portdev name='vnet{number}'/>
  <mac address='52:54:00:00:00:{number:02x}'/>
  <filterref filter='clean-traffic'><parameter name='IP' value='10.200.0.{number + 2}'/></filterref>
</filterbinding>
""")
    return path


def wait_for_rules(guests):
    for _ in range(6000):
        listed = subprocess.run(["ebtables-save"], capture_output=True, text=True).stdout
        if all(f"-i vnet{number} -j libvirt-I-vnet{number}\n" in listed for number in range(guests)):
            return
        time.sleep(0.05)
    raise SystemExit("libvirtd does not put its rules back")
