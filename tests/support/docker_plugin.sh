# shellcheck shell=bash
# For end-to-end tests to source after cell.sh: veneerd as the graph-driver plugin of the dockerd in
# the cell. The test has made $scratch, and started the cell with it before plugin_dockerd.
#
# veneerd runs outside of the cell, which has none of its libraries: what it mounts appears inside.

: "${VENEER:?the path of the veneer binary}"
: "${VENEERD:=$(dirname "$VENEER")/veneerd}"
SUPPORT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
# shellcheck source=tests/support/registry.sh
. "$SUPPORT/registry.sh"
# shellcheck disable=SC2154 # the test's
VENEERD_LOG=$scratch/veneerd.log
PLUGIN_SOCKET=$scratch/p.sock
DATA=$scratch/docker
VENEERD_OPTIONS=()  # more of them, for each start
VENEERD_PID=
VENEERD_STARTS=0
: >"$VENEERD_LOG"

fail() {
  echo "FAIL: $*" >&2
  tail -n 15 "$VENEERD_LOG" >&2
  exit 1
}

# expect WHAT WANTED GOT
expect() { [[ $2 == "$3" ]] || fail "$1: wanted '$2', got '$3'"; }

docker() { in_cell env HOME=/root docker "$@"; }
# run ARGUMENT...: a container without a network that goes away.
run() { docker run --rm --network none "$@"; }
# in_order WORD...: sorted, in one line, whatever ends the lines.
in_order() { LC_ALL=C sort | xargs; }

# plugin_start DRIVER: returns when it serves.
plugin_start() {
  "$VENEERD" --run "$scratch/run" --docker-plugin "unix://$PLUGIN_SOCKET" --driver "$1" \
    --log-level debug "${VENEERD_OPTIONS[@]}" >>"$VENEERD_LOG" 2>&1 </dev/null &
  VENEERD_PID=$!
  VENEERD_STARTS=$((VENEERD_STARTS + 1))
  wait_until 30 plugin_serves || fail "veneerd does not serve"
}

plugin_serves() { [[ $(grep -c event=serving "$VENEERD_LOG") == "$VENEERD_STARTS" ]]; }

plugin_kill() {
  kill -KILL "$VENEERD_PID"
  wait "$VENEERD_PID" 2>/dev/null || true
}

# It ends as it should, and has seen no errors.
plugin_stop() {
  kill -TERM "$VENEERD_PID"
  wait "$VENEERD_PID" || fail "veneerd ends with $?"
  [[ ! -e $PLUGIN_SOCKET ]] || fail "the socket is left"
  if grep level=error "$VENEERD_LOG" >&2; then fail "veneerd saw errors"; fi
}

# plugin_dockerd DRIVER [OPTION...]: dockerd on $DATA with the plugin under the driver's name.
# The name `overlay` is that of a driver that Docker 20.10 has itself, so the plugin's differs.
plugin_dockerd() {
  local name=$1
  shift
  in_cell mkdir -p /etc/docker/plugins
  in_cell sh -c "echo unix://$PLUGIN_SOCKET >/etc/docker/plugins/$name.spec"
  dockerd_start "$DATA" "$name" --experimental --live-restore "$@"
}

# SIGKILL, also to its containerd. Containers run on.
plugin_dockerd_kill() {
  # shellcheck disable=SC2016 # expanded in the cell
  in_cell sh -c 'kill -KILL $(pgrep -x dockerd) $(pgrep -x containerd)'
  wait "$DOCKERD" 2>/dev/null || true
  wait_until 10 in_cell sh -c '! pgrep -x containerd && ! pgrep -x dockerd' >/dev/null
  in_cell rm -f /run/docker.pid /run/docker/containerd/containerd.pid
}

# home_of NAME: the home of a driver that Docker calls so.
home_of() { echo "$DATA/$1"; }

# calls NAME: how many of them veneerd has seen
calls() { grep -c "call=GraphDriver.$1 " "$VENEERD_LOG" || true; }

# Nothing of the driver is mounted, and its home has no layer.
expect_empty_home() {
  local left
  if grep " $1/" /proc/self/mountinfo >&2; then fail "a mount is left"; fi
  if [[ -d $1/layers ]]; then
    # What is removed is deleted in the background.
    wait_until 10 home_is_empty "$1" ||
      fail "left: $(cd "$1" && find layers/sha256 snapshots staging trash -mindepth 1 -maxdepth 1)"
  else
    left=$(ls "$1")
    expect "what is left in $1" "" "$left"
  fi
}

home_is_empty() {
  [[ -z $(cd "$1" && find layers/sha256 snapshots staging trash -mindepth 1 -maxdepth 1) ]]
}
