#!/usr/bin/env bash
# The driver `overlay` and Docker's own driver of that name work on one directory in turn: Docker's
# layers are read and extended by ours, and layers that ours made anew run under Docker.
set -euo pipefail
: "${VENEER:?the path of the veneer binary}"
here=$(dirname "$(realpath "$0")")
support=$here/../support
# shellcheck source=tests/support/cell.sh
. "$support/cell.sh"
own_namespaces "$@"

scratch=$(make_scratch)
data=$scratch/docker
home=$data/overlay
state=$data/image/overlay/layerdb
image=veneer.test/galley:v1

docker() { in_cell docker "$@"; }
veneer() { "$VENEER" --run "$scratch/run" "$@"; }
driver() { veneer driver --driver overlay --home "$home" "$@"; }
tree_of() { python3 "$support/tree_lines.py" "$@"; }

fail() {
  echo "FAIL: $*" >&2
  exit 1
}

# expect WHAT WANTED GOT
expect() { [[ $2 == "$3" ]] || fail "$1: wanted '$2', got '$3'"; }

# same WHAT FILE FILE
same() { diff "$2" "$3" >&2 || fail "$1: they differ"; }

# --- what Docker knows -----------------------------------------------------------------------

# The driver's ids of an image's layers, lowest first.
layers_of() {
  docker image inspect --format '{{join .RootFS.Layers "\n"}}' "$1" | python3 -c '
import hashlib, pathlib, sys
chain = ""
for diff_id in sys.stdin.read().split():
    both = f"{chain} {diff_id}".encode()
    chain = "sha256:" + hashlib.sha256(both).hexdigest() if chain else diff_id
    print((pathlib.Path(sys.argv[1]) / chain.replace(":", "/") / "cache-id").read_text())
' "$state"
}

# What the driver says of a layer equals what Docker says, GraphDriver.Data of `inspect`.
metadata_agrees() {
  local metadata
  metadata=$(driver --json metadata "$2") || fail "no metadata of $2"
  diff <(python3 -m json.tool --sort-keys <<<"$1") \
    <(python3 -m json.tool --sort-keys <<<"$metadata") >&2 || fail "the metadata of $2 differ"
}

# The running container's layer; mounts made in the cell are seen only from there.
docker_tree() { tree_of "/proc/$CELL/root$home/$mount_id/merged"; }

# Docker writes an image with the archives that it was loaded with, made anew from the layers'
# files and its own notes, or fails; their digests must be the image's.
saves() {
  docker image save --output "$scratch/saved.tar" "$1"
  python3 - "$scratch/saved.tar" <<'PYTHON' || fail "docker save $1"
import hashlib, json, sys, tarfile
with tarfile.open(sys.argv[1]) as tar:
    read = lambda name: tar.extractfile(name).read()
    [manifest] = json.loads(read("manifest.json"))
    digests = ["sha256:" + hashlib.sha256(read(name)).hexdigest() for name in manifest["Layers"]]
    wanted = json.loads(read(manifest["Config"]))["rootfs"]["diff_ids"]
    assert digests == wanted and len(wanted) >= 4, (digests, wanted)
PYTHON
}

# --- what the container does -----------------------------------------------------------------

# Every kind of change. The times say when the test ran, but for those that it sets.
cat >"$scratch/cook" <<'COMMANDS'
set -e
cd /srv
echo more >>stock/fresh
echo new >stock/new
ln stock/new stock/new-too
chmod 751 stock/drawer
rm stock/eaten
rm -r menu
mkdir menu
echo pie >menu/pie
rm -r owners/sticky
echo "a file now" >owners/sticky
rm turn
mkdir turn
ln -s ../stock turn/link
mv names/crème* names/brûlée
chown 7:8 stock/replaced
echo '#!/bin/sh' >capable
chmod 4755 capable
touch -d @1500000000 menu capable stock/new turn
touch /fromage
COMMANDS
cook='C /srv
C /srv/menu
D /srv/menu/cake
A /srv/menu/pie
C /srv/names
A /srv/names/brûlée
D /srv/names/crème brûlée ❄
C /srv/owners
C /srv/owners/sticky
C /srv/stock
C /srv/stock/drawer
D /srv/stock/eaten
C /srv/stock/fresh
A /srv/stock/new
A /srv/stock/new-too
C /srv/stock/replaced
C /srv/turn
A /srv/turn/link
A /srv/capable
A /fromage'

as_changes() { LC_ALL=C sort -k 2; }
cook=$(as_changes <<<"$cook")
# Docker's diffs have no record of the root, and nobody's have nanoseconds.
rootless() { sed "/^'\.'/d" "$1"; }
as_diffed() { rootless "$1" | sed -E 's/ mtime=([0-9]+)[0-9]{9}/ mtime=\1/'; }
# Another run makes the same files at another time.
undated() { as_diffed "$1" | sed -E 's/ mtime=1[^56][0-9]+/ mtime=now/'; }
run() { docker run --rm --network none "$@"; }

# --- Docker makes layers ---------------------------------------------------------------------

python3 "$support/make_image.py" "$scratch/image" >/dev/null
cell_start "$support/../../build/clients/bookworm" "$scratch"
dockerd_start "$data" overlay
docker load -qi "$scratch/image/docker.tar" >/dev/null
docker run --detach --name kept --network none $image \
  sh -c 'while :; do sleep 1000; done' >/dev/null
docker exec -i kept sh <"$scratch/cook"
docker commit kept galley:changed >/dev/null

container=$(docker inspect --format '{{.Id}}' kept)
mount_id=$(cat "$state/mounts/$container/mount-id")
init_id=$(cat "$state/mounts/$container/init-id")
layers=()
readarray -t layers < <(layers_of galley:changed)
top=${layers[3]}
changed=${layers[4]}
expect "the layers of the image" "${layers[*]:0:4}" "$(layers_of $image | xargs)"
docker_tree >"$scratch/container.tree"
docker diff kept | as_changes >"$scratch/changes"
expect "docker diff" "$cook" "$(cat "$scratch/changes")"
of_image=$(docker image inspect --format '{{json .GraphDriver.Data}}' $image)
of_container=$(docker inspect --format '{{json .GraphDriver.Data}}' kept)
docker kill kept >/dev/null
dockerd_stop

# --- ours reads them -------------------------------------------------------------------------

wanted=$(printf '%s\n' "${layers[@]}" "$mount_id" "$init_id" | sort)
expect "the list of layers" "$wanted" "$(driver list)"
expect "the home's directories" "$wanted" "$(cd "$home" && printf '%s\n' *)"
driver status | grep -qx 'Driver  *overlay' || fail "the status: $(driver status)"
metadata_agrees "$of_image" "$top"
metadata_agrees "$of_container" "$mount_id"

box=$(driver get "$mount_id")
expect "where Docker mounts it" "$home/$mount_id/merged" "$box"
tree_of "$box" >"$scratch/ours.tree"
same "the container's tree" "$scratch/container.tree" "$scratch/ours.tree"
expect "the changes" "$cook" "$(driver changes "$mount_id" "$init_id" | as_changes)"
driver put "$mount_id"
expect "the changes, not mounted" "$cook" "$(driver changes "$mount_id" "$init_id" | as_changes)"

# From the image to the container, Docker's init layer included.
driver diff "$mount_id" "$top" >"$scratch/container.tar"
driver create whole "$top"
driver apply whole "$top" <"$scratch/container.tar" >/dev/null
tree_of "$home/whole/root" >"$scratch/whole.tree"
same "the container as a layer" <(as_diffed "$scratch/container.tree") \
  <(as_diffed "$scratch/whole.tree")

# `docker commit`, by our hands.
driver diff "$mount_id" "$init_id" >"$scratch/changes.tar"
driver create commit "$top"
driver apply commit "$top" <"$scratch/changes.tar" >/dev/null
tree_of "$home/commit/root" >"$scratch/commit.tree"
tree_of "$home/$changed/root" >"$scratch/changed.tree"
same "the commit" <(rootless "$scratch/changed.tree") <(rootless "$scratch/commit.tree")

# --- and extends them ------------------------------------------------------------------------

driver create-rw box commit
box=$(driver get box)
echo ours >"$box/srv/ours"
rm -r "$box/srv/stock"
chroot "$box" /bin/sh -c 'echo hidden >/srv/menu/pie; ls -l /srv' >/dev/null
tree_of "$box" >"$scratch/box.tree"
driver put box
tree_of "$home/$top/root" >"$scratch/top.tree"
if grep -q " $home/" /proc/self/mountinfo; then fail "a mount is left"; fi

# --- Docker goes on --------------------------------------------------------------------------

# goes_on: the image and the container work as they did; what is committed runs and goes away.
goes_on() {
  expect "the images" "galley:changed $image" \
    "$(docker images --format '{{.Repository}}:{{.Tag}}' | sort | xargs)"
  expect "docker run" cake "$(run $image ls /srv/menu)"
  expect "docker run of what was committed" pie "$(run galley:changed cat /srv/menu/pie)"
  docker start kept >/dev/null
  docker_tree >"$scratch/again.tree"
  expect "docker diff, again" "$cook" "$(docker diff kept | as_changes)"
  docker exec kept sh -c 'rm /srv/menu/pie; echo tart >/srv/menu/tart'
  expect "docker diff of more" 2 "$(docker diff kept | grep -c '/srv/menu/')"
  docker commit kept galley:more >/dev/null
  expect "docker run of another commit" tart "$(run galley:more ls /srv/menu)"
  saves $image
  saves galley:changed
  docker rmi galley:more >/dev/null
  docker exec kept sh -c 'cd /srv/menu; echo pie >pie; rm tart; touch -d @1500000000 pie .'
  docker kill kept >/dev/null
}

dockerd_start "$data" overlay
goes_on
same "the container under Docker" "$scratch/container.tree" "$scratch/again.tree"
dockerd_stop

tree_of "$home/$top/root" >"$scratch/again.tree"
same "the image's top layer" "$scratch/top.tree" "$scratch/again.tree"
tree_of "$home/commit/root" >"$scratch/again.tree"
same "our layer over it" "$scratch/commit.tree" "$scratch/again.tree"
tree_of "$(driver get box)" >"$scratch/again.tree"
same "our container" "$scratch/box.tree" "$scratch/again.tree"
driver put box
for id in box commit whole; do driver remove "$id"; done

# --- every layer made anew by ours -----------------------------------------------------------

parent=
for id in "${layers[@]}"; do
  driver diff "$id" "$parent" >"$scratch/$id.tar"
  tree_of "$home/$id/root" >"$scratch/$id.tree"
  parent=$id
done
driver diff "$init_id" "$top" >"$scratch/init.tar"
for id in "$mount_id" "$init_id" "${layers[@]}"; do driver remove "$id"; done
expect "the home without layers" "" "$(cd "$home" && ls)"

parent=
for id in "${layers[@]}"; do
  driver create "$id" "$parent"
  driver apply "$id" "$parent" <"$scratch/$id.tar" >/dev/null
  tree_of "$home/$id/root" >"$scratch/anew.tree"
  same "layer $id made anew" <(as_diffed "$scratch/$id.tree") <(as_diffed "$scratch/anew.tree")
  parent=$id
done
driver create-rw "$init_id" "$top"
tar -xf "$scratch/init.tar" -C "$(driver get "$init_id")"
driver put "$init_id"
driver create-rw "$mount_id" "$init_id"
chroot "$(driver get "$mount_id")" /bin/sh <"$scratch/cook"
driver put "$mount_id"
expect "the changes made anew" "$cook" "$(driver changes "$mount_id" "$init_id" | as_changes)"

dockerd_start "$data" overlay
goes_on
same "the container made anew under Docker" \
  <(undated "$scratch/container.tree") <(undated "$scratch/again.tree")
docker rm kept >/dev/null
docker rmi galley:changed $image >/dev/null
dockerd_stop
expect "the layers at the end" "" "$(driver list)"
expect "the home at the end" "" "$(cd "$home" && ls)"
