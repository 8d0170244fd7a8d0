#!/usr/bin/env bash
# Damaged and hostile layers are refused in one line that says where, and leave no trace.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

python3 "$SUPPORT/bad_layers.py" "$SCRATCH/bad"
driver load "$SCRATCH/bad/good" >/dev/null
listing=$(home_listing)
mounts=$(cat /proc/self/mountinfo)

while IFS=$'\t' read -r name wanted; do
  # A second is long for any of these: the gigabyte of zeros is not read.
  refused 1 "$wanted" timeout 10 "$VENEER" --root "$SCRATCH/root" --run "$SCRATCH/run" \
    driver load "$SCRATCH/bad/$name"
  [[ $(home_listing) == "$listing" ]] ||
    fail "$name changed the home: $(diff <(echo "$listing") <(home_listing))"
done <"$SCRATCH/bad/cases"
[[ $(wc -l <"$SCRATCH/bad/cases") -gt 70 ]] || fail "too few cases"
expect "mounts" "$mounts" "$(cat /proc/self/mountinfo)"
expect "files that escaped" "" "$(find "$SCRATCH" / -maxdepth 2 -name escape 2>/dev/null)"

# apply has nothing to verify with, and leaves the created layer as it was all the same.
good=$(driver list)
driver create empty "$good"
listing=$(home_listing)
for name in truncated-1536 checksum climbing-name device-0-0 deep-pax; do
  blob=$(python3 - "$SCRATCH/bad/$name" <<'PYTHON'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
read = lambda digest: json.loads((out / "blobs/sha256" / digest[7:]).read_bytes())
manifest = read(json.loads((out / "index.json").read_bytes())["manifests"][0]["digest"])
print(out / "blobs/sha256" / manifest["layers"][1]["digest"][7:])
PYTHON
)
  apply_blob() { driver apply empty "$good" <"$blob"; }
  refused 1 '^veneer: driver apply: layer empty: entry ("[^"]*" )?at offset [0-9]+: ' apply_blob
  [[ $(home_listing) == "$listing" ]] || fail "apply of $name changed the home"
done
