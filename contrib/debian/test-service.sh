#!/usr/bin/env bash
# Boots a Debian with systemd in a container, with a network of its own, and sees there what a chroot cannot show: that the package's service starts, repairs,
# survives what it should and ends when told to, and what becomes of the rules.
# usage: contrib/debian/test-service.sh PACKAGE [ROOT]   needs root, debootstrap, systemd-nspawn (Debian: systemd-container) and a mirror; ROOT is a bare Debian
# to copy in place of a debootstrap of its own.
set -euo pipefail
package=$(readlink -f "$1")
command -v systemd-nspawn >/dev/null || { echo 'systemd-nspawn is missing: install the Debian package systemd-container' >&2; exit 1; }
root=$(mktemp -d /var/tmp/bridgeward-service.XXXXXX)
trap 'rm -rf --one-file-system "$root"' EXIT
chmod 755 "$root"

echo '== a Debian with systemd'
if [ -n "${2:-}" ]; then cp -a "$2/." "$root"; else debootstrap --variant=minbase bookworm "$root" http://deb.debian.org/debian >/dev/null; fi
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }
inside apt-get update -q >/dev/null
inside apt-get install -q -y --no-install-recommends systemd-sysv dbus iproute2 iputils-ping procps kmod >/dev/null 2>&1
inside apt-get satisfy -q -y --no-install-recommends "$(dpkg-deb -f "$package" Depends)" >/dev/null 2>&1
cp "$package" "$root/root/package.deb"
: > "$root/etc/machine-id"

cat > "$root/root/network.xml" <<'XML'
<network>
  <name>lab</name>
  <bridge name='br-lab'/>
  <forward mode='nat'/>
  <ip address='10.40.0.1' prefix='24'/>
</network>
XML
cat > "$root/root/guest.xml" <<'XML'
<filterbinding>
  <owner><name>web</name><uuid>7a5f7a0e-52b6-4d3c-9d53-5b8f0d9e0c10</uuid></owner>
  <portdev name='vnet-web'/>
  <mac address='52:54:00:40:00:10'/>
  <filterref filter='clean-traffic'>
    <parameter name='IP' value='10.40.0.10'/>
  </filterref>
</filterbinding>
XML
cat > "$root/root/steps.sh" <<'STEPS'
#!/usr/bin/env bash
set -euo pipefail
trap 'systemctl --no-block poweroff' EXIT
exec > /root/log 2>&1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive
say() { printf '== %s\n' "$*"; }
fail() { printf 'not as it should be: %s\n' "$*"; systemctl --no-pager status bridgeward || true; exit 1; }
eventually() { for _ in $(seq 100); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.2; done; fail "$*"; }
is() { local state; state=$(systemctl is-active bridgeward) || true; [ "$state" = "$1" ] || fail "the service is $state and not $1"; }
process() { systemctl show -P MainPID bridgeward; }
restarted() { [ "$(process)" != "$1" ] && [ "$(process)" != 0 ] && systemctl -q is-active bridgeward; }
guarded() { ebtables -t nat -L libvirt-I-vnet-web | grep -q DROP; }
reaches() { ip netns exec web ping -q -c 1 -W "$2" -I "$1" 10.40.0.1 >/dev/null; }
judge() { reaches 10.40.0.10 5 || fail 'the guest does not reach its gateway'; ! reaches 10.40.0.66 1 || fail 'the guest takes an address that is not its own'; }

say 'the package starts its service'
apt-get install -q -y /root/package.deb
systemctl -q is-enabled bridgeward || fail 'the service is not enabled'
is active

say 'a guest'
sysctl -qw net.ipv4.ip_forward=1
ip link add br-lab type bridge
ip addr add 10.40.0.1/24 dev br-lab
ip link set br-lab up
ip netns add web
ip link add vnet-web type veth peer name eth0 netns web
ip link set vnet-web master br-lab up
ip -n web link set eth0 address 52:54:00:40:00:10 up
ip -n web addr add 10.40.0.10/24 dev eth0
ip -n web addr add 10.40.0.66/24 dev eth0
cp /root/network.xml /etc/bridgeward/state/networks/lab.xml
cp /root/guest.xml /etc/bridgeward/state/guests/web.xml
eventually bridgeward diff
judge

say 'flushed by hand'
ebtables -t nat -F
eventually bridgeward diff
judge

say 'killed'
before=$(process)
kill -KILL "$before"
eventually restarted "$before"
judge

say 'installed anew'
before=$(process)
apt-get install -q -y --reinstall /root/package.deb
eventually restarted "$before"
judge

say 'purge --stop'
bridgeward purge --stop
sleep 3 # longer than systemd waits before a restart
is inactive
! guarded || fail 'the rules are back'

say 'started, and removed with its rules in force'
systemctl start bridgeward
judge
apt-get remove -q -y bridgeward
is inactive
judge
say 'clean'
STEPS
chmod 755 "$root/root/steps.sh"
cat > "$root/etc/systemd/system/steps.service" <<'UNIT'
[Unit]
After=basic.target dbus.service
[Service]
ExecStart=/root/steps.sh
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../steps.service "$root/etc/systemd/system/multi-user.target.wants/steps.service"

# Where there is no systemd there is nobody to make a unit for the container.
options=(--quiet --register=no --private-network --boot --console=pipe)
[ -d /run/systemd/system ] || options+=(--keep-unit)
timeout 300 systemd-nspawn "${options[@]}" -D "$root" >/dev/null 2>"$root/nspawn.log" || true
cat "$root/root/log" 2>/dev/null || { cat "$root/nspawn.log" >&2; exit 1; }
[ "$(tail -n 1 "$root/root/log")" = '== clean' ]
