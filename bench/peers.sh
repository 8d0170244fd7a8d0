#!/usr/bin/env bash
# Times Veneer side by side with what else does the same work on this machine, in one run: trust
# the ratios, not the seconds. Everything is written to an ext4 file system on a loop image in
# memory, so that the disk does not decide, and the inputs are in the page cache.
#   usage: bench/peers.sh [base|full [TABLE...]]
# The tables are unpack and share, and with full also pack, store, save, life, index, read,
# containerd and docker.
# environment: VENEER (build/release/bin/veneer; index_tar and container_life beside it),
#   CORPUS (/var/tmp/corpus; see make_corpus.sh),
#   VENEER_CLIENTS (build/clients; see tests/support/clients.sh),
#   RUNS (3; of which the fastest counts), DISK_SIZE (8G, in memory)
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=bench/disk.sh
. "$here/disk.sh"

what=${1:-full}
TABLES=${*:2}
VENEER=$(realpath -m "${VENEER:-$here/../build/release/bin/veneer}")
CORPUS=${CORPUS:-/var/tmp/corpus}
INDEX_TAR=$(dirname "$VENEER")/index_tar
CONTAINER_LIFE=$(dirname "$VENEER")/container_life
CLIENTS=$(realpath -m "${VENEER_CLIENTS:-$here/../build/clients}/forky")
RUNS=${RUNS:-3}
DISK_SIZE=${DISK_SIZE:-8G}

fail() {
  echo "peers.sh: $*" >&2
  exit 1
}

[[ $EUID == 0 ]] || fail "needs root: it mounts a file system"
[[ -x $VENEER ]] || fail "no $VENEER: run make first"
[[ $what == base || -x $CLIENTS/usr/bin/mkfs.erofs ]] ||
  fail "no mkfs.erofs in $CLIENTS: run tests/support/clients.sh forky"
# The mounts are made in a namespace of their own, and end with it.
if [[ -z ${OWN_NAMESPACE:-} ]]; then
  "$here/make_corpus.sh" "$CORPUS" "$what"
  OWN_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi

case $what in
  base)
    LAYERS=(base) LAYOUT=$CORPUS/base
    TABLES=${TABLES:-unpack share}
    ;;
  full)
    LAYERS=(base dev node) LAYOUT=$CORPUS/corpus
    TABLES=${TABLES:-unpack share pack store save life index read containerd docker}
    ;;
esac

# --- the disk --------------------------------------------------------------------------------

MEMORY=$(mktemp -d /dev/shm/veneer-bench.XXXXXX)
DISK=$MEMORY/disk

# shellcheck disable=SC2317 # the trap calls it
cleanup() {
  cd /
  umount --lazy --recursive "$CLIENTS/mnt" 2>/dev/null || true
  umount --lazy "$DISK" 2>/dev/null || true
  rm -rf --one-file-system "$MEMORY"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# --- rows ------------------------------------------------------------------------------------

# A table is rows that do the same work; the first is the one that the ratios are of. Each row has
# a command that is timed, and before it one that is not, both run by bash in an empty directory.
TITLE=
NAMES=()
PREPARES=()
COMMANDS=()
STATUS=0

table() {
  TITLE=$1
  NAMES=() PREPARES=() COMMANDS=()
}

# row NAME COMMAND [PREPARE]
row() {
  NAMES+=("$1")
  COMMANDS+=("$2")
  PREPARES+=("${3:-true}")
}

# measure ROW: prints "wall user+sys rss" in seconds and KiB, or fails.
measure() {
  local work=$DISK/row
  rm -rf --one-file-system "$work"
  mkdir "$work"
  cd "$work"
  bash -euo pipefail -c "${PREPARES[$1]}" &>"$MEMORY/output" || return 1
  sync --file-system "$DISK"
  touch_memory "$MEMORY"
  /usr/bin/time --format '%e %U %S %M' --output "$MEMORY/time" \
    bash -euo pipefail -c "${COMMANDS[$1]}" &>"$MEMORY/output" || return 1
  awk '{printf "%.2f %.2f %d\n", $1, $2 + $3, $4}' "$MEMORY/time"
  cd /
  unmount_below "$work"
  rm -rf --one-file-system "$work"
}

# Runs the rows in turn, RUNS times, so that a noisy moment meets all of them; prints the fastest.
run_table() {
  local best=() run i result width=0
  for ((run = 0; run < RUNS; ++run)); do
    for i in "${!NAMES[@]}"; do
      [[ ${best[i]:-} != failed ]] || continue
      if ! result=$(measure "$i"); then
        best[i]=failed
        echo "peers.sh: ${NAMES[i]}: failed: $(tail -n 1 "$MEMORY/output")" >&2
        STATUS=1
      elif [[ -z ${best[i]:-} ]] || awk "BEGIN {exit !(${result%% *} < ${best[i]%% *})}"; then
        best[i]=$result
      fi
    done
  done
  for i in "${!NAMES[@]}"; do
    ((${#NAMES[i]} <= width)) || width=${#NAMES[i]}
  done
  printf '\n%s\n%-*s %8s %8s %8s %7s\n' "$TITLE" "$width" "" "wall s" "cpu s" "RSS MB" "ratio"
  for i in "${!NAMES[@]}"; do
    awk -v name="${NAMES[i]}" -v width="$width" -v first="${best[0]%% *}" '
      $1 == "failed" { printf "%-*s %8s\n", width, name, "failed"; next }
      { ratio = first + 0 > 0 ? sprintf("%.2f", $1 / first) : "-"
        printf "%-*s %8.2f %8.2f %8.1f %7s\n", width, name, $1, $2, $3 / 1024, ratio }
    ' <<<"${best[i]}"
  done
}

# --- tables ----------------------------------------------------------------------------------

# Puts the input into the page cache, untimed.
warm() {
  cat "$@" >/dev/null
}

unpack_table() {
  local layer tars=()
  export VENEER LAYOUT
  for layer in "${LAYERS[@]}"; do
    tars+=("$CORPUS/$layer.tar.gz")
  done
  export TARS="${tars[*]}"
  warm "${tars[@]}" "$LAYOUT"-gz/blobs/sha256/*
  table "Unpack a gzip image, $(cat "${tars[@]}" | wc -c | numfmt --to=si) (${LAYERS[*]})"
  # shellcheck disable=SC2016 # expanded by the bash that is timed
  {
    row 'veneer driver load' \
      '"$VENEER" --run "$PWD/run" driver --driver overlay --home "$PWD/home" load "$LAYOUT-gz"'
    row 'the same, not synced' \
      '"$VENEER" --run "$PWD/run" driver --driver overlay --storage-opt overlay.volatile=true \
       --home "$PWD/home" load "$LAYOUT-gz"'
    row 'tar xzf, into one root' 'for tar in $TARS; do tar xzf "$tar"; done'
    row 'the same, then synced' 'for tar in $TARS; do tar xzf "$tar"; done; sync --file-system .'
    row 'igzip -dc | tar x, the same' 'for tar in $TARS; do igzip -dc "$tar" | tar x; done'
  }
  run_table
}

# Packs the three layers side by side, each over those before it, and mounts them. Synced, which the
# peer is not. One process does it all, so that its RSS is that of three layers at once.
pack_table() {
  local extension=$1 tool=$2
  export VENEER CORPUS EXTENSION=$extension TOOL=$tool
  warm "$CORPUS"/{base,dev,node}.tar."$extension"
  table "Pack the layers and mount them, $extension"
  # shellcheck disable=SC2016 # expanded by the bash that is timed
  {
    row "$tool -dc | tar x, into one root" '
      for layer in base dev node; do "$TOOL" -dc "$CORPUS/$layer.tar.$EXTENSION" | tar x; done'
    row 'veneer layer pack, layer mount' '
      pairs=()
      for layer in base dev node; do pairs+=("$CORPUS/$layer.tar.$EXTENSION" "$layer"); done
      "$VENEER" layer pack "${pairs[@]}"
      mkdir target
      "$VENEER" layer mount node dev base target
      "$VENEER" layer unmount target'
  }
  run_table
}

# From an image archive to a mounted container, and what is saved of it again. The peers make one
# tree, and sync nothing.
store_table() {
  local extension=$1 tool=$2
  export VENEER CORPUS LAYOUT EXTENSION=$extension TOOL=$tool
  warm "$CORPUS"/{base,dev,node}.tar."$extension" "$LAYOUT-$extension"/blobs/sha256/*
  table "Load an image, create a container and mount it, $extension"
  # shellcheck disable=SC2016 # expanded by the bash that is timed
  {
    local start='"$VENEER" --root "$PWD/root" --run "$PWD/run"'
    row "$tool -dc | tar x, into one root" '
      for layer in base dev node; do "$TOOL" -dc "$CORPUS/$layer.tar.$EXTENSION" | tar x; done'
    row 'veneer load, create, mount' "$start"' load "$LAYOUT-$EXTENSION" --name corpus
      '"$start create corpus --name box
      $start mount box"
    row 'the same, not synced' "$start"' --volatile load "$LAYOUT-$EXTENSION" --name corpus
      '"$start --volatile create corpus --name box
      $start --volatile mount box"
  }
  run_table
}

save_table() {
  export VENEER CORPUS LAYOUT
  warm "$CORPUS"/{base,dev,node}.tar
  table "Save an image, not compressed"
  # shellcheck disable=SC2016 # expanded by the bash that is timed
  {
    local start='"$VENEER" --root "$PWD/root" --run "$PWD/run"'
    row 'cp of its layers' 'cp "$CORPUS"/{base,dev,node}.tar .'
    row 'veneer save' "$start save corpus --compression none -o saved.tar" \
      "$start"' load "$LAYOUT-gz" --name corpus; cat root/layers/sha256/*/layer.tar >/dev/null'
  }
  run_table
}

# What takes milliseconds.
life_tables() {
  local store=$DISK/store
  "$VENEER" --root "$store" --run "$DISK/run" load "$LAYOUT-gz" --name corpus >/dev/null
  printf '\nA container in the library: create, mount, unmount, remove\n'
  "$CONTAINER_LIFE" "$store" "$DISK/run" corpus 10 100 1000 10000
  "$VENEER" --root "$store" --run "$DISK/run" ps -q |
    xargs "$VENEER" --root "$store" --run "$DISK/run" rm >/dev/null
  "$VENEER" --root "$store" --run "$DISK/run" rmi corpus >/dev/null
  "$here/verbs.py" "$VENEER" "$store" "$DISK/run" "$LAYOUT-gz"
  unmount_below "$DISK"
  rm -rf --one-file-system "$store" "$DISK/run"
}

# Indexes a plain tar that is in the page cache. The peer, in its chroot, sees all files below /mnt.
# It reads headers only and hashes nothing; packing does hash, and that is a row of its own. Ours
# maps the tar: its RSS is mostly page cache.
index_table() {
  local layer=$1
  export INDEX_TAR CLIENTS TAR=$CORPUS/$layer.tar
  warm "$TAR"
  table "Index a plain tar, $(stat -c %s "$TAR" | numfmt --to=si) ($layer)"
  # shellcheck disable=SC2016 # expanded by the bash that is timed
  {
    row 'mkfs.erofs --tar=i' \
      'chroot "$CLIENTS" mkfs.erofs --quiet --tar=i --aufs -b512 "/mnt$PWD/index" "/mnt$TAR"'
    row 'veneer, headers only' '"$INDEX_TAR" "$TAR" index'
    row 'veneer, all of it hashed' '"$INDEX_TAR" "$TAR" index hash'
  }
  run_table
}

# Reads every file of the three layers, merged: cold has nothing but the disk's image in memory. A
# container has its layers under overlayfs, whatever store they are in; one tree without it shows
# what that costs.
read_table() {
  local how=$1 finish=$2
  export VENEER CORPUS
  warm "$CORPUS"/{base,dev,node}.tar
  table "Read all files, $how"
  # shellcheck disable=SC2016 # expanded by the bash that is timed
  {
    local read='find tree -type f -print0 | xargs -0 cat >/dev/null'
    row 'layers unpacked on ext4, overlayfs' "$read" '
      for layer in base dev node; do mkdir "$layer"; tar xf "$CORPUS/$layer.tar" -C "$layer"; done
      mkdir tree
      mount -t overlay -o ro,lowerdir=node:dev:base overlay tree
      '"$finish"
    row 'unpacked into one tree on ext4' "$read" \
      'mkdir tree; for layer in base dev node; do tar xf "$CORPUS/$layer.tar" -C tree; done
       '"$finish"
    row 'veneer layer mount' "$read" '
      "$VENEER" layer pack "$CORPUS/base.tar" base "$CORPUS/dev.tar" dev "$CORPUS/node.tar" node
      mkdir tree
      "$VENEER" layer mount node dev base tree
      '"$finish"
  }
  run_table
}

# A tree of 20,000 files of 100 bytes in 200 directories, and an archive of nothing.
make_tree() {
  mkdir "$MEMORY/tree"
  python3 - "$MEMORY/tree" <<'PYTHON'
import pathlib, sys
for directory in range(200):
    path = pathlib.Path(sys.argv[1], f"{directory:03}")
    path.mkdir()
    for file in range(100):
        (path / f"{file:03}").write_bytes(b"x" * 100)
PYTHON
  tar --create --directory "$MEMORY/tree" --file "$MEMORY/tree.tar" .
  tar --create --files-from /dev/null --file "$MEMORY/empty.tar"
  rm -r "$MEMORY/tree"
}

share_table() {
  make_tree
  export VENEER MEMORY
  table "Share a tree of 20,000 files with a new layer, by hard links"
  # shellcheck disable=SC2016 # expanded by the bash that is timed
  {
    local driver='"$VENEER" --run "$PWD/run" driver --driver overlay --home "$PWD/home"'
    row 'veneer driver apply, an empty layer' \
      "$driver"' apply child base <"$MEMORY/empty.tar"' \
      "$driver create base; $driver"' apply base <"$MEMORY/tree.tar"; '"$driver create child base"
    row 'cp -al' 'cp -al root copy' 'mkdir root; tar xf "$MEMORY/tree.tar" -C root'
  }
  run_table
}

make_disk "$MEMORY/image" "$DISK_SIZE" "$DISK"
echo "$(nproc) cores, Linux $(uname -r), best of $RUNS; ratio: to the first row, above 1 is slower"
run_tables() {
  case $1 in
    unpack) unpack_table ;;
    share) share_table ;;
    pack) pack_table gz igzip && pack_table zst zstd ;;
    store) store_table gz igzip && store_table zst zstd ;;
    save) save_table ;;
    life) life_tables ;;
    index)
      mount --rbind / "$CLIENTS/mnt"
      for layer in "${LAYERS[@]}"; do index_table "$layer"; done
      ;;
    read)
      read_table cold 'sync; echo 3 >/proc/sys/vm/drop_caches'
      read_table warm 'find tree -type f -print0 | xargs -0 cat >/dev/null'
      ;;
    containerd)
      echo
      VENEER=$VENEER CORPUS=$CORPUS RUNS=$RUNS "$here/containerd.sh" || STATUS=1
      ;;
    docker) "$here/docker.sh" || STATUS=1 ;;
    *) fail "no table $1" ;;
  esac
}

for name in $TABLES; do run_tables "$name"; done
exit $STATUS
