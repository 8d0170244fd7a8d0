#!/usr/bin/env bash
# The manual has every command, argument and option that the help has, and no others.
set -euo pipefail
: "${VENEER:?the path of the veneer binary}"
top=$(readlink -f "$(dirname "$0")/../..")
check=$top/tests/support/check_man_pages.py
scratch=$(mktemp -d "${VENEER_SCRATCH:-/var/tmp}/veneer-man.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

fail() {
  echo "FAIL: $*" >&2
  exit 1
}

"$check" "$VENEER" "$top/docs/man" || fail "the manual and the help differ"

# It finds what is missing and what is too much: PAGE, what is done to it, what is said then.
finds() {
  rm -rf "$scratch/man"
  cp -r "$top/docs/man" "$scratch/man"
  sed -i "$2" "$scratch/man/$1"
  if cmp -s "$top/docs/man/$1" "$scratch/man/$1"; then fail "'$2' changes nothing in $1"; fi
  if "$check" "$VENEER" "$scratch/man" >"$scratch/said"; then fail "'$2' in $1 is not noticed"; fi
  grep -qF -- "$3" "$scratch/said" || fail "'$2' in $1: $(cat "$scratch/said")"
}
finds veneer.1 's/^\.It Cm df/.It Cm du/' 'veneer: the manual lacks the command df'
finds veneer.1 's/^\.It Cm df/.It Cm du/' 'veneer: there is no command du'
finds veneer.1 's/Fl -tar/Fl -zip/g' 'veneer diff: the manual lacks the option tar'
finds veneer.1 's/Fl -tar/Fl -zip/g' 'veneer diff: there is no option zip'
finds veneer.1 's/^\.It Fl -json/.It Fl -xml/' 'veneer: the manual lacks the option json'
finds veneer.1 's/^\.It Cm create Ar image/.It Cm create Ar picture/' 'veneer create: takes'
finds veneer.1 's/^\.It Cm layers Op Ar image/.It Cm layers Ar image/' 'veneer layers: takes'
finds veneer.1 's/^\.Cm gzip$/.Cm lzma/' 'veneer save: the manual lacks the word gzip'
finds veneer-driver.1 's/^\.It Fl -home/.It Fl -house/' 'veneer driver: there is no option house'
finds veneer-driver.1 's/^\.It Cm put/.It Cm lay/' 'veneer driver: there is no command lay'
finds veneer-layer.1 's/Fl -upper/Fl -lower/g' 'mount: the manual lacks the option upper'
