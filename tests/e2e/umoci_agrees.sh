#!/usr/bin/env bash
# What `veneer driver load` makes of an image, and what its layers show when they are packed, or
# directories, and mounted over each other, equals what umoci makes of it, entry by entry and
# attribute by attribute; and a layer equals what GNU tar makes of its archive.
set -euo pipefail
: "${VENEER:?the path of the veneer binary}"
here=$(dirname "$(realpath "$0")")
support=$here/../support
# shellcheck source=tests/support/cell.sh
. "$support/cell.sh"
own_namespaces "$@"

scratch=$(make_scratch)
# driver HOME VERB...: a home for each image, because one would not read the layers again.
driver() { "$VENEER" --run "$scratch/run" driver --home "$scratch/$1/home" "${@:2}"; }

# Marks for user namespaces show in mounts of packed layers.
lines_of() {
  python3 "$support/tree_lines.py" "$1" | sed 's/ user\.overlay\.[a-z]*=[0-9]*//g; s/ *$//'
}

# same WHAT ENTRIES TREE TREE: the second tree is ours. The archives have no record of the root,
# whose time is then everyone's own; that of a mounted stack is 0.
same() {
  local tree files=()
  for tree in "$3" "$4"; do
    [[ ! -w $tree ]] || touch -d @0 "$tree"
    files+=("$(mktemp "$scratch/lines.XXXXXX")")
    lines_of "$tree" >"${files[-1]}"
  done
  diff "${files[@]}" >&2 || { echo "$1: the trees differ" >&2; return 1; }
  [[ $(wc -l <"${files[0]}") == "$2" ]] ||
    { echo "$1: $(wc -l <"${files[0]}") entries instead of $2" >&2; return 1; }
}

# same_mounted WHAT ENTRIES FORM: the image's layers, each made over those below it.
same_mounted() {
  local at=$scratch/$1/$3 blob jobs=() stack=() mounts
  mkdir -p "$at/target"
  while read -r blob; do
    jobs+=("$blob" "$at/${#stack[@]}")
    stack+=("$at/${#stack[@]}")
  done < <(python3 "$support/oci_blobs.py" "$scratch/$1/oci")
  "$VENEER" layer pack --form "$3" "${jobs[@]}" >/dev/null
  mapfile -t stack < <(printf '%s\n' "${stack[@]}" | tac)
  "$VENEER" --run "$scratch/run" layer mount "${stack[@]}" "$at/target"
  mounts=$(grep -c " $at/[0-9]*/mnt " /proc/self/mountinfo || true)
  [[ $3 == directory || $mounts == "${#stack[@]}" ]] ||
    { echo "$1: $mounts of ${#stack[@]} layers are packed" >&2; return 1; }
  same "$1, $3" "$2" "$scratch/$1/tree" "$at/target"
  "$VENEER" --run "$scratch/run" layer unmount "$at/target"
}

# agrees WHAT ENTRIES TAG [OPTION of make_image.py...]
agrees() {
  local what=$1 entries=$2 tag=$3 image=$scratch/$1/oci top form
  shift 3
  python3 "$support/make_image.py" "$scratch/$what" "$@" >/dev/null
  in_cell umoci --log error raw unpack --image "$image:$tag" "$scratch/$what/tree" >/dev/null
  top=$(driver "$what" load "$image")
  same "$what" "$entries" "$scratch/$what/tree" "$scratch/$what/home/$top/root"
  for form in packed directory; do same_mounted "$what" "$entries" "$form"; done
}

# The older umoci does not know zstd.
cell_start "$support/../../build/clients/bookworm" "$scratch"
agrees plain 78 v1
agrees deep 159 l120 --layers 120
cell_stop
cell_start "$support/../../build/clients/forky" "$scratch"
agrees zstd 78 v1 --zstd
cell_stop

# The lowest layer has no whiteouts, so that GNU tar makes its tree.
mkdir -p "$scratch/tar/tree"
layer=$(tar -xOf "$scratch/plain/docker.tar" manifest.json |
  python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["Layers"][0])')
tar -xOf "$scratch/plain/docker.tar" "$layer" >"$scratch/layer.tar"
tar --numeric-owner --same-owner --same-permissions --xattrs --xattrs-include='*' \
  --delay-directory-restore --warning=no-unknown-keyword \
  -C "$scratch/tar/tree" -xf "$scratch/layer.tar"
driver tar create single
driver tar apply single <"$scratch/layer.tar" >/dev/null
same "GNU tar" 81 "$scratch/tar/tree" "$scratch/tar/home/single/root"
