# shellcheck shell=bash
# For end-to-end tests to source after cell.sh: veneerd, and containerd in the cell as its client.
# The test has made $scratch, and started the cell with it before containerd_start.
#
# veneerd runs outside of the cell, which has none of its libraries: what it mounts appears inside.

: "${VENEER:?the path of the veneer binary}"
: "${VENEERD:=$(dirname "$VENEER")/veneerd}"
SUPPORT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
# shellcheck source=tests/support/registry.sh
. "$SUPPORT/registry.sh"
# shellcheck disable=SC2154 # the test's
VENEERD_LOG=$scratch/veneerd.log
CONTAINERD_LOG=$scratch/containerd.log
VENEERD_SOCKET=$scratch/v.sock
CONTAINERD_SOCKET=$scratch/c.sock
export CONTAINERD_ADDRESS=$CONTAINERD_SOCKET  # for ctr
# shellcheck disable=SC2034 # the tests'
BLOBS=$scratch/ctd/io.containerd.content.v1.content
VENEERD_OPTIONS=()  # more of them, for each start
VENEERD_LOG_LEVEL=debug
VENEERD_PID=
VENEERD_STARTS=0
CONTAINERD=
: >"$VENEERD_LOG"
: >"$CONTAINERD_LOG"

fail() {
  echo "FAIL: $*" >&2
  tail -n 15 "$CONTAINERD_LOG" "$VENEERD_LOG" >&2
  exit 1
}

# expect WHAT WANTED GOT
expect() { [[ $2 == "$3" ]] || fail "$1: wanted '$2', got '$3'"; }

# On $scratch/root and $scratch/run; returns when it serves.
veneerd_start() {
  "$VENEERD" --root "$scratch/root" --run "$scratch/run" --snapshotter "unix://$VENEERD_SOCKET" \
    --log-level "$VENEERD_LOG_LEVEL" "${VENEERD_OPTIONS[@]}" >>"$VENEERD_LOG" 2>&1 </dev/null &
  VENEERD_PID=$!
  VENEERD_STARTS=$((VENEERD_STARTS + 1))
  wait_until 30 veneerd_serves || fail "veneerd does not serve"
}

veneerd_serves() { [[ $(grep -c event=serving "$VENEERD_LOG") == "$VENEERD_STARTS" ]]; }

veneerd_kill() {
  kill -KILL "$VENEERD_PID"
  wait "$VENEERD_PID" 2>/dev/null || true
}

# It ends as it should, and has seen no errors.
veneerd_stop() {
  kill -TERM "$VENEERD_PID"
  wait "$VENEERD_PID" || fail "veneerd ends with $?"
  [[ ! -e $VENEERD_SOCKET ]] || fail "the socket is left"
  if grep level=error "$VENEERD_LOG" >&2; then fail "veneerd saw errors"; fi
}

# containerd_config VERSION [cri]: what is the same for all tests; without cri it serves no kubelet.
# The store of blobs is in $scratch/ctd.
containerd_config() {
  local cri='"io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images",
  "io.containerd.cri.v1.runtime",'
  [[ ${2:-} != cri ]] || cri=
  cat <<CONFIG
version = $1
root = "$scratch/ctd"
state = "/run/containerd/state"
disabled_plugins = [$cri "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.blockfile"]
[grpc]
  address = "$CONTAINERD_SOCKET"
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/containerd/opt"
[proxy_plugins.veneer]
  type = "snapshot"
  address = "$VENEERD_SOCKET"
CONFIG
}

# containerd_differ DIFFER [SOCKET]: for containerd 2.x. DIFFER applies the layers, by both of the
# ways there are: veneer-diff, which is served on SOCKET, or containerd's own, which is "walking".
containerd_differ() {
  cat <<CONFIG
[proxy_plugins.veneer-diff]
  type = "diff"
  address = "${2:-$VENEERD_SOCKET}"
[plugins."io.containerd.service.v1.diff-service"]
  default = ["$1"]
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/$(dpkg --print-architecture)"
  snapshotter = "veneer"
  differ = "$1"
CONFIG
}

# containerd_start CONFIG-FILE
containerd_start() {
  in_cell containerd --config "$1" >>"$CONTAINERD_LOG" 2>&1 </dev/null &
  CONTAINERD=$!
  wait_until 20 containerd_answers || fail "containerd does not answer"
}

containerd_answers() { in_cell ctr version >/dev/null 2>&1; }

# nsenter, which is our child, ends when containerd does.
containerd_kill() {
  # shellcheck disable=SC2016 # expanded in the cell
  in_cell sh -c 'kill -KILL $(pgrep -x containerd)'
  wait "$CONTAINERD" 2>/dev/null || true
}

# grpc DIR PROTO PACKAGE METHOD REQUEST ANSWER TEXT: one call of containerd, in the namespace
# "default" where it matters, with the types and the text form of protoc; false, and what the server
# says on standard error, when it does not succeed. DIR/PROTO declares them.
grpc() {
  local call=$scratch/call
  protoc --proto_path="$1" --encode="$3.$5" "$2" <<<"$7" >"$call.message"
  # Not compressed, then the length, big-endian.
  python3 -c 'import sys; body = sys.stdin.buffer.read()
sys.stdout.buffer.write(b"\0" + len(body).to_bytes(4, "big") + body)' <"$call.message" >"$call.data"
  rm -f "$call.answer"
  in_cell curl --silent --show-error --max-time 60 --http2-prior-knowledge \
    --unix-socket "$CONTAINERD_SOCKET" --header 'content-type: application/grpc' \
    --header 'te: trailers' --header 'containerd-namespace: default' \
    --data-binary "@$call.data" --dump-header "$call.headers" \
    --output "$call.answer" "http://localhost/$3.$4"
  if ! grep -qE '^grpc-status: 0' "$call.headers"; then
    grep '^grpc-' "$call.headers" >&2
    return 1
  fi
  tail -c +6 "$call.answer" | protoc --proto_path="$1" --decode="$3.$6" "$2"
}

# --- a registry ------------------------------------------------------------------------------

# push_archive OCI-ARCHIVE REFERENCE NAME: as $REGISTRY/NAME, by way of a namespace of its own.
push_archive() {
  local ctr=(in_cell ctr --namespace push)
  "${ctr[@]}" images import --local --no-unpack "$1" >/dev/null
  "${ctr[@]}" images tag "$2" "$REGISTRY/$3" >/dev/null
  "${ctr[@]}" images push --plain-http "$REGISTRY/$3" >/dev/null
  "${ctr[@]}" images rm --sync "$2" "$REGISTRY/$3" >/dev/null
}

# --- what is in the store --------------------------------------------------------------------

# calls NAME: how many of them veneerd has seen
calls() { grep -c "call=$1 " "$VENEERD_LOG" || true; }
layers() { find "$scratch/root/layers/sha256" -mindepth 1 -maxdepth 1 | wc -l; }

# tree_of DIR: a line for each entry of a tree, without what overlayfs notes in the upper one. The
# directory itself is left out, as no archive says anything of it.
tree_of() {
  python3 "$SUPPORT/tree_lines.py" "$@" | tail -n +2 |
    sed -E 's/ (trusted|user)\.overlay\.[a-z]*=[0-9a-f]*//g'
}

# umoci_tree OCI-LAYOUT:TAG FILE
umoci_tree() {
  in_cell umoci --log error raw unpack --image "$1" "$scratch/umoci.tree" >/dev/null
  tree_of "$scratch/umoci.tree" >"$2"
  rm -rf "$scratch/umoci.tree"
}

# same_tree NAMESPACE IMAGE FILE: the image is what FILE of umoci_tree says. containerd mounts it,
# as mount(8) takes no more than a page of options.
same_tree() {
  local images=(in_cell ctr --namespace "$1" images) look=$scratch/look
  mkdir "$look"
  "${images[@]}" mount --snapshotter veneer "$2" "$look" >/dev/null ||
    fail "$1: $2 is not mounted"
  tree_of "/proc/$CELL/root$look" >"$look.tree"
  "${images[@]}" unmount --snapshotter veneer --rm "$look" >/dev/null
  rmdir "$look"
  diff "$3" "$look.tree" >&2 || fail "$1: the tree of $2 differs"
}

# nothing_in DIR, below the root of veneerd's store
nothing_in() { [[ -z $(ls -A "$scratch/root/$1") ]]; }

# The store has nothing, within some seconds.
expect_empty_store() {
  local place
  for place in snapshots layers/sha256 staging trash; do
    wait_until 10 nothing_in "$place" || fail "$place is not empty"
  done
}
