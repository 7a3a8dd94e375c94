#!/usr/bin/env bash
# Puts a libpcap.a into DIRECTORY that needs nothing but libc: what a program has to be linked to that runs on every distribution, since the name of the shared
# library differs (libpcap.so.0.8 on Debian, libpcap.so.1 elsewhere). It is Debian's (libpcap-dev) without the part that listens to D-Bus, which would need libdbus.
# usage: contrib/release/static-libpcap.sh DIRECTORY
set -euo pipefail
directory=$1
archive=$(cc -print-file-name=libpcap.a)
[[ $archive == /* ]] || { echo 'libpcap.a is missing: install the Debian package libpcap-dev' >&2; exit 1; }

mkdir -p "$directory"
cp /usr/share/doc/libpcap-dev/copyright "$directory/copyright"
cp "$archive" "$directory/libpcap.a"
if ar t "$archive" | grep -q '^pcap-dbus\.o$'; then
  # In its place two functions that say what it would of a device that is not D-Bus: not mine, and there are none.
  cc -O2 -c -o "$directory/no-dbus.o" -x c - <<'C'
int dbus_findalldevs(void *devices, char *error) { (void)devices; (void)error; return 0; }
void *dbus_create(const char *device, char *error, int *is_ours) { (void)device; (void)error; *is_ours = 0; return 0; }
C
  ar d "$directory/libpcap.a" pcap-dbus.o
  ar r "$directory/libpcap.a" "$directory/no-dbus.o"
  rm "$directory/no-dbus.o"
fi
