#!/usr/bin/env bash
# containerd's own suite of tests for snapshotters (tests/conformance), built in a cell from the
# sources that Debian packages, runs on veneerd: every test that upstream does not skip itself.
set -euo pipefail
: "${VENEER:?the path of the veneer binary}"
: "${VENEERD:=$(dirname "$VENEER")/veneerd}"
here=$(dirname "$(realpath "$0")")
support=$here/../support
clients=$support/../../build/clients
# shellcheck source=tests/support/cell.sh
. "$support/cell.sh"
own_namespaces "$@"

scratch=$(make_scratch)
# What the compiler made of containerd's sources does not change: a minute the first time.
mkdir -p "$clients/go-cache"
cache=$(realpath "$clients/go-cache")
cp "$here/../conformance/snapshots_test.go" "$scratch"
cell_start "$clients/conformance" "$scratch" "$cache"
in_cell env --chdir="$scratch" GOCACHE="$cache" GOPATH=/usr/share/gocode GO111MODULE=off \
  CGO_ENABLED=0 HOME=/root go test -c -o suite snapshots_test.go
cell_stop

# Its program needs nothing of the cell, and sees the mounts of the server.
mkdir "$scratch/tmp"
export VENEERD
TMPDIR=$scratch/tmp "$scratch/suite" -test.v -test.timeout 250s >"$scratch/log" 2>&1 ||
  { grep -vE '^ *=== |--- PASS|: (un)?mount ' "$scratch/log" | tail -n 60 >&2; exit 1; }
# Of each 21, Rename is skipped for all snapshotters.
for suite in TestServerEach TestServerShared/Group; do
  passed=$(grep -cE "^ +--- PASS: $suite/" "$scratch/log" || true)
  skipped=$(grep -E "^ +--- SKIP: $suite/" "$scratch/log" | awk '{print $3}' | xargs)
  if [[ $passed != 20 || $skipped != "$suite/Rename" ]]; then
    grep -E '^ *--- ' "$scratch/log" >&2
    echo "$suite: $passed passed, skipped: $skipped" >&2
    exit 1
  fi
done
