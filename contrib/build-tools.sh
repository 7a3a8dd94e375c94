#!/usr/bin/env bash
# Makes sure that what the build links to is there: a linker and libpcap. Installs it on Debian as root, else says what is missing.
set -euo pipefail

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
compgen -G '/usr/lib/*/libpcap.so' >/dev/null || compgen -G '/usr/lib*/libpcap.so' >/dev/null || missing+=(libpcap-dev)
((${#missing[@]})) || exit 0
if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
  echo "the build needs what these Debian packages hold; please install them: ${missing[*]}" >&2
  exit 1
fi
echo "installing: ${missing[*]}"
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
