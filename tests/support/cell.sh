# shellcheck shell=bash
# For end-to-end tests to source: a cell is a client's root file system (see clients.sh) that runs
# as a machine of its own: mount, pid, net (loopback only), ipc and uts namespaces, a pivoted root,
# and bash as pid 1. A plain chroot is not enough: its root is no mount point, which runc and
# containerd refuse.
#
#   set -euo pipefail
#   . cell.sh; own_namespaces "$@"         # first: runs the script again inside
#   scratch=$(make_scratch)                # a directory on the disk, removed at exit
#   cell_start build/clients/bookworm "$scratch"
#   in_cell ls "$scratch"
#
# What is written into a cell's root goes to memory and is gone with the cell, so that many cells
# can use one root at a time. Nothing outlives the script: processes and mounts belong to its
# namespaces, the rest is removed at exit. Only SIGKILL leaves scratch directories.

SCRATCH_ROOT=${SCRATCH_ROOT:-/var/tmp}
CELL=
CELL_OUTER=
CELL_DIRS=()
DOCKERD=
DOCKERD_LOG=

own_namespaces() {
  if [[ -z ${OWN_NAMESPACES:-} ]]; then
    [[ $EUID == 0 ]] || { echo "$0: needs root" >&2; exit 1; }
    SCRATCH_NAME=veneer-test.$(basename "$0" .sh).$$
    export OWN_NAMESPACES=1 SCRATCH_NAME
    exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
      bash "$0" "$@"
  fi
  unset OWN_NAMESPACES
  set -E
  trap cleanup EXIT
  trap 'exit 130' INT TERM HUP
  trap 'echo "$0: line $LINENO: failed: $BASH_COMMAND" >&2' ERR
}

cleanup() {
  local status=$?
  trap - EXIT ERR
  set +e
  if [[ $status != 0 && -n $DOCKERD_LOG && -e $DOCKERD_LOG ]]; then
    echo "--- the end of dockerd's log:" >&2
    tail -n 20 "$DOCKERD_LOG" >&2
  fi
  cell_stop
  remove_cgroups
  remove_scratch
  exit $status
}

# wait_until SECONDS COMMAND...: polls; false when it has not come true in time.
wait_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [[ $SECONDS -lt $end ]] || return 1
    sleep 0.05
  done
}

# --- scratch directories ---------------------------------------------------------------------

make_scratch() {
  mktemp -d "$SCRATCH_ROOT/$SCRATCH_NAME.XXXXXX"
}

remove_scratch() {
  local mounts dir
  for dir in "$SCRATCH_ROOT/$SCRATCH_NAME".*; do
    [[ -e $dir ]] || continue
    # Deepest first; the list is read whole before anything is unmounted.
    mounts=$(awk -v at="$dir/" 'index($5 "/", at) == 1 {print $5}' /proc/self/mountinfo | sort -r)
    [[ -z $mounts ]] || xargs -r -d '\n' umount --lazy <<<"$mounts"
    rm -rf --one-file-system "$dir"
  done
}

# Container runtimes leave empty cgroups; the tests' ones all lie below one name.
remove_cgroups() {
  local group
  for group in /sys/fs/cgroup/*/"$SCRATCH_NAME"; do
    wait_until 5 remove_cgroup "$group"
  done
}

# A killed process stays in its cgroup for a moment.
remove_cgroup() {
  [[ ! -d $1 ]] || find "$1" -depth -type d -exec rmdir {} + 2>/dev/null
}

# --- the cell --------------------------------------------------------------------------------

# Pid 1 of the cell: $1 is the root, the others are directories that it shares with the host.
# The root is seen through an overlay whose upper is in memory. `wait` lets bash reap orphans.
# shellcheck disable=SC2016 # expanded by the bash of the cell
CELL_INIT='
  set -e
  root=$1
  shift
  cd "$root"
  mount -t tmpfs -o mode=755 tmpfs "$root"
  mkdir "$root"/{upper,work,root}
  mount -t overlay -o "lowerdir=.,upperdir=$root/upper,workdir=$root/work" overlay "$root/root"
  cd "$root/root"
  mount -t proc proc proc
  mount --rbind /sys sys
  mount --rbind /dev dev
  mount -t tmpfs -o mode=755 tmpfs run
  for dir; do
    mkdir -p ".$dir"
    mount --rbind "$dir" ".$dir"
  done
  ip link set lo up
  mkdir run/host
  pivot_root . run/host
  umount --lazy /run/host
  rmdir /run/host
  trap "exit 0" TERM
  echo ready
  exec >/dev/null
  while :; do
    sleep 3600 &
    wait $!
  done'

# cell_start ROOT [DIR...]: starts the cell. Each DIR is at the same path inside, with what is
# mounted below it; mounts that the host makes below it later appear inside, mounts made inside do
# not come back.
cell_start() {
  local root dir ready=
  root=$(realpath "$1")
  shift
  [[ -z $CELL ]] || { echo "cell_start: a cell is running already" >&2; return 1; }
  CELL_DIRS=()
  for dir; do
    dir=$(realpath "$dir")
    CELL_DIRS+=("$dir")
    mount --rbind "$dir" "$dir"
    mount --make-rprivate "$dir"
    mount --make-rshared "$dir"
  done
  exec {CELL_OUTPUT}< <(exec setpriv --pdeathsig KILL \
    unshare --mount --propagation slave --pid --fork --net --ipc --uts --kill-child \
    bash -c "$CELL_INIT" cell "$root" "${CELL_DIRS[@]}" </dev/null)
  CELL_OUTER=$!
  read -r -t 20 ready <&"$CELL_OUTPUT" || true
  exec {CELL_OUTPUT}<&-
  [[ $ready == ready ]] || { echo "cell_start: the cell of $root did not start" >&2; return 1; }
  CELL=$(tr -d ' ' <"/proc/$CELL_OUTER/task/$CELL_OUTER/children")
}

in_cell() {
  nsenter -t "$CELL" -m -p -n -i -u -- "$@"
}

cell_gone() {
  ! kill -0 "$CELL_OUTER" 2>/dev/null
}

# Kills every process of the cell; its mounts go with them.
cell_stop() {
  local dir
  if [[ -n $CELL_OUTER ]]; then
    # The kernel kills the others with pid 1. The outer process ends when pid 1 has, and pid 1
    # only after all of them.
    kill -TERM "${CELL:-$CELL_OUTER}" 2>/dev/null || true
    wait_until 10 cell_gone || kill -KILL "$CELL" "$CELL_OUTER"
  fi
  for dir in "${CELL_DIRS[@]}"; do
    umount --recursive "$dir" || true
  done
  CELL='' CELL_OUTER='' CELL_DIRS=() DOCKERD=''
}

# --- Docker ----------------------------------------------------------------------------------

# dockerd_start DATA_ROOT DRIVER [OPTION...]: dockerd in the cell, without a network, on the
# default socket of the cell: `in_cell docker ...` is its client. DATA_ROOT is a directory that
# cell_start was given, or one below it. The log is DATA_ROOT.log.
dockerd_start() {
  local data_root=$1 driver=$2
  shift 2
  DOCKERD_LOG=$data_root.log
  in_cell sh -c 'echo "{}" >/run/daemon.json'
  in_cell dockerd --config-file /run/daemon.json --data-root "$data_root" \
    --exec-root /run/docker --pidfile /run/docker.pid --host unix:///run/docker.sock \
    --cgroup-parent "/$SCRATCH_NAME" --bridge none --iptables=false --ip6tables=false \
    --ip-forward=false --ip-masq=false --storage-driver "$driver" "$@" \
    >>"$DOCKERD_LOG" 2>&1 </dev/null &
  DOCKERD=$!
  wait_until 30 dockerd_settled
  kill -0 "$DOCKERD" 2>/dev/null && dockerd_answers
}

dockerd_answers() {
  in_cell docker version >/dev/null 2>&1
}

dockerd_settled() {
  dockerd_answers || ! kill -0 "$DOCKERD" 2>/dev/null
}

# SIGTERM, and waits until it is gone: nsenter, which is our child, ends when dockerd does.
dockerd_stop() {
  local status=0
  # shellcheck disable=SC2016 # expanded in the cell
  in_cell sh -c 'read -r pid </run/docker.pid; kill $pid'
  wait_until 30 dockerd_gone
  wait "$DOCKERD" || status=$?
  DOCKERD=
  return $status
}

dockerd_gone() {
  ! kill -0 "$DOCKERD" 2>/dev/null
}
