#!/usr/bin/env bash
# Shows bridgeward at work, in a network namespace that vanishes afterwards: what state/ means, an apply, a second diff that
# is empty, and then the daemon putting everything back after each tool was flushed by hand.
# Exits non-zero as soon as anything is not as said. Needs root; installs missing Debian packages (only those).
set -euo pipefail
self=$(readlink -f "$0")
cd "$(dirname "$self")/.."
export LC_ALL=C

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then bold=$'\e[1m' dim=$'\e[2m' good=$'\e[32m' bad=$'\e[31m' off=$'\e[0m'; else bold='' dim='' good='' bad='' off=''; fi
say() { printf '\n%s== %s%s\n' "$bold" "$*" "$off"; }
note() { printf '%s   %s%s\n' "$dim" "$*" "$off"; }
done_well() { printf '   %s%s%s\n' "$good" "$*" "$off"; }
fail() { printf '%s   not as said: %s%s\n' "$bad" "$*" "$off" >&2; exit 1; }
show() { printf '%s$ %s%s\n' "$dim" "$*" "$off"; }

install_missing() {
  local missing=() pair
  for pair in iptables:iptables ip6tables:iptables ebtables:ebtables ip:iproute2 unshare:util-linux; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
  if ((${#missing[@]})); then
    command -v apt-get >/dev/null || fail "please install: ${missing[*]}"
    say "Installing what is missing: ${missing[*]}"
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
  fi
}

# --- outside: prepare, then go inside ---

if [[ ${1:-} != --inside ]]; then
  ((EUID == 0)) || fail 'the demo makes a network namespace: run it as root (sudo make demo)'
  install_missing
  program=${BRIDGEWARD:-}
  if [[ -z $program ]]; then
    command -v cargo >/dev/null || fail 'cargo is missing: install a Rust toolchain from https://rustup.rs, or name a program in BRIDGEWARD'
    say 'Building bridgeward'
    contrib/build-tools.sh
    cargo build --locked --release
    program=target/release/bridgeward
  fi
  exec unshare --net --mount -- env BRIDGEWARD="$(readlink -f "$program")" "$self" --inside
fi

# --- inside: a host of our own ---

mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /var/lib/bridgeward
mount -t tmpfs -o mode=0700 tmpfs /var/lib/bridgeward
ip link set lo up
scratch=$(mktemp -d)
daemon=
trap '[[ -z $daemon ]] || kill "$daemon" 2>/dev/null; rm -rf "$scratch"' EXIT
cp -r state "$scratch/state" # the demo changes a file
cd "$scratch"
bridgeward() { "$BRIDGEWARD" "$@"; }
export BRIDGEWARD_STATE=state
rules() { { iptables-save; ip6tables-save; ebtables-save; } | grep '^-' || true; }
count() { "$1-save" | grep -c '^-A' || true; }
expect() { # expect CODE COMMAND...: shows the command, runs it, and insists on its exit code
  local wanted=$1 code=0
  shift
  show "$@"
  "$@" >"$scratch/output" 2>&1 || code=$?
  ((code == wanted)) || { cat "$scratch/output"; fail "exit code $code, expected $wanted"; }
}
held() { "$1-save" | grep -v '^#' | sed 's/ \[.*//'; } # everything but the counters
soon() { # soon WHAT COMMAND...: until the command succeeds, 30 s at most; prints how long that took
  local what=$1 started=$EPOCHREALTIME
  shift
  for _ in $(seq 600); do
    if "$@"; then
      done_well "$what, after $(((${EPOCHREALTIME/./} - ${started/./}) / 1000)) ms"
      return
    fi
    sleep 0.05
  done
  cat "$scratch/run.log"
  fail "not in 30 s: $what"
}
is_back() { [[ $(held "$1") == "$(<"$scratch/$1")" ]]; }
has_port() { iptables-save | grep -q -- "-A FO-vnet-web .* --dport $1 "; }

say 'What state/ says: three networks, three filters, four guests'
show find state -name '*.xml'
find state -name '*.xml' | sort | sed 's/^/   /'

say 'What would change? Nothing is touched yet.'
expect 1 bridgeward diff
head -n 24 "$scratch/output"
note "... $(wc -l <"$scratch/output") lines in all, each with the file and line of the XML that it comes from"
[[ -z $(rules) ]] || fail 'diff changed something'

say 'Apply it.'
expect 0 bridgeward apply
cat "$scratch/output"

say 'And again: what would change now?'
expect 0 bridgeward diff
cat "$scratch/output"
done_well 'nothing: the kernel holds exactly what state/ says'

say 'The daemon keeps it so: it watches the files and the kernel.'
show bridgeward run --poll 1s '&'
"$BRIDGEWARD" run --poll 1s >"$scratch/run.log" 2>&1 &
daemon=$!
for tool in iptables ip6tables ebtables; do held "$tool" >"$scratch/$tool"; done
sleep 1
kill -0 "$daemon" 2>/dev/null || { cat "$scratch/run.log"; fail 'the daemon ended'; }

say 'Somebody flushes everything, one tool after the other.'
for tool in iptables ip6tables ebtables; do
  before=$(count "$tool")
  ((before > 0)) || fail "$tool had no rules"
  for table in $("$tool-save" | sed -n 's/^\*//p'); do
    show "$tool -t $table -F; $tool -t $table -X"
    "$tool" -t "$table" -F
    "$tool" -t "$table" -X 2>/dev/null || true # the daemon may be faster than this loop: then its chains are in use again
  done
  soon "all $before rules are back, identical" is_back "$tool"
done

say 'A file changes: the guest web now also offers port 8080.'
has_port 8080 && fail 'port 8080 is open already'
show "sed -i \"/name='UDP_PORT'/i <parameter name='TCP_PORT' value='8080'/>\" state/guests/web.xml"
sed -i "/name='UDP_PORT'/i <parameter name='TCP_PORT' value='8080'/>" state/guests/web.xml
soon 'the rules for port 8080 are in' has_port 8080

say 'It breaks: somebody saves half a file, and flushes the firewall on top of it.'
show 'truncate -s 300 state/guests/web.xml; iptables -F FO-vnet-web'
truncate -s 300 state/guests/web.xml
sleep 1
iptables -F FO-vnet-web
soon 'the guest keeps its last good rules' has_port 8080
expect 1 bridgeward diff
head -n 12 "$scratch/output"

say 'And gone again, completely.'
expect 0 bridgeward purge --stop
wait "$daemon" || fail 'the daemon did not end well'
daemon=
cat "$scratch/output"
[[ -z $(rules) ]] || { rules; fail 'purge left rules'; }
done_well 'not one rule is left'
