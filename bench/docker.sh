#!/usr/bin/env bash
# Times Docker 20.10 on Veneer's plugin side by side with its own storage drivers: pull of the gzip
# corpus from a registry, save, rmi. Each driver has a new ext4 file system on a loop image in
# memory. Docker decompresses with pigz, as it does where its packages' recommendations are
# installed. Trust the ratios, not the seconds.
#   usage: bench/docker.sh
# environment: VENEER (build/release/bin/veneer; veneerd beside it), CORPUS (/var/tmp/corpus; see
#   make_corpus.sh), RUNS (1; of which the fastest counts), DISK_SIZE (10G)
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=bench/disk.sh
. "$here/disk.sh"
VENEER=$(realpath -m "${VENEER:-$here/../build/release/bin/veneer}")
CORPUS=${CORPUS:-/var/tmp/corpus}
RUNS=${RUNS:-1}
DISK_SIZE=${DISK_SIZE:-10G}
clients=$here/../build/clients/bookworm
[[ -x $clients/usr/bin/docker-registry ]] ||
  { echo "docker.sh: no $clients: run tests/support/clients.sh bookworm" >&2; exit 1; }
# shellcheck source=tests/support/cell.sh
. "$here/../tests/support/cell.sh"
own_namespaces "$@"
export VENEER

memory=$(SCRATCH_ROOT=/dev/shm make_scratch)
# shellcheck disable=SC2317 # the trap calls it
finish() {
  cell_stop
  umount --lazy --recursive "$memory" 2>/dev/null || true
  rm -rf --one-file-system "$memory"
  cleanup
}
trap finish EXIT
scratch=$(make_scratch)
# shellcheck source=tests/support/docker_plugin.sh
. "$here/../tests/support/docker_plugin.sh"
image=$REGISTRY/corpus:v1

declare -A best=()

# timed DRIVER WHAT COMMAND...
timed() {
  local key="$1 $2" start end
  shift 2
  sync
  touch_memory "$memory"
  start=$EPOCHREALTIME
  "$@" >/dev/null
  end=$EPOCHREALTIME
  best[$key]=$(awk -v "a=$start" -v "b=$end" -v "old=${best[$key]:-}" \
    'BEGIN {t = b - a; print old != "" && old < t ? old : t}')
}

# measure DRIVER: one of Docker's, or that of the plugin after "veneerd "
measure() {
  local disk=$scratch/disk
  make_disk "$memory/image" "$DISK_SIZE" "$disk"
  DATA=$disk/docker
  cell_start "$clients" "$scratch" "$CORPUS"
  registry_start
  in_cell skopeo copy --quiet --insecure-policy --dest-tls-verify=false \
    "oci:$CORPUS/corpus-gz" "docker://$image"
  if [[ $1 == veneerd* ]]; then
    plugin_start "${1#* }"
    plugin_dockerd plugin
  else
    dockerd_start "$DATA" "$1"
  fi
  timed "$1" pull docker pull --quiet "$image"
  run "$image" true 2>/dev/null || true
  timed "$1" save docker save "$image"
  timed "$1" rmi docker rmi "$image"
  dockerd_stop
  [[ $1 != veneerd* ]] || plugin_stop
  cell_stop
  umount --lazy --recursive "$disk"
  rm "$memory/image"
}

drivers=("veneerd veneer" overlay2 overlay "veneerd overlay")
cat "$CORPUS"/corpus-gz/blobs/sha256/* >/dev/null
printf '\nDocker 20.10, seconds\n%-18s %8s %8s %8s\n' "" pull save rmi
for driver in "${drivers[@]}"; do
  for ((i = 0; i < RUNS; ++i)); do measure "$driver"; done
  printf '%-18s %8.2f %8.2f %8.2f\n' "$driver" \
    "${best[$driver pull]}" "${best[$driver save]}" "${best[$driver rmi]}"
done
