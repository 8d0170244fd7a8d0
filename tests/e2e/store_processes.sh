#!/usr/bin/env bash
# Many processes work on one store at once, and some of them are killed: what remains is whole, and
# nothing else remains.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

python3 "$SUPPORT/make_image.py" "$SCRATCH/image" >/dev/null
image=$SCRATCH/image/oci
digest_of() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 cat | sha256sum); }

# --- at once -----------------------------------------------------------------------------------

# One user's work, on names of its own but the same layers; the image comes and goes under them.
work() {
  local me=$1 round path
  for round in 1 2 3 4 5; do
    veneer load "$image" --name "image-$me" >/dev/null
    veneer create "image-$me" --name "box-$me" >/dev/null
    path=$(veneer mount "box-$me")
    [[ $(cat "$path/srv/stock/fresh") == "added by layer 1" ]] || fail "box-$me: round $round"
    echo "$me $round" >"$path/srv/mine"
    veneer commit "box-$me" "made-$me" >/dev/null
    veneer rm "box-$me" >/dev/null
    expect "what $me committed" "$me $round" "$(cat "$(veneer mount "made-$me")/srv/mine")"
    veneer umount "made-$me"
    veneer rmi "made-$me" "image-$me" >/dev/null
  done
}

workers=()
for me in 1 2 3 4; do
  work $me &
  workers+=($!)
done
for worker in "${workers[@]}"; do wait "$worker" || fail "worker $worker"; done
expect "images afterwards" "" "$(veneer images -q)"
expect "containers afterwards" "" "$(veneer ps -q)"

# --- nothing is left ---------------------------------------------------------------------------

expect_empty() {
  veneer gc >/dev/null
  expect "what is left on disk $1" "" "$(cd "$SCRATCH/root" &&
    find layers/sha256 snapshots blobs/sha256 staging trash opened -mindepth 1)"
  if grep " $SCRATCH/" /proc/self/mountinfo; then fail "a mount is left $1"; fi
}
expect_empty "by four workers"

# --- killed ------------------------------------------------------------------------------------

# killed_in TENTHS VERB...: true if it was killed after so many tenths of a millisecond.
killed_in() {
  local status=0
  # A shell of its own says that it was killed. In the foreground, timeout waits until it has gone:
  # a commit that it was in may still come about.
  (timeout --foreground --signal KILL "0.$(printf '%04d' "$1")" "$VENEER" --root "$SCRATCH/root" \
    --run "$SCRATCH/run" "${@:2}" || exit $?) >/dev/null 2>&1 || status=$?
  [[ $status == 137 ]]
}

kills=0
for ((tenths = 5; tenths <= 305; tenths += 15)); do
  if killed_in "$tenths" load "$image" --name soup; then kills=$((kills + 1)); fi
  veneer load "$image" --name soup >/dev/null
  if killed_in "$tenths" create soup --name box; then kills=$((kills + 1)); fi
  veneer rm box >/dev/null 2>&1 || true
  veneer create soup --name box >/dev/null
  path=$(veneer mount box)
  echo "at $tenths" >"$path/srv/mine"
  if killed_in "$tenths" commit box made; then kills=$((kills + 1)); fi
  expect "the container after $tenths tenths" "A /srv/mine" "$(veneer diff box | grep mine)"
  veneer commit box made >/dev/null
  if killed_in "$tenths" rm box; then kills=$((kills + 1)); fi
  if killed_in "$tenths" rmi soup; then kills=$((kills + 1)); fi
  expect "what was committed" "at $tenths" "$(cat "$(veneer mount made)/srv/mine")"
  veneer umount made
  veneer rm box >/dev/null 2>&1 || true
  veneer rmi made >/dev/null
  veneer rmi soup >/dev/null 2>&1 || true
  # A kill between a commit and its name leaves the image without one.
  mapfile -t nameless < <(veneer images -q)
  [[ ${#nameless[@]} == 0 ]] || veneer rmi "${nameless[@]}" >/dev/null
done
[[ $kills -gt 20 ]] || fail "only $kills of 105 processes were killed in time"
expect_empty "by the killed"
