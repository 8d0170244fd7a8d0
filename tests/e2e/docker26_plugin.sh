#!/usr/bin/env bash
# Docker 26 on the graph-driver plugin: with the driver `veneer`, and with the layers of a Docker
# 20.10 that used its built-in driver `overlay`, which Docker has no more. It refuses that very
# name, so what Docker itself keeps under it gets another with contrib/docker-driver-name.
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
label='<odd> & "größer"'
docker run --name kept --label "odd=$label" --network none $image \
  sh -c 'echo one >/srv/one; rm -r /srv/menu'
docker commit kept veneer.test/galley:kept >/dev/null

# --- another name, and back ------------------------------------------------------------------

rename=$here/../../contrib/docker-driver-name
# refused WHY ARGUMENT...
refused() {
  local why=$1
  shift
  if "$rename" "$@" 2>"$scratch/refusal"; then fail "not refused: $why"; fi
  grep -q "$why" "$scratch/refusal" || fail "wanted '$why', got '$(cat "$scratch/refusal")'"
}
# What a rename leaves alone.
layers() { find "$DATA/overlay" "$DATA"/image/*/layerdb -printf '%P %y %m %u %g %s %T@\n' | sort; }

refused "a dockerd runs on it" "$DATA" overlay galley
dockerd_stop
refused "no data root" "$scratch" overlay galley
refused "no name" "$DATA" overlay ../galley
refused "must be there" "$DATA" galley overlay2
mkdir "$DATA/image/galley"
refused "not both" "$DATA" overlay galley
rmdir "$DATA/image/galley"
layers >"$scratch/layers"
cp -a "$DATA/containers" "$scratch/containers"
"$rename" "$DATA" overlay galley
layers | diff "$scratch/layers" -
"$rename" "$DATA" galley overlay
layers | diff "$scratch/layers" -
expect "the containers' files" "" \
  "$(diff <(cd "$scratch/containers" && find . -printf '%p %y %m %u %g\n' | sort) \
    <(cd "$DATA/containers" && find . -printf '%p %y %m %u %g\n' | sort))"
# As if a power cut had come after the containers: it goes on, and back.
mv "$DATA/image/overlay" "$DATA/image/galley"
"$rename" "$DATA" overlay galley
mv "$DATA/image/galley" "$DATA/image/overlay"
"$rename" "$DATA" galley overlay
dockerd_start "$DATA" overlay
expect "the container after both ways" "A /srv/one C /srv D /srv/menu" \
  "$(docker diff kept | in_order)"
expect "its label" "$label" "$(docker inspect --format '{{.Config.Labels.odd}}' kept)"
dockerd_stop
"$rename" "$DATA" overlay galley
VENEERD_OPTIONS=(--home "$DATA/overlay")
plugin_start overlay
plugin_dockerd galley
expect "the container on the plugin" "A /srv/one C /srv D /srv/menu" \
  "$(docker diff kept | in_order)"
dockerd_stop
plugin_stop
cell_stop

# --- and 26 goes on with ---------------------------------------------------------------------

cell_start "$support/../../build/clients/trixie" "$scratch"
[[ $(in_cell dockerd --version) == *"version 26."* ]] || fail "$(in_cell dockerd --version)"
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
