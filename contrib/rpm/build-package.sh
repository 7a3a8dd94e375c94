#!/usr/bin/env bash
# Builds bridgeward-VERSION-RELEASE.ARCH.rpm from what `make install` installs; needs rpmbuild (Fedora: rpm-build, Debian: rpm).
# usage: contrib/rpm/build-package.sh [BINARY [RELEASE [DIRECTORY]]]   (default: target/release/bridgeward, 1, target/package); prints the package's path.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
binary=$(readlink -f "${1:-target/release/bridgeward}") release=${2:-1} directory=${3:-target/package}
command -v rpmbuild >/dev/null || { echo 'rpmbuild is missing: install rpm-build (Debian: rpm)' >&2; exit 1; }

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# A program with libpcap in it brings the licence of that along.
licence=$(dirname "$binary")/../libpcap/copyright
[[ -e $licence ]] && licence=$(readlink -f "$licence") || licence=
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rpmbuild -bb --quiet --define "_topdir $work" --define "sources $PWD" --define "program $binary" \
  --define "program_version $version" --define "program_release $release" ${licence:+--define "libpcap_licence $licence"} contrib/rpm/bridgeward.spec >&2
mkdir -p "$directory"
package=$(basename "$work"/RPMS/*/*.rpm)
mv "$work"/RPMS/*/*.rpm "$directory/"
echo "$directory/$package"
