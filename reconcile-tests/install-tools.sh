#!/usr/bin/env bash
# Installs the Debian packages that the tests need and this machine lacks; does nothing where all are there.
set -euo pipefail

packages=(
  iproute2 iptables ebtables nftables ipset util-linux iputils-ping procps # the kernel's rules and who sends packets through them
  libvirt-daemon-system libvirt-clients dnsmasq-base qemu-system-x86 # a real libvirtd to live beside
  udhcpc dhcpcd-base strace libfaketime # real DHCP clients; a count of processes started; a clock that jumps
  systemd perl-base # systemd-analyze judges the unit; a peer for sockets
  man-db mandoc # the readers of the manual pages
  firewalld ufw fail2ban dbus # the neighbours, each run in a namespace of its own
  make dpkg-dev binutils rpm # the packages are built
  libxml2-utils gcc libc6-dev libpcap-dev # xmllint for the schemas; a linker, and what pcap links to
)
if ! command -v dpkg-query >/dev/null; then
  echo "not a Debian machine: the tests need what these packages hold: ${packages[*]}"
  exit 0
fi
missing=()
for package in "${packages[@]}"; do
  dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
((${#missing[@]})) || exit 0
echo "installing: ${missing[*]}"
apt-get update -q
# No service may start here: the tests run their own libvirtd in namespaces of its own.
RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
