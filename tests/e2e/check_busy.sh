#!/usr/bin/env bash
# check and check --repair while others load, create, commit and remove: no damage is reported that
# is none, and nothing is broken. And a repair that is killed at any moment leaves what the next one
# mends.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

root=$SCRATCH/root
name=veneer.test/galley:v1
python3 "$SUPPORT/make_image.py" "$SCRATCH/image" >/dev/null
image=$SCRATCH/image/docker.tar
# write_archive OUT TEXT: a docker-archive of one layer.
write_archive() {
  local tree=$SCRATCH/tree
  rm -rf "$tree" && mkdir -p "$tree/top/srv"
  for number in {1..8}; do head -c 200000 < <(yes "$2 $number") >"$tree/top/srv/$number"; done
  tar -C "$tree/top" -cf "$tree/layer.tar" srv
  printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers",
    "diff_ids":["sha256:%s"]}}' "$(sha256sum <"$tree/layer.tar" | cut -d' ' -f1)" \
    >"$tree/config.json"
  printf '[{"Config":"config.json","RepoTags":null,"Layers":["layer.tar"]}]' >"$tree/manifest.json"
  tar -C "$tree" -cf "$1" manifest.json config.json layer.tar
}
shown() {
  local path
  path=$(veneer mount box)
  (cd "$path" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
  veneer umount box
}
veneer load -q "$image" >/dev/null
veneer create "$name" --name box >/dev/null
content=$(shown)

# --- others at work ---
# All that makes and removes rows, directories and mounts, over and over; the images share a layer
# now and then.
work() {
  local me=$1 path
  while [[ ! -e $SCRATCH/stop ]]; do
    veneer load -q "$SCRATCH/$me.tar" --name "img-$me" >/dev/null
    veneer create "img-$me" --name "box-$me" >/dev/null
    path=$(veneer mount "box-$me")
    echo "$me $RANDOM" >"$path/srv/new"
    veneer commit -q "box-$me" "made-$me" >/dev/null
    veneer umount "box-$me"
    veneer rm "box-$me" >/dev/null
    veneer rmi "made-$me" "img-$me" >/dev/null
    echo >>"$SCRATCH/rounds-$me"
  done
}
workers=()
for me in one two three; do write_archive "$SCRATCH/$me.tar" "${me%ree}"; done
for me in one two three; do
  (set -e && work "$me") >"$SCRATCH/log-$me" 2>&1 &
  workers+=($!)
done
checks=0
end=$((SECONDS + 12))
while [[ $SECONDS -lt $end ]]; do
  for options in "" "--fast" "--repair" "--repair --fast"; do
    # shellcheck disable=SC2086 # none, or several
    veneer check $options >"$SCRATCH/said" ||
      fail "check $options beside others: $(cat "$SCRATCH/said")"
    checks=$((checks + 1))
  done
done
touch "$SCRATCH/stop"
for index in 0 1 2; do
  wait "${workers[index]}" || fail "a worker: $(cat "$SCRATCH"/log-*)"
done
[[ $checks -ge 4 && $(cat "$SCRATCH"/rounds-* | wc -l) -ge 3 ]] || fail "too little was done"
veneer check >"$SCRATCH/said" || fail "after all: $(cat "$SCRATCH/said")"
expect "images at the end" "veneer.test/galley:v1" \
  "$(veneer images --json | python3 -c 'import json, sys
print(*[n for x in json.load(sys.stdin) for n in x["names"]])')"
veneer gc >/dev/null

# --- killed ---
damage() {
  python3 - "$root" <<'PYTHON'
import pathlib, sqlite3, sys
root = pathlib.Path(sys.argv[1])
layers = sorted((root / "layers/sha256").iterdir())
tar = bytearray((layers[0] / "layer.tar").read_bytes())
tar[len(tar) // 2] ^= 4
(layers[0] / "layer.tar").chmod(0o600)
(layers[0] / "layer.tar").write_bytes(tar)
next(layers[1].glob("layer*.erofs")).unlink()
next((root / "blobs/sha256").iterdir()).unlink()
(root / "layers/sha256" / ("0" * 64)).mkdir()
with sqlite3.connect(root / "store.db", timeout=30) as db:
    db.execute("DELETE FROM variants WHERE layer = (SELECT id FROM layers WHERE diff_id = ?)",
               [bytes.fromhex(layers[2].name)])
    db.execute("DELETE FROM blobs")
db.close()
PYTHON
}
repair_all() {
  veneer check --repair --from "$image" >"$SCRATCH/said" ||
    fail "not repaired: $(cat "$SCRATCH/said")"
}
# is_repaired: after a kill there is the damage, or less of it, and check can tell.
is_repaired() {
  local status=0
  veneer check --json >"$SCRATCH/json" || status=$?
  [[ $status == 0 || $status == 3 ]] || fail "check after a kill: $status"
  [[ $status == 0 ]]
}
damage
began=$(date +%s%N)
repair_all
whole_us=$((($(date +%s%N) - began) / 1000))
expect "the container after a repair" "$content" "$(shown)"
damage
kills=0 repairs=1
while [[ $kills -lt 40 ]]; do
  "$VENEER" --root "$root" --run "$SCRATCH/run" check --repair --from "$image" >/dev/null 2>&1 &
  repair=$!
  delay_us=$(((RANDOM * 32768 + RANDOM) % (whole_us * 11 / 10)))
  sleep "$(printf '%d.%06d' $((delay_us / 1000000)) $((delay_us % 1000000)))"
  if kill -9 "$repair" 2>/dev/null; then kills=$((kills + 1)); fi
  wait "$repair" 2>/dev/null || true
  if is_repaired; then
    repairs=$((repairs + 1))
    expect "the container after kills" "$content" "$(shown)"
    damage
  fi
done
repair_all
veneer check >"$SCRATCH/said" || fail "damage is left: $(cat "$SCRATCH/said")"
expect "the container at the end" "$content" "$(shown)"
veneer gc >/dev/null
expect "leftovers" "" "$(find "$root/staging" "$root/trash" -mindepth 1)"
echo "$checks checks beside others; $repairs repairs, $kills killed"
