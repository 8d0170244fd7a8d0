#!/usr/bin/env bash
# A load that is killed at any moment leaves whole layers only, and the next one completes it.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

for n in 1 2 3; do
  python3 - "$SCRATCH/tree" "$n" <<'PYTHON'
import pathlib, sys
top, n = pathlib.Path(sys.argv[1]), int(sys.argv[2])
for number in range(1000):
    directory = top / f"layer{n}" / f"{number % 50:02}"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / str(number)).write_bytes(b"%d\n" % number * 1000)
PYTHON
  tar -C "$SCRATCH/tree" --sort=name -czf "$SCRATCH/$n.tar.gz" .
  rm -r "$SCRATCH/tree"
done
python3 "$SUPPORT/oci_layout.py" "$SCRATCH/image" "$SCRATCH"/[123].tar.gz

tree_of() { (cd "$1" && find . -printf '%y %m %s %T@ %P\n' | sort | sha256sum); }

top=$(driver load "$SCRATCH/image")
ids=$(driver list)
tree=$(tree_of "$HOME_DIR/$top/root")

# The moments are spread over a load as long as the shortest of three: most of them must hit one.
took_ms=
for _ in 1 2 3; do
  for id in $ids; do driver remove "$id"; done
  started=$(date +%s%N)
  driver load "$SCRATCH/image" >"$SCRATCH/stdout"
  now_ms=$((($(date +%s%N) - started) / 1000000 + 1))
  [[ -n $took_ms && $took_ms -lt $now_ms ]] || took_ms=$now_ms
done

seed=${VENEER_SEED:-$$}
echo "seed $seed (VENEER_SEED), a whole load takes $took_ms ms"
RANDOM=$seed
killed=0
for round in {1..10}; do
  for id in $ids; do driver exists "$id" && driver remove "$id"; done
  "$VENEER" --root "$SCRATCH/root" --run "$SCRATCH/run" driver load "$SCRATCH/image" \
    >/dev/null 2>&1 & load=$!
  pause_ms=$((took_ms * (round - 1) / 10 + RANDOM % (took_ms / 10 + 1)))
  sleep "$(printf '%d.%03d' $((pause_ms / 1000)) $((pause_ms % 1000)))"
  kill -KILL "$load" 2>/dev/null && killed=$((killed + 1))
  wait "$load" 2>/dev/null || true
  # What is there is whole: the next load takes it as it is.
  while read -r id; do
    [[ -z $id || $ids == *"$id"* ]] || fail "round $round: a layer that is none: $id"
  done <<<"$(driver list)"
  expect "round $round: id" "$top" "$(driver load "$SCRATCH/image")"
  expect "round $round: layers" "$ids" "$(driver list)"
  expect "round $round: tree" "$tree" "$(tree_of "$HOME_DIR/$top/root")"
  expect_no_leftovers
done
[[ $killed -ge 3 ]] || fail "only $killed of 10 loads were still running when they were killed"
