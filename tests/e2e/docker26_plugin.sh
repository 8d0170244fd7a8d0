#!/usr/bin/env bash
# Docker 26 on the graph-driver plugin: with the driver `veneer`, and with the layers of a Docker
# 20.10 that used its built-in driver `overlay`, which Docker has no more. It refuses that very
# name, so what Docker itself keeps under it is renamed, as docs/docker.md says.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
support=$here/../support
# shellcheck source=tests/support/cell.sh
. "$support/cell.sh"
own_namespaces "$@"
scratch=$(make_scratch)
# shellcheck source=tests/support/docker_plugin.sh
. "$support/docker_plugin.sh"
image=veneer.test/galley:v1

# --- what Docker 20.10 leaves ----------------------------------------------------------------

python3 "$support/make_image.py" "$scratch/image" >/dev/null
cell_start "$support/../../build/clients/bookworm" "$scratch"
dockerd_start "$DATA" overlay
docker load --quiet --input "$scratch/image/docker.tar" >/dev/null
docker run --name kept --network none $image sh -c 'echo one >/srv/one; rm -r /srv/menu'
docker commit kept veneer.test/galley:kept >/dev/null
dockerd_stop
cell_stop
mv "$DATA/image/overlay" "$DATA/image/galley"
sed -i 's/"Driver":"overlay"/"Driver":"galley"/' "$DATA"/containers/*/config.v2.json

# --- and 26 goes on with ---------------------------------------------------------------------

cell_start "$support/../../build/clients/trixie" "$scratch"
[[ $(in_cell dockerd --version) == *"version 26."* ]] || fail "$(in_cell dockerd --version)"
VENEERD_OPTIONS=(--home "$DATA/overlay")
plugin_start overlay
plugin_dockerd galley
expect "the images" "veneer.test/galley:kept $image" \
  "$(docker images --format '{{.Repository}}:{{.Tag}}' | in_order)"
expect "the container's changes" "A /srv/one C /srv D /srv/menu" "$(docker diff kept | in_order)"
expect "its image" cake "$(run $image ls /srv/menu)"
expect "what it was committed to" one "$(run veneer.test/galley:kept cat /srv/one)"
docker start kept >/dev/null
docker commit kept veneer.test/galley:more >/dev/null
expect "another commit" one "$(run veneer.test/galley:more cat /srv/one)"
docker save --output "$scratch/saved.tar" $image veneer.test/galley:kept
docker rm --force kept >/dev/null
docker image prune --all --force >/dev/null
# Docker 26 keeps what an older one had loaded: it asks for no removal of those four.
expect "the layers left" 4 "$(find "$DATA/overlay" -mindepth 1 -maxdepth 1 ! -name '.*' | wc -l)"
if grep " $DATA/overlay/" /proc/self/mountinfo >&2; then fail "a mount is left"; fi
dockerd_stop
plugin_stop

# --- the other driver ------------------------------------------------------------------------

VENEERD_OPTIONS=()
plugin_start veneer
plugin_dockerd veneer
expect "the driver" veneer "$(docker info --format '{{.Driver}}')"
docker load --quiet --input "$scratch/saved.tar" >/dev/null
expect "a container" cake "$(run $image ls /srv/menu)"
docker run --name kept --network none veneer.test/galley:kept sh -c 'echo two >/srv/two'
expect "its changes" "A /srv/two C /srv" "$(docker diff kept | in_order)"
docker commit kept veneer.test/galley:more >/dev/null
docker rm kept >/dev/null
docker save --output "$scratch/again.tar" veneer.test/galley:more
docker image prune --all --force >/dev/null
expect_empty_home "$(home_of veneer)"
docker load --quiet --input "$scratch/again.tar" >/dev/null
expect "what was saved" "one two" "$(run veneer.test/galley:more cat /srv/one /srv/two | xargs)"
docker image prune --all --force >/dev/null
expect_empty_home "$(home_of veneer)"
dockerd_stop
plugin_stop
