#!/usr/bin/env bash
# Installs the package on a bare Debian, uses it, upgrades, removes and purges it, and compares the system before and after.
# usage: contrib/debian/test-package.sh PACKAGE NEWER-PACKAGE [ROOT]   needs root, debootstrap and a mirror; ROOT is a bare Debian to
# copy in place of a debootstrap of its own. There is no systemd in a chroot: that the unit is enabled is seen in its link, and the
# daemon is started by hand, in a network namespace that goes with it; test-service.sh sees the rest.
set -euo pipefail
package=$(readlink -f "$1") newer=$(readlink -f "$2")
root=$(mktemp -d /var/tmp/bridgeward-package.XXXXXX)
chmod 755 "$root"  # apt and mandb read as users of their own
end() {
  umount "$root/proc" 2>/dev/null || true
  rm -rf --one-file-system "$root"
}
trap end EXIT
say() { printf '== %s\n' "$*"; }
fail() { printf 'not as it should be: %s\n' "$*" >&2; exit 1; }

say 'a bare Debian'
if [ -n "${3:-}" ]; then cp -a "$3/." "$root"; else debootstrap --variant=minbase bookworm "$root" http://deb.debian.org/debian >/dev/null; fi
mount -t proc proc "$root/proc"
cp "$package" "$newer" "$root/tmp/"
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }
inside apt-get update -q >/dev/null
# What the package depends on comes first, so that what it leaves behind can be told from what they do.
inside apt-get install -q -y --no-install-recommends man-db >/dev/null 2>&1
inside apt-get satisfy -q -y --no-install-recommends "$(dpkg-deb -f "$package" Depends)" >/dev/null 2>&1
listing() { inside sh -c 'find / -xdev \( -path /proc -o -path /tmp -o -path /var/lib/dpkg -o -path /var/cache -o -path /var/log -o -path /var/lib/apt \) -prune -o -printf "%p %y %m\n"' | sort; }
before=$(listing)

say 'install'
inside apt-get install -q -y --no-install-recommends "/tmp/$(basename "$package")"
inside bridgeward --version
test -L "$root/etc/systemd/system/multi-user.target.wants/bridgeward.service" || fail 'the unit is not enabled'
inside bridgeward check
inside bridgeward check --strict --state /usr/share/doc/bridgeward/state
inside man -w 8 bridgeward
inside man -w 5 bridgeward-state
inside man -w 5 bridgeward.toml
for file in /usr/share/bash-completion/completions/bridgeward /usr/share/zsh/vendor-completions/_bridgeward \
  /usr/share/fish/vendor_completions.d/bridgeward.fish /usr/share/bridgeward/schemas/filter.rng /usr/share/bridgeward/schemas/filter.rnc; do
  test -s "$root$file" || fail "$file is missing"
done
inside dpkg --verify bridgeward

say 'a guarded guest, by the program from the package'
inside cp -r /usr/share/doc/bridgeward/state/. /etc/bridgeward/state/
unshare --net chroot "$root" /bin/sh -ec '
  PATH=/usr/sbin:/usr/bin:/sbin:/bin
  bridgeward apply
  bridgeward diff
  bridgeward run 2>/tmp/run.log & daemon=$!
  trap "kill $daemon" EXIT
  for _ in $(seq 100); do grep -q "in sync" /tmp/run.log && break; sleep 0.1; done
  ebtables -t nat -F
  for _ in $(seq 100); do bridgeward diff >/dev/null && break; sleep 0.1; done
  bridgeward diff
  ebtables -t nat -L libvirt-I-vnet-web | grep -q DROP'

say 'upgrade, with a configuration of the administrator'
printf 'strict = true\n' > "$root/etc/bridgeward/bridgeward.toml"
inside apt-get install -q -y "/tmp/$(basename "$newer")"
inside dpkg-query -W bridgeward
test "$(cat "$root/etc/bridgeward/bridgeward.toml")" = 'strict = true' || fail 'the configuration was overwritten'

say 'remove, with what the administrator wrote'
inside apt-get remove -q -y bridgeward
test -e "$root/etc/bridgeward/state/guests/web.xml" || fail 'the state went with the program'
test ! -e "$root/usr/sbin/bridgeward" || fail 'the program is still there'

say 'purge'
inside apt-get purge -q -y bridgeward
test -e "$root/etc/bridgeward/state/guests/web.xml" || fail 'the state of the administrator is gone'
rm -r "$root/etc/bridgeward"
after=$(listing)
diff <(echo "$before") <(echo "$after") || fail 'something was left behind, or went that was there before'
say 'clean'
