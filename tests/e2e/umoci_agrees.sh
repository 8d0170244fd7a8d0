#!/usr/bin/env bash
# What `veneer driver load` makes of an image equals what umoci makes of it, entry by entry and
# attribute by attribute, and a layer equals what GNU tar makes of its archive.
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

# same WHAT ENTRIES TREE TREE: the second tree is the driver's. The archives have no record of the
# root, whose time is then everyone's own.
same() {
  local tree files=()
  for tree in "$3" "$4"; do
    touch -d @0 "$tree"
    files+=("$(mktemp "$scratch/lines.XXXXXX")")
    python3 "$support/tree_lines.py" "$tree" >"${files[-1]}"
  done
  diff "${files[@]}" >&2 || { echo "$1: the trees differ" >&2; return 1; }
  [[ $(wc -l <"${files[0]}") == "$2" ]] ||
    { echo "$1: $(wc -l <"${files[0]}") entries instead of $2" >&2; return 1; }
}

# agrees WHAT ENTRIES TAG [OPTION of make_image.py...]
agrees() {
  local what=$1 entries=$2 tag=$3 image=$scratch/$1/oci top
  shift 3
  python3 "$support/make_image.py" "$scratch/$what" "$@" >/dev/null
  in_cell umoci --log error raw unpack --image "$image:$tag" "$scratch/$what/tree" >/dev/null
  top=$(driver "$what" load "$image")
  same "$what" "$entries" "$scratch/$what/tree" "$scratch/$what/home/$top/root"
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
