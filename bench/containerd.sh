#!/usr/bin/env bash
# Times containerd 2.1 with veneerd as its snapshotter and differ side by side with its own
# overlayfs and erofs ones, in one run, on an ext4 file system in memory: unpacks an image that it
# has as blobs, and mounts it; and the calls for a container's snapshot, which need no containerd.
# Prints veneerd's idle memory, too.
#   usage: bench/containerd.sh
# environment: VENEER (build/release/bin/veneer; veneerd beside it), CORPUS (/var/tmp/corpus; see
#   make_corpus.sh), VENEER_CLIENTS (build/clients), RUNS (3; of which the fastest counts),
#   DISK_SIZE (8G)
# Needs the clients forky and conformance (tests/support/clients.sh). veneerd syncs what it writes,
# the others do not; erofs makes images of whole layers, as 2.1 has no index of tars.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
support=$here/../tests/support
export VENEER=${VENEER:-$here/../build/release/bin/veneer}
CORPUS=${CORPUS:-/var/tmp/corpus}
RUNS=${RUNS:-3}
clients=$(realpath -m "${VENEER_CLIENTS:-$here/../build/clients}")
# shellcheck source=tests/support/cell.sh
. "$support/cell.sh"
own_namespaces "$@"

MEMORY=$(mktemp -d /dev/shm/veneer-bench.XXXXXX)
# shellcheck disable=SC2317 # the trap calls it
finish() {
  local status=$?
  trap - EXIT ERR
  set +e
  cell_stop
  umount --lazy --recursive "$MEMORY/disk"
  rm -rf --one-file-system "$MEMORY"
  exit $status
}
trap finish EXIT
truncate --size "${DISK_SIZE:-8G}" "$MEMORY/image"
mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "$MEMORY/image"
mkdir "$MEMORY/disk"
mount -o loop "$MEMORY/image" "$MEMORY/disk"
scratch=$MEMORY/disk/s
mkdir "$scratch"
# shellcheck source=tests/support/containerd.sh
. "$support/containerd.sh"
image=veneer.bench/corpus:latest
ctr() { in_cell ctr "$@"; }

# config SNAPSHOTTER
config() {
  containerd_config 3
  case $1 in
    veneer) containerd_differ veneer-diff ;;
    erofs) printf '[plugins."io.containerd.service.v1.diff-service"]\n  default = ["%s"]\n' \
      'erofs", "walking' ;;
  esac
}

# unpack SNAPSHOTTER: prints seconds
unpack() {
  local begin end
  config "$1" >"$scratch/config.toml"
  containerd_start "$scratch/config.toml"
  ctr images import --local --no-unpack --digests --index-name $image "$MEMORY/disk/image.tar" \
    >/dev/null
  mkdir -p "$scratch/look"
  sync --file-system "$scratch"
  begin=$EPOCHREALTIME
  ctr images mount --snapshotter "$1" $image "$scratch/look" >/dev/null ||
    fail "$1: not mounted"
  end=$EPOCHREALTIME
  [[ -e /proc/$CELL/root$scratch/look/usr/bin ]] || fail "$1: nothing is mounted"
  ctr images unmount --snapshotter "$1" --rm "$scratch/look" >/dev/null
  ctr images rm --sync $image >/dev/null
  containerd_kill
  rm -rf --one-file-system "$scratch/ctd"
  awk "BEGIN {printf \"%.2f\n\", $end - $begin}"
}

# --- a container's snapshot ------------------------------------------------------------------

# The peer is containerd 1.6's, from the sources that Debian packages; the programs are static.
mkdir -p "$clients/go-cache"
cache=$(realpath "$clients/go-cache")
cp "$here/snapshots.go" "$scratch"
cell_start "$clients/conformance" "$scratch" "$cache"
in_cell env --chdir="$scratch" GOCACHE="$cache" GOPATH=/usr/share/gocode GO111MODULE=off \
  CGO_ENABLED=0 HOME=/root go build -o snapshots snapshots.go
cell_stop
veneerd_start
"$scratch/snapshots" "$VENEERD_SOCKET" "$scratch"
veneerd_stop
rm -r "$scratch"/{root,run}

# --- unpacking -------------------------------------------------------------------------------

tar --create --file "$MEMORY/disk/image.tar" --directory "$CORPUS/corpus-gz" .
cell_start "$clients/forky" "$scratch"
VENEERD_OPTIONS=(--containerd "unix://$CONTAINERD_SOCKET" --content-dir "$BLOBS")
veneerd_start
printf 'veneerd, idle: %d KiB resident\n' "$(awk '$1 == "VmRSS:" {print $2}' \
  "/proc/$VENEERD_PID/status")"
declare -A best
for ((run = 0; run < RUNS; ++run)); do
  for snapshotter in overlayfs erofs veneer; do
    seconds=$(unpack "$snapshotter")
    if [[ -z ${best[$snapshotter]:-} ]] || awk "BEGIN {exit !($seconds < ${best[$snapshotter]})}"
    then best[$snapshotter]=$seconds; fi
  done
done
printf '\nUnpack and mount, containerd 2.1\n%-12s %8s %8s\n' "" "wall s" "ratio"
for snapshotter in overlayfs erofs veneer; do
  awk -v name="$snapshotter" -v own="${best[$snapshotter]}" -v first="${best[overlayfs]}" \
    'BEGIN {printf "%-12s %8.2f %8.2f\n", name, own, own / first}'
done
