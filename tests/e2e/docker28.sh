#!/usr/bin/env bash
# Docker 28, which keeps its images in containerd, on veneerd: load, pull, run, copy, diff, commit,
# both builders, save. What is removed is gone, and prune leaves nothing.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
support=$here/../support
# shellcheck source=tests/support/cell.sh
. "$support/cell.sh"
own_namespaces "$@"

scratch=$(make_scratch)
# shellcheck source=tests/support/containerd.sh
. "$support/containerd.sh"
image=veneer.test/galley:v1

docker() { in_cell env HOME=/root docker "$@"; }
# run ARGUMENT...: a container without a network that goes away.
run() { docker run --rm --network none "$@"; }
# in_order WORD...: sorted, in one line, whatever ends the lines.
in_order() { LC_ALL=C sort | xargs; }

python3 "$support/make_image.py" "$scratch/image" >/dev/null
cell_start "$support/../../build/clients/forky" "$scratch"
umoci_tree "$scratch/image/oci:v1" "$scratch/v1.wanted"
VENEERD_OPTIONS=(--containerd "unix://$CONTAINERD_SOCKET" --content-dir "$BLOBS")
veneerd_start
{ containerd_config 3; containerd_differ veneer-diff; } >"$scratch/config.toml"
containerd_start "$scratch/config.toml"
dockerd_start "$scratch/docker" veneer --feature containerd-snapshotter=true \
  --containerd "$CONTAINERD_SOCKET"
expect "the driver" "veneer io.containerd.snapshotter.v1" \
  "$(docker info --format '{{.Driver}} {{index (index .DriverStatus 0) 1}}')"

# --- images in -------------------------------------------------------------------------------

docker load --quiet --input "$scratch/image/docker.tar" >/dev/null
expect "layers applied" 4 "$(calls Apply)"
expect "a container" cake "$(run $image ls /srv/menu)"
same_tree moby $image "$scratch/v1.wanted"
docker rmi $image >/dev/null
expect_empty_store
docker load --quiet --input "$scratch/image/oci.tar" >/dev/null
expect "a container" cake "$(run $image ls /srv/menu)"
registry_start
docker tag $image "$REGISTRY/galley:v1"
docker push --quiet "$REGISTRY/galley:v1" >/dev/null
docker rmi "$REGISTRY/galley:v1" $image >/dev/null
expect_empty_store
docker pull --quiet "$REGISTRY/galley:v1" >/dev/null
docker tag "$REGISTRY/galley:v1" $image
same_tree moby $image "$scratch/v1.wanted"

# --- containers ------------------------------------------------------------------------------

docker run --detach --name kept --network none $image \
  sh -c 'while :; do sleep 1000; done' >/dev/null
docker exec kept sh -c 'echo one >/srv/one; rm -r /srv/menu; ln /srv/one /srv/two'
expect "the changes" "A /srv/one A /srv/two C /srv D /srv/menu" \
  "$(docker diff kept | in_order)"
echo "from outside" >"$scratch/outside"
docker cp --quiet "$scratch/outside" kept:/srv/outside
docker cp --quiet kept:/srv/one "$scratch/one"
expect "a file that is copied out" one "$(cat "$scratch/one")"
docker restart --time 0 kept >/dev/null
expect "a file that is copied in" "from outside" "$(docker exec kept cat /srv/outside)"

diffs=$(calls Diff)
docker commit kept veneer.test/galley:kept >/dev/null
expect "differences that veneerd made" 1 $(($(calls Diff) - diffs))
docker rm --force kept >/dev/null
expect "the commit" "one outside owners stock turn two types xattrs" \
  "$(run veneer.test/galley:kept ls /srv | grep -vFx names | in_order)"
expect "its links" 2 "$(run veneer.test/galley:kept stat -c %h /srv/two)"

# --- builders --------------------------------------------------------------------------------

mkdir "$scratch/context"
echo "a recipe" >"$scratch/context/recipe"
cat >"$scratch/context/Dockerfile" <<DOCKERFILE
FROM $image
COPY recipe /srv/recipe
RUN rm -r /srv/menu && mkdir /srv/menu && echo tea >/srv/menu/tea
RUN rm /srv/stock/fresh && chmod 600 /srv/recipe && ln /srv/recipe /srv/again
CMD ["ls", "/srv/menu"]
DOCKERFILE

# built NAME: what the Dockerfile says of it. Its archive is the same for umoci and when its layers
# are applied afresh.
built() {
  local name=veneer.test/galley:$1 layout=$scratch/$1
  expect "$1: the menu" tea "$(run "$name")"
  expect "$1: the recipe" "600 2 a recipe" \
    "$(run "$name" sh -c 'stat -c "%a %h" /srv/again; cat /srv/again' | xargs)"
  if run "$name" test -e /srv/stock/fresh; then fail "$1: what is removed is there"; fi
  docker save --output "$layout.tar" "$name"
  unpack "$layout.tar" "$layout"
  # Docker's own types of layers mean nothing to umoci.
  python3 "$support/other_image.py" "$layout" "$layout.tar" "$name"
  unpack "$layout.tar" "$layout.oci"
  umoci_tree "$layout.oci:$1" "$layout.tree"
  [[ $(wc -l <"$layout.tree") -ge 77 ]] || fail "$1: the archive has few entries"
  in_cell ctr --namespace saved images import --snapshotter veneer "$layout.tar" >/dev/null
  same_tree saved "$name" "$layout.tree"
  in_cell ctr --namespace saved images rm --sync "$name" >/dev/null
}

unpack() {
  mkdir "$2"
  tar -xf "$1" -C "$2"
}

DOCKER_BUILDKIT=0 docker build --quiet --network none --tag veneer.test/galley:legacy \
  "$scratch/context" &>"$scratch/legacy.log" || fail "$(tail -n 5 "$scratch/legacy.log")"
built legacy
DOCKER_BUILDKIT=1 docker build --quiet --network none --tag veneer.test/galley:buildkit \
  "$scratch/context" &>"$scratch/buildkit.log" || fail "$(tail -n 5 "$scratch/buildkit.log")"
built buildkit
# Of its own layers alone. The legacy builder's lie on what Docker adds to each container.
same_tree moby veneer.test/galley:buildkit "$scratch/buildkit.tree"
docker save --output "$scratch/saved.tar" $image veneer.test/galley:kept
docker system df >/dev/null

# --- nothing ---------------------------------------------------------------------------------

docker rmi veneer.test/galley:{kept,legacy} >/dev/null
docker load --quiet --input "$scratch/saved.tar" >/dev/null
expect "what was saved" one "$(run veneer.test/galley:kept cat /srv/two)"
docker rmi veneer.test/galley:{kept,buildkit,v1} "$REGISTRY/galley:v1" >/dev/null
expect "images" "" "$(docker images --all --quiet)"
docker system prune --all --force >/dev/null
docker builder prune --all --force >/dev/null
expect_empty_store
dockerd_stop
veneerd_stop
containerd_kill
