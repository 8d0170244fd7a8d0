# Sourced by the tests of the command line (tests/e2e/cli_*.sh): a state directory that goes away
# with the test, and functions that run VENEER, the binary under test, on it.
# shellcheck shell=bash
set -euo pipefail

: "${VENEER:?the path of the veneer binary}"
SUPPORT=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
SCRATCH=$(mktemp -d "${VENEER_SCRATCH:-/var/tmp}/veneer-cli.XXXXXX")
HOME_DIR=$SCRATCH/root/overlay
export SUPPORT SCRATCH HOME_DIR

# shellcheck source=tests/support/mounts.sh
source "$SUPPORT/mounts.sh"

clean_up() {
  unmount_below "$SCRATCH" --lazy
  rm -rf --one-file-system "$SCRATCH"
}
trap clean_up EXIT

fail() {
  echo "FAIL: $*" >&2
  exit 1
}

veneer() { "$VENEER" --root "$SCRATCH/root" --run "$SCRATCH/run" "$@"; }
driver() { veneer driver --driver overlay "$@"; }

# expect WHAT WANTED GOT
expect() { [[ $2 == "$3" ]] || fail "$1: wanted '$2', got '$3'"; }

# refused STATUS REGEX COMMAND...: it exits with STATUS, prints no result, and says why in one line.
refused() {
  local wanted_status=$1 wanted=$2 status=0
  shift 2
  "$@" >"$SCRATCH/stdout" 2>"$SCRATCH/stderr" </dev/null || status=$?
  expect "exit status of '$*' ($(cat "$SCRATCH/stderr"))" "$wanted_status" "$status"
  expect "standard output of '$*'" "" "$(cat "$SCRATCH/stdout")"
  expect "lines on standard error of '$*'" 1 "$(wc -l <"$SCRATCH/stderr")"
  grep -qE -- "$wanted" "$SCRATCH/stderr" ||
    fail "'$*' says '$(cat "$SCRATCH/stderr")', which does not match '$wanted'"
}

# Everything in the driver's home but times and inode numbers.
home_listing() {
  find "$HOME_DIR" -printf '%y %m %U:%G %n %P %l ' \( -type f -printf '%s' \) -printf '\n' | sort
}

# Layers alone are left: nothing half done.
expect_no_leftovers() {
  local found
  found=$(find "$HOME_DIR" -mindepth 1 -maxdepth 1 -name '[!.]*' -printf '%f\n' | sort)
  expect "directories of the home" "$(driver list)" "$found"
  found=$(find "$HOME_DIR" -mindepth 1 -maxdepth 2 \
    \( -path '*/.veneer-staging/*' -o -name 'tmproot*' \))
  expect "leftovers in the home" "" "$found"
}
