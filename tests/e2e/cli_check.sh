#!/usr/bin/env bash
# veneer check: damage of every kind is made, found, named with who needs it, and repaired.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

python3 "$SUPPORT/make_image.py" "$SCRATCH/image" >/dev/null
image=$SCRATCH/image/docker.tar
name=veneer.test/galley:v1
root=$SCRATCH/root
value() { python3 -c "import json, sys; it = json.load(sys.stdin); print($1)"; }
# What the container shows: names, kinds, sizes, modes, and the contents of files.
shown() {
  local path
  path=$(veneer mount box)
  (cd "$path" && find . -printf '%y %m %U %G %s %P\n' | sort && find . -type f -print0 | sort -z |
    xargs -0 sha256sum)
  veneer umount box
}
sql() {
  python3 -c 'import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db: db.execute(sys.argv[2])' "$root/store.db" "$1"
}
sql_value() {
  python3 -c 'import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])' "$root/store.db" "$1"
}
# flip FILE [OFFSET]: one bit of it, in the middle if no place is given.
flip() {
  python3 -c 'import pathlib, sys
path = pathlib.Path(sys.argv[1])
data = bytearray(path.read_bytes())
data[int(sys.argv[2]) if len(sys.argv) > 2 else len(data) // 2] ^= 4
path.write_bytes(data)' "$@"
}
# check_says STATUS KIND... [--fast]: the kinds of damage that it finds.
check_says() {
  local wanted=$1 status=0
  shift
  veneer check --json "${@:2}" >"$SCRATCH/json" || status=$?
  expect "kinds of damage" "$1" \
    "$(value '" ".join(sorted(one["kind"] for one in it["damages"]))' <"$SCRATCH/json")"
  expect "status of check" "$wanted" "$status"
}
is_clean() { check_says 0 ""; }
# repaired WANTED-LINE-REGEX [OPTION...]: a dry run says so and changes nothing; then it is done,
# and the store is as it was.
repaired() {
  local wanted=$1 status=0
  shift
  local before
  before=$(cd "$root" && find layers snapshots blobs -printf '%p %i %T@\n' | sort)
  veneer check --repair --dry-run "$@" >"$SCRATCH/dry" || status=$?
  expect "status of a dry run" 3 "$status"
  grep -qE "^would do: $wanted" "$SCRATCH/dry" || fail "a dry run says '$(cat "$SCRATCH/dry")'"
  expect "what a dry run changes" "$before" \
    "$(cd "$root" && find layers snapshots blobs -printf '%p %i %T@\n' | sort)"
  veneer check --repair "$@" >"$SCRATCH/said" || fail "not repaired: $(cat "$SCRATCH/said")"
  grep -qE "^$wanted" "$SCRATCH/said" || fail "repair says '$(cat "$SCRATCH/said")'"
  is_clean
  expect "the container" "$content" "$(shown)"
}
# Not by --repair alone.
not_repaired() {
  local status=0
  veneer check --repair >"$SCRATCH/said" || status=$?
  expect "status of what cannot be repaired" 3 "$status"
  grep -qF "$name" "$SCRATCH/said" || fail "the image is not named: $(cat "$SCRATCH/said")"
}

expect "check of an empty store" "0 layers, 0 snapshots, 0 blobs, 0 B of tars read: no damage" \
  "$(veneer check)"
veneer load "$image" >/dev/null
veneer create "$name" --name box >/dev/null
content=$(shown)
is_clean
check_says 0 "" --fast
expect "counts" "4 5 1" "$(value 'it["layers"], it["snapshots"], it["blobs"]' <"$SCRATCH/json" |
  tr -d '(),')"
expect "quiet" "" "$(veneer check -q)"
expect "a repair of nothing" "[] []" \
  "$(veneer check --repair --json | value 'str(it["actions"]) + " " + str(it["left"])')"

layer=$(veneer layers --json "$name" | value 'it[0]["diff_id"]')
directory=$root/layers/sha256/${layer#sha256:}
tar=$directory/layer.tar
index=$directory/layer.erofs
[[ -s $index ]] || fail "the layer is not packed"

# --- indexes ---
for damage in "flip $index" "flip $index 1100" "truncate -s 512 $index" "truncate -s 0 $index" \
  "rm $index"; do
  $damage
  check_says 3 index
  expect "who needs the index" "['$name'] ['box']" \
    "$(value 'str(it["damages"][0]["images"]) + " " + str(it["damages"][0]["containers"])' \
      <"$SCRATCH/json")"
  repaired "layer.erofs of layer $layer: made anew from its tar"
done
rm "$index"
check_says 3 index --fast
repaired "layer.erofs of layer $layer" --fast
flip "$index"
check_says 0 "" --fast # it reads no files
rm "$index"
mkdir "$index"
check_says 3 index
repaired "layer.erofs of layer $layer"
# An index that is whole, but of another tar.
sql "UPDATE variants SET digest = zeroblob(32) WHERE id = 1"
check_says 3 index
repaired ".* of layer sha256:.*: made anew from its tar"

# --- tars ---
for damage in "flip $tar" "flip $tar 3" "truncate -s 1024 $tar" "truncate -s +512 $tar" \
  "truncate -s 0 $tar" "rm $tar"; do
  $damage
  check_says 3 tar
  not_repaired
  check_says 3 tar
  repaired "tar of layer $layer: taken from the image file" --from "$image"
done
truncate -s 1024 "$tar"
check_says 3 tar --fast
flip "$index"
check_says 3 "index tar"
repaired "tar of layer $layer" --from "$SCRATCH/image/oci"
rm -r "$directory"
check_says 3 layer
not_repaired
repaired "tar of layer $layer" --from "$SCRATCH/image/oci.tar"
# Every layer at once.
rm -r "$root"/layers/sha256/*
check_says 3 "layer layer layer layer"
repaired "tar of layer $layer" --from "$image"
# Another image does not have it; what it has in its place is not taken.
python3 "$SUPPORT/make_image.py" "$SCRATCH/other" --layers 1 --small-ids >/dev/null
flip "$tar"
status=0
veneer check --repair --from "$SCRATCH/other/oci" >"$SCRATCH/said" || status=$?
expect "status without the layer" 3 "$status"
cp -r "$SCRATCH/image/oci" "$SCRATCH/forged"
blob=$(python3 - "$SCRATCH/forged" <<'PYTHON'
import json, pathlib, sys
blobs = pathlib.Path(sys.argv[1]) / "blobs/sha256"
index = json.loads((pathlib.Path(sys.argv[1]) / "index.json").read_bytes())
manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_bytes())
print(blobs / manifest["layers"][0]["digest"][7:])
PYTHON
)
flip "$blob"
status=0
veneer check --repair --from "$SCRATCH/forged" >"$SCRATCH/said" || status=$?
expect "status with a damaged image file" 3 "$status"
grep -q 'not repaired: ' "$SCRATCH/said" || fail "no reason: $(cat "$SCRATCH/said")"
expect "what a failed repair leaves in staging" "" "$(ls -A "$root/staging")"
repaired "tar of layer $layer" --from "$image"

# --- configurations ---
config=$(ls "$root/blobs/sha256")
for damage in "flip $root/blobs/sha256/$config" "truncate -s 5 $root/blobs/sha256/$config" \
  "rm $root/blobs/sha256/$config"; do
  $damage
  check_says 3 blob
  not_repaired
  repaired "blob sha256:$config: taken from the image file" --from "$image"
done
sql "DELETE FROM blobs"
check_says 3 blob
repaired "blob sha256:$config: its row made anew"

# --- what has no partner ---
mkdir "$root/layers/sha256/$(printf '0%.0s' {1..64})" "$root/snapshots/4711"
mkdir "$root/layers/sha256/lost"
touch "$directory/layer.0123456789abcdef.erofs" "$root/blobs/sha256/stray"
check_says 3 "orphan orphan orphan orphan orphan"
repaired "snapshots/4711: moved to trash"
[[ ! -e $root/snapshots/4711 ]] || fail "the orphan is still there"
mkdir "$root/snapshots/lost+found" # not of our making
is_clean
rmdir "$root/snapshots/lost+found"
sql "INSERT INTO labels VALUES (4711, 'a', 'b')"
check_says 3 reference
repaired "label a of snapshot 4711: removed"
sql "INSERT INTO image_names VALUES ('docker.io/library/ghost:latest', 4711)"
check_says 3 reference
repaired "image name docker.io/library/ghost:latest: removed, as its image is not there"
lowest="id = (SELECT min(id) FROM layers)"
bytes=$(sql_value "SELECT file_bytes FROM layers WHERE $lowest")
sql "UPDATE layers SET file_bytes = file_bytes + 1 WHERE $lowest"
check_says 3 row
repaired "layer sha256:[0-9a-f]+: its row corrected"
expect "the bytes of a corrected row" "$bytes" \
  "$(sql_value "SELECT file_bytes FROM layers WHERE $lowest")"
sql "INSERT INTO layers(diff_id, tar_bytes, file_bytes, depends_on_lower)
  VALUES (zeroblob(32), 1, 1, 0)"
check_says 3 layer
repaired "layer sha256:0*: removed, as nothing has it"
sql "INSERT INTO blobs VALUES (zeroblob(32), 1)"
check_says 3 blob
repaired "blob sha256:0*: its row removed"

# --- snapshots ---
snapshot=$(sql_value "SELECT snapshot FROM containers")
rmdir "$root/snapshots/$snapshot/work/work" "$root/snapshots/$snapshot/work"
check_says 3 snapshot
repaired "snapshots/$snapshot/work: made anew"
for damage in "mv $root/snapshots/$snapshot/fs" "mv $root/snapshots/$snapshot"; do
  $damage "$SCRATCH/kept"
  check_says 3 snapshot
  expect "who needs the snapshot" "['box']" \
    "$(value 'it["damages"][0]["containers"]' <"$SCRATCH/json")"
  status=0
  veneer check --repair >"$SCRATCH/said" || status=$?
  expect "status without the container's files" 3 "$status"
  grep -qE '^snapshot .* box$' "$SCRATCH/said" || fail "no container: $(cat "$SCRATCH/said")"
  mv "$SCRATCH/kept" "${damage#mv }"
done
is_clean

# --- rows that others need ---
cp "$root/store.db" "$SCRATCH/store.db"
cp "$root/store.db-wal" "$SCRATCH/store.db-wal" 2>/dev/null || true
restore() {
  rm -f "$root"/store.db*
  cp "$SCRATCH"/store.db* "$root"
}
# lost KINDS SQL...: rows go, which others refer to. They are found with the image that they were
# of, its files are kept, and they come back.
lost() {
  local kinds=$1 one
  shift
  for one in "$@"; do sql "$one"; done
  check_says 3 "$kinds"
  repaired "rows of image $name: made anew from its layers"
  "$VENEER" --root "$root" --run "$SCRATCH/run" save -q "$name" -o "$SCRATCH/saved.tar"
  restore
}
top=$(sql_value "SELECT top FROM images")
for id in $(sql_value "SELECT group_concat(id, ' ') FROM snapshots WHERE kind = 'committed'"); do
  # The image and the container refer to the topmost.
  lost "$([[ $id != "$top" ]] || echo "reference ")reference" "DELETE FROM snapshots WHERE id = $id"
done
lost "layer orphan reference" "DELETE FROM variants WHERE id = 1"
lost "orphan reference" "DELETE FROM layers WHERE id = 1"
lost "orphan reference" "DELETE FROM layers WHERE id = 1" "DELETE FROM variants WHERE layer = 1"
lost "orphan orphan orphan orphan reference reference" "DELETE FROM layers" "DELETE FROM variants" \
  "DELETE FROM snapshots WHERE kind = 'committed'"
lost "reference reference" "DELETE FROM images"
lost "reference" "UPDATE images SET top = 4711"
sql "DELETE FROM snapshots WHERE kind = 'active'"
check_says 3 "orphan reference"
repaired "snapshot of container box: its row made anew"
restore
# Without the container's files there is nothing to make a row for.
sql "DELETE FROM snapshots WHERE kind = 'active'"
mv "$root/snapshots/$snapshot" "$SCRATCH/kept"
check_says 3 reference
status=0
veneer check --repair >"$SCRATCH/said" || status=$?
expect "status without the container's files" 3 "$status"
grep -q 'container box' "$SCRATCH/said" || fail "no container: $(cat "$SCRATCH/said")"
mv "$SCRATCH/kept" "$root/snapshots/$snapshot"
restore
# Nothing is thrown away that lost rows may have had: not by repairs, not after a crash.
sql "DELETE FROM layers WHERE id = 1"
flip "$root/blobs/sha256/$config"
touch "$root/opened/0123456789abcdef"
check_says 3 "blob orphan reference"
not_repaired
[[ -s $tar && -s $index ]] || fail "what a lost row may have had was thrown away"
repaired "blob sha256:$config: taken from the image file" --from "$image"
restore
# Only digests prove which layer it was.
sql "DELETE FROM layers WHERE id = 1"
flip "$tar"
not_repaired
grep -q 'not repaired: layer .*the digest is' "$SCRATCH/said" || fail "$(cat "$SCRATCH/said")"
[[ -s $tar ]] || fail "the layer was thrown away"
repaired "rows of image $name: made anew from its layers" --from "$image"
restore
is_clean

# --- the database ---
python3 - "$root" <<'PYTHON'
import pathlib, sqlite3, sys
root = pathlib.Path(sys.argv[1])
db = sqlite3.connect(root / "store.db")
db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
page = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'labels'").fetchone()[0]
size = db.execute("PRAGMA page_size").fetchone()[0]
db.close()
data = bytearray((root / "store.db").read_bytes())
data[(page - 1) * size:(page - 1) * size + 64] = b"\xff" * 64
(root / "store.db").write_bytes(data)
PYTHON
status=0
veneer check >"$SCRATCH/said" || status=$?
expect "status with a damaged table" 3 "$status"
grep -qE '^database +store.db' "$SCRATCH/said" || fail "database: $(cat "$SCRATCH/said")"
printf 'no database at all, whatever it is called %0200d' 0 >"$root/store.db"
rm -f "$root"/store.db-*
status=0
veneer check >"$SCRATCH/said" || status=$?
expect "status without a database" 3 "$status"
grep -qE '^database +store.db' "$SCRATCH/said" || fail "database: $(cat "$SCRATCH/said")"
# An empty one makes everything an orphan, which it is not: nothing is thrown away.
rm -f "$root"/store.db*
status=0
veneer check --repair >"$SCRATCH/said" || status=$?
expect "status with an empty database" 3 "$status"
[[ -s $tar ]] || fail "the layers of a lost database were thrown away"
restore
is_clean
expect "the container at the end" "$content" "$(shown)"

# --- the command line ---
refused 2 '^veneer: check: .*--repair' veneer check --dry-run
refused 2 '^veneer: check: .*--repair' veneer check --from "$image"
truncate -s 0 "$tar"
refused 1 '^veneer: check: .*no/such' veneer check --repair --from "$SCRATCH/no/such"
mkdir "$SCRATCH/file"
touch "$SCRATCH/file/root"
refused 1 '^veneer: check: ' "$VENEER" --root "$SCRATCH/file/root" check
