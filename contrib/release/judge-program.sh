#!/usr/bin/env bash
# Fails where a program needs a library that not every distribution has under that name, or a newer glibc than we say.
# usage: contrib/release/judge-program.sh PROGRAM
set -euo pipefail
program=$1 newest=2.34
needed=$(readelf --dynamic --wide "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
strange=$(grep -vE '^(libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|ld-linux.*)$' <<< "$needed" || true)
[[ -z $strange ]] || { echo "$program needs $strange" >&2; exit 1; }
glibc=$(readelf --version-info --wide "$program" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
[[ $(printf '%s\n' "${glibc#GLIBC_}" "$newest" | sort -V | tail -n 1) == "$newest" ]] || { echo "$program needs ${glibc}, not only $newest" >&2; exit 1; }
echo "$program: runs with glibc ${glibc#GLIBC_} or newer and needs nothing else" >&2
