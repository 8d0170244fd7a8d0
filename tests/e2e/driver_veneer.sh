#!/usr/bin/env bash
# The driver `veneer` as Docker uses one: layers of an image, an init layer, a container, a commit.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

layers() { veneer driver --driver veneer "$@"; }

python3 "$SUPPORT/make_image.py" "$SCRATCH/image" >/dev/null
top=$(layers load "$SCRATCH/image/oci")
expect "the same ids as with the other driver" "$(driver load "$SCRATCH/image/oci")" "$top"
expect "number of layers" 4 "$(layers list | wc -l)"
expect "layers again" "$top" "$(layers load "$SCRATCH/image/docker.tar")"
layers status | grep -qE '^Form of Layers +packed$' || fail "status: $(layers status)"

# The bytes of each layer come back as they were applied.
mapfile -t ids < <(layers load "$SCRATCH/image/oci" --json |
  python3 -c 'import json, sys
for layer in json.load(sys.stdin)["layers"]: print(layer["id"], layer["diff_id"][7:])')
parent=
for line in "${ids[@]}"; do
  read -r id diff_id <<<"$line"
  expect "digest of the diff of $id" "$diff_id  -" "$(layers diff "$id" "$parent" | sha256sum)"
  expect "DiffID in the metadata of $id" "sha256:$diff_id" \
    "$(layers metadata "$id" --json |
      python3 -c 'import json, sys; print(json.load(sys.stdin)["DiffID"])')"
  parent=$id
done

# The tree is the one that the other driver makes.
# Directories have sizes of their own on each file system, and a merged one has no time of the tar.
tree_of() {
  (cd "$1" && find . \( -type d -printf 'd %m %U:%G %P\n' \) -o \
    -printf '%y %m %U:%G %s %T@ %P %l\n') | sort
}
whole=$(layers get "$top")
diff <(tree_of "$whole") <(tree_of "$(driver get "$top")") || fail "the trees differ"
layers put "$top"
if mountpoint -q "$whole" 2>/dev/null; then fail "put does not unmount"; fi

# docker run: an init layer, its container over it.
layers create-rw box-init "$top"
init=$(layers get box-init)
echo box >"$init/etc/hostname"
refused 1 '^veneer: driver create-rw: .*mounted' layers create-rw box box-init
layers put box-init
layers create-rw box box-init
box=$(layers get box)
expect "path of a second get" "$box" "$(layers get box)"
expect "a file of the init layer" box "$(cat "$box/etc/hostname")"
echo changed >"$box/etc/passwd"
rm "$box/srv/stock/fresh"
wanted='C /etc
C /etc/passwd
C /srv
C /srv/stock
D /srv/stock/fresh'
expect "changes" "$wanted" "$(layers changes box box-init)"
expect "size of the changes" "8 B" "$(layers size box box-init)"
expect "changes of the init layer" "C /etc
A /etc/hostname" "$(layers changes box-init "$top")"
refused 1 '^veneer: driver apply: ' layers apply box box-init
layers put box
layers put box
if mountpoint -q "$box" 2>/dev/null; then fail "the last put does not unmount"; fi

# docker commit: the diff of the container is a new layer of the image.
layers diff box box-init >"$SCRATCH/changes.tar"
layers create new "$top"
layers apply new "$top" <"$SCRATCH/changes.tar" >/dev/null
layers diff new "$top" | cmp - "$SCRATCH/changes.tar" || fail "the diff of what was applied differs"
refused 1 '^veneer: driver apply: .*content already' layers apply new "$top"
layers create-rw second new
second=$(layers get second)
expect "the changed file" changed "$(cat "$second/etc/passwd")"
[[ ! -e $second/srv/stock/fresh ]] || fail "the removed file is back"
[[ ! -e $second/etc/hostname ]] || fail "the init layer is in the image"

# Removed from the top down; a mounted one too.
refused 1 '^veneer: driver remove: .*on top' layers remove new
for id in second new box box-init; do layers remove "$id"; done
if mountpoint -q "$second" 2>/dev/null; then fail "remove does not unmount"; fi
for ((i = ${#ids[@]} - 1; i >= 0; --i)); do layers remove "${ids[i]% *}"; done
expect "layers at the end" "" "$(layers list)"
layers cleanup
expect "what is left on disk" "" "$(cd "$SCRATCH/root/veneer" &&
  find layers/sha256 snapshots staging trash -mindepth 1)"
if grep " $SCRATCH/r[^ ]*/veneer" /proc/self/mountinfo; then fail "a mount is left"; fi

# What it does not do, it says.
refused 1 '^veneer: driver list: .*id 0 is outside the id map' layers --uidmap 1:1000:10 list
refused 1 '^veneer: driver list: .*speed' layers --storage-opt veneer.speed=9 list
refused 1 '^veneer: driver list: .*takes packed or directory' \
  layers --storage-opt veneer.form=x list
layers --home "$SCRATCH/plain" --storage-opt veneer.form=directory \
  load "$SCRATCH/image/oci" >/dev/null
expect "the diff of a layer in directory form" "${ids[0]#* }  -" \
  "$(layers --home "$SCRATCH/plain" diff "${ids[0]% *}" | sha256sum)"
