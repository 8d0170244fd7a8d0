#!/usr/bin/env bash
# The cell and Docker in it work, and neither leaves anything: Docker's own `overlay` driver loads
# the test image, runs a container and commits it.
#   usage: cell_selftest.sh [inside|fails]    inside and fails are the halves that it runs itself
set -euo pipefail
here=$(dirname "$(realpath "$0")")
clients=$here/../../build/clients
# shellcheck source=tests/support/cell.sh
. "$here/cell.sh"

inside() {
  own_namespaces "$@"
  local scratch
  scratch=$(make_scratch)
  python3 "$here/make_image.py" "$scratch/image"
  cell_start "$clients/bookworm" "$scratch"
  [[ $(in_cell readlink /proc/self/ns/net) != "$(readlink /proc/self/ns/net)" ]]

  mkdir "$scratch/late"
  mount -t tmpfs late "$scratch/late"
  in_cell grep -q " $scratch/late " /proc/self/mountinfo
  umount "$scratch/late"
  in_cell touch /written-in-the-cell
  [[ ! -e $clients/bookworm/written-in-the-cell ]]
  [[ $1 != fails ]] || in_cell sleep 1000 &

  dockerd_start "$scratch/docker" overlay
  [[ $(in_cell docker info --format '{{.Driver}}') == overlay ]]
  in_cell docker load -qi "$scratch/image/docker.tar"
  [[ $1 != fails ]] || false
  [[ $(in_cell docker run --rm --network none veneer.test/galley:v1 ls /srv/menu) == cake ]]
  in_cell docker run --name changed --network none veneer.test/galley:v1 touch /srv/changed
  in_cell docker commit changed veneer.test/galley:changed
  in_cell docker rm changed
  in_cell docker run --rm --network none veneer.test/galley:changed ls /srv/changed
  dockerd_stop
  [[ -d $scratch/docker/overlay ]]
  if [[ -n ${LOOK:-} ]]; then
    (cd "$scratch/docker" && bash -c "$LOOK")
  fi
}

traces() {
  awk '{print $5}' /proc/self/mountinfo | sort
  find "$SCRATCH_ROOT" /sys/fs/cgroup/*/ -maxdepth 1 -name 'veneer-test.cell_selftest.*'
  pgrep -x dockerd || true
  pgrep -x containerd || true
}

case ${1:-} in
  inside | fails) inside "$1" ;;
  *)
    before=$(traces)
    "$0" inside
    [[ $(traces) == "$before" ]] || { echo "a good run left traces:"; traces; exit 1; }
    if "$0" fails 2>/dev/null; then
      echo "a failing run succeeded"
      exit 1
    fi
    [[ $(traces) == "$before" ]] || { echo "a failing run left traces:"; traces; exit 1; }
    echo "ok"
    ;;
esac
