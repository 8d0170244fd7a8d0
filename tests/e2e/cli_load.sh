#!/usr/bin/env bash
# The three kinds of image files give the same layers; loading twice changes nothing.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

tree_of() { (cd "$1" && find . -printf '%y %m %U:%G %n %s %P %l\n' | sort); }

python3 "$SUPPORT/make_image.py" "$SCRATCH/image" >/dev/null
image=$SCRATCH/image

top=$(driver load "$image/oci" 2>"$SCRATCH/stderr")
expect "standard error without a terminal" "" "$(cat "$SCRATCH/stderr")"
[[ $top =~ ^[0-9a-f]{64}$ ]] || fail "the id is '$top'"
expect "number of layers" 4 "$(driver list | wc -l)"
expect_no_leftovers
listing=$(home_listing)

# The ids are ChainIDs, as image-spec config.md defines them.
wanted=$(python3 - "$image/oci" <<'PYTHON'
import hashlib, json, pathlib, sys
out = pathlib.Path(sys.argv[1])
blob = lambda digest: json.loads((out / "blobs/sha256" / digest[7:]).read_bytes())
index = json.loads((out / "index.json").read_bytes())
diff_ids = blob(blob(index["manifests"][0]["digest"])["config"]["digest"])["rootfs"]["diff_ids"]
chain = diff_ids[0]
for diff_id in diff_ids[1:]:
    chain = "sha256:" + hashlib.sha256(f"{chain} {diff_id}".encode()).hexdigest()
print(chain[7:])
PYTHON
)
expect "id of the top layer" "$wanted" "$top"

for path in oci oci.tar docker.tar; do
  expect "id of $path, again" "$top" "$(driver load "$image/$path")"
  [[ $(home_listing) == "$listing" ]] || fail "loading $path again changed the home"
  expect "id of $path in a home of its own" "$top" \
    "$(veneer --root "$SCRATCH/$path.root" driver load "$image/$path")"
  diff <(tree_of "$HOME_DIR/$top") <(tree_of "$SCRATCH/$path.root/overlay/$top") ||
    fail "the tree of $path is another"
done
# From a pipe, and compressed as a whole.
for command in cat "gzip -1c" "zstd -qc"; do
  root=$(mktemp -d "$SCRATCH/pipe.XXXXXX")
  expect "id of a tar through $command" "$top" \
    "$($command "$image/oci.tar" | veneer --root "$root" driver load -)"
done

driver --json load "$image/oci.tar" | python3 -c '
import json, sys
answer = json.load(sys.stdin)
assert answer["id"] == sys.argv[1] == answer["layers"][3]["id"], answer
assert [layer["existed"] for layer in answer["layers"]] == [True] * 4, answer
assert all(layer["diff_id"].startswith("sha256:") for layer in answer["layers"]), answer
assert answer["names"] == ["veneer.test/galley:v1"], answer
' "$top" || fail "load --json"
expect "with the image named" "$top" \
  "$(driver load --name veneer.test/galley:v1 "$image/docker.tar")"
refused 1 '^veneer: driver load: .*galley:v1' driver load --name other:v1 "$image/docker.tar"
refused 1 '^veneer: driver load: .*s390x' driver load --platform linux/s390x "$image/oci"

# Two at once into one empty home: both succeed.
pair() { veneer --root "$SCRATCH/pair" driver load "$image/$1"; }
pair oci >"$SCRATCH/first" & first=$!
pair docker.tar >"$SCRATCH/second" & second=$!
wait "$first" || fail "the first of two loads"
wait "$second" || fail "the second of two loads"
expect "ids of two loads at once" "$top $top" "$(cat "$SCRATCH/first") $(cat "$SCRATCH/second")"

# An image without layers is refused, and says so.
python3 - "$SCRATCH/empty" <<'PYTHON'
import os, pathlib, sys
sys.path.insert(0, os.environ["SUPPORT"])
import oci_layout
oci_layout.write_layout(pathlib.Path(sys.argv[1]), [])
PYTHON
refused 1 '^veneer: driver load: .*no layers' driver load "$SCRATCH/empty"

# Progress is for terminals: it is seen there, leaves nothing behind, and --quiet is without it.
on_terminal() {
  local command
  command=$(printf '%q ' "$VENEER" --run "$SCRATCH/run" \
    --root "$(mktemp -d "$SCRATCH/tty.XXXXXX")" "$@")
  script -qec "$command" /dev/null </dev/null
}
shown=$(on_terminal driver load "$image/oci")
[[ $shown == *$'\r'"layer 1/4"*$'\r\e[K'"$top"* ]] || fail "progress: $(cat -v <<<"$shown")"
expect "with --quiet" "$top" "$(on_terminal --quiet driver load "$image/oci" | tr -d '\r')"
