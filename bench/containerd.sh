#!/usr/bin/env bash
# Times containerd 2.1 with veneerd as its snapshotter and differ side by side with its own
# overlayfs and erofs ones, in one run, on an ext4 file system in memory: imports an image as blobs,
# unpacks it and mounts it; and the calls for a container's snapshot, which need no containerd.
# Prints veneerd's idle memory, too.
#   usage: bench/containerd.sh [calls|unpack]
# environment: VENEER (build/release/bin/veneer; veneerd beside it), CORPUS (/var/tmp/corpus; see
#   make_corpus.sh), VENEER_CLIENTS (build/clients), RUNS (3; of which the fastest counts),
#   IMAGES (corpus-gz corpus-zst), DISK_SIZE (8G)
# Needs igzip (Debian's isal), which containerd uses when it is there, and the clients forky and
# conformance (tests/support/clients.sh). veneerd syncs what it writes, the others do not.
# "erofs" has the settings that containerd 2.1's documents prefer. "erofs-tar" is what 2.2 and later
# make with enable_tar_index: an index by mkfs.erofs, and the tar behind it.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=bench/disk.sh
. "$here/disk.sh"
support=$here/../tests/support
export VENEER=${VENEER:-$here/../build/release/bin/veneer}
CORPUS=${CORPUS:-/var/tmp/corpus}
RUNS=${RUNS:-3}
IMAGES=${IMAGES:-corpus-gz corpus-zst}
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
make_disk "$MEMORY/image" "${DISK_SIZE:-8G}" "$MEMORY/disk"
scratch=$MEMORY/disk/s
mkdir "$scratch"
# shellcheck source=tests/support/containerd.sh
. "$support/containerd.sh"
VENEERD_LOG_LEVEL=info  # as it is by default
image=veneer.bench/corpus:latest
ctr() { in_cell ctr "$@"; }

# config SNAPSHOTTER
config() {
  containerd_config 3
  case $1 in
    veneer) containerd_differ veneer-diff ;;
    erofs*) cat <<'CONFIG' ;;
[plugins."io.containerd.service.v1.diff-service"]
  default = ["erofs", "walking"]
[plugins."io.containerd.differ.v1.erofs"]
  mkfs_options = ["-T0", "--mkfs-time", "--sort=none"]
CONFIG
  esac
}

# Programs of the cell, before those that it has. The cell has no igzip of its own.
add_programs() {
  local library
  mkdir "$scratch/programs"
  cp "$(command -v igzip)" "$scratch/programs/igzip.bin"
  library=$(ldd "$scratch/programs/igzip.bin" | awk '$1 ~ /^libisal/ {print $3}')
  [[ -z $library ]] || cp -L "$library" "$scratch/programs"
  cat >"$scratch/programs/igzip" <<PROGRAM
#!/bin/sh
LD_LIBRARY_PATH=$scratch/programs exec $scratch/programs/igzip.bin "\$@"
PROGRAM
  # The last argument is the file to make.
  cat >"$scratch/programs/mkfs.erofs" <<'PROGRAM'
#!/bin/sh
set -e
for layer; do :; done
copy=$(mktemp)
tee "$copy" | /usr/bin/mkfs.erofs --tar=i --aufs --quiet "$layer"
cat "$copy" >>"$layer"
rm "$copy"
PROGRAM
  chmod +x "$scratch"/programs/*
  in_cell cp "$scratch/programs/igzip" /usr/local/bin
}

seconds_since() { awk "BEGIN {printf \"%.2f\", $EPOCHREALTIME - $1}"; }

# forget: ends veneerd, and removes its store and the mounts of its layers
forget() {
  veneerd_stop
  unmount_below "$scratch/run"
  rm -rf --one-file-system "$scratch"/{root,run}
}

# unpack ROW: prints the seconds of importing, and of unpacking and mounting. Each time containerd
# begins anew, and so does veneerd.
unpack() {
  local begin imported snapshotter=${1%-tar}
  [[ $1 != veneer ]] || veneerd_start
  config "$1" >"$scratch/config.toml"
  in_cell rm -f /usr/local/bin/mkfs.erofs
  [[ $1 != erofs-tar ]] || in_cell cp "$scratch/programs/mkfs.erofs" /usr/local/bin
  containerd_start "$scratch/config.toml"
  begin=$EPOCHREALTIME
  ctr images import --local --no-unpack --digests --index-name $image "$MEMORY/disk/image.tar" \
    >/dev/null
  imported=$(seconds_since "$begin")
  mkdir -p "$scratch/look"
  sync --file-system "$scratch"
  touch_memory "$MEMORY"
  begin=$EPOCHREALTIME
  ctr images mount --snapshotter "$snapshotter" $image "$scratch/look" >/dev/null ||
    fail "$1: not mounted"
  printf '%s %s\n' "$imported" "$(seconds_since "$begin")"
  [[ -e /proc/$CELL/root$scratch/look/usr/bin ]] || fail "$1: nothing is mounted"
  ctr images unmount --snapshotter "$snapshotter" --rm "$scratch/look" >/dev/null
  ctr images rm --sync $image >/dev/null
  containerd_kill
  rm -rf --one-file-system "$scratch/ctd"
  [[ $1 != veneer ]] || forget
}

# --- a container's snapshot ------------------------------------------------------------------

# The peer is containerd 1.6's, from the sources that Debian packages; the programs are static.
bench_calls() {
  local cache
  mkdir -p "$clients/go-cache"
  cache=$(realpath "$clients/go-cache")
  cp "$here/snapshots.go" "$scratch"
  cell_start "$clients/conformance" "$scratch" "$cache"
  in_cell env --chdir="$scratch" GOCACHE="$cache" GOPATH=/usr/share/gocode GO111MODULE=off \
    CGO_ENABLED=0 HOME=/root go build -o snapshots snapshots.go
  cell_stop
  veneerd_start
  "$scratch/snapshots" "$VENEERD_SOCKET" "$scratch"
  forget
}

# --- unpacking -------------------------------------------------------------------------------

# keep_best ROW SECONDS
keep_best() {
  if [[ -z ${best[$1]:-} ]] || awk "BEGIN {exit !($2 < ${best[$1]})}"; then best[$1]=$2; fi
}

# bench_image NAME, of the corpus
bench_image() {
  local run row imported unpacked rows=(overlayfs erofs erofs-tar veneer)
  declare -A best=()
  tar --create --file "$MEMORY/disk/image.tar" --directory "$CORPUS/$1" .
  for ((run = 0; run < RUNS; ++run)); do
    for row in "${rows[@]}"; do
      # Not in a subshell: what it starts is stopped by others.
      unpack "$row" >"$scratch/seconds"
      read -r imported unpacked <"$scratch/seconds"
      keep_best "$row" "$unpacked"
      keep_best import "$imported"
    done
  done
  printf '\n%s, containerd 2.1\n%-24s %8s %8s\n' "$1" "" "wall s" "ratio"
  printf '%-24s %8.2f\n' "import, not unpacked" "${best[import]}"
  for row in "${rows[@]}"; do
    awk -v name="unpack, mount: $row" -v own="${best[$row]}" -v first="${best[overlayfs]}" \
      'BEGIN {printf "%-24s %8.2f %8.2f\n", name, own, own / first}'
  done
}

bench_unpacking() {
  local name
  cell_start "$clients/forky" "$scratch"
  add_programs
  VENEERD_OPTIONS=(--containerd "unix://$CONTAINERD_SOCKET" --content-dir "$BLOBS")
  veneerd_start
  printf 'veneerd, idle: %d KiB resident\n' "$(awk '$1 == "VmRSS:" {print $2}' \
    "/proc/$VENEERD_PID/status")"
  forget
  for name in $IMAGES; do bench_image "$name"; done
}

case ${1:-all} in
  calls) bench_calls ;;
  unpack) bench_unpacking ;;
  all) bench_calls; bench_unpacking ;;
esac
