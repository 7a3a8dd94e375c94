#!/usr/bin/env bash
# Builds bridgeward_VERSION_ARCH.deb from what `make install` installs, with nothing but dpkg-dev.
# usage: contrib/debian/build-package.sh [BINARY [REVISION [DIRECTORY]]]   (default: target/release/bridgeward, 1, target/package); prints the package's path.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
binary=${1:-target/release/bridgeward} revision=${2:-1} directory=${3:-target/package}
command -v dpkg-shlibdeps >/dev/null || { echo 'dpkg-shlibdeps is missing: install the Debian package dpkg-dev' >&2; exit 1; }

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)-$revision
architecture=$(dpkg --print-architecture)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/stage
documents=$stage/usr/share/doc/bridgeward

make -s install DESTDIR="$stage" BINARY="$binary" >&2
strip --strip-unneeded "$stage/usr/sbin/bridgeward"
# Debian's places and forms where they differ from everybody's.
mv "$stage/usr/lib" "$work/lib"
mkdir -p "$stage/lib"
cp -a "$work/lib/." "$stage/lib/"
gzip -9n "$stage"/usr/share/man/man*/*
install -m 0644 CHANGELOG.md "$documents/changelog"
gzip -9n "$documents/changelog"
{
  printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: bridgeward\n\n'
  printf 'Files: *\nCopyright: the authors of bridgeward\nLicense: MIT or Apache-2.0\n\nLicense: MIT or Apache-2.0\n'
  sed 's/^$/./; s/^/ /' LICENSE-MIT
  printf ' .\n The Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0.\n'
} > "$documents/copyright"

mkdir -p "$work/debian" "$stage/DEBIAN"
printf 'Source: bridgeward\n\nPackage: bridgeward\nArchitecture: any\n' > "$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O "-e$stage/usr/sbin/bridgeward" 2>/dev/null | sed 's/^shlibs:Depends=//')
cat > "$stage/DEBIAN/control" <<CONTROL
Package: bridgeward
Version: $version
Architecture: $architecture
Maintainer: the authors of bridgeward <bridgeward@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$stage" | cut -f 1)
Depends: $libraries, iptables, ebtables | iptables (>= 1.8.9-1~), init-system-helpers (>= 1.54~)
Suggests: libvirt-daemon-system
Section: admin
Priority: optional
Description: declarative firewall for virtual-machine networks
 Reads libvirt-style XML (virtual networks, network filters, guest interfaces)
 from a directory, computes the complete rule set that it means in iptables,
 ip6tables and ebtables, shows what would change, changes only that, and puts
 it back whenever something blows it away. Runs beside libvirt or without it.
CONTROL
(cd "$stage" && find etc -type f -printf '/%p\n' | sort) > "$stage/DEBIAN/conffiles"
for script in postinst prerm postrm; do
  install -m 0755 "contrib/debian/$script" "$stage/DEBIAN/$script"
done
(cd "$stage" && find . -type f -not -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum) > "$stage/DEBIAN/md5sums"

mkdir -p "$directory"
package=$directory/bridgeward_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$stage" "$package" >&2
echo "$package"
