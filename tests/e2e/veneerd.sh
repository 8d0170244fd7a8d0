#!/usr/bin/env bash
# veneerd as a service manager sees it: its options, what it says and to whom, one socket for one
# server, and how it ends.
set -euo pipefail
: "${VENEER:?the path of the veneer binary}"
: "${VENEERD:=$(dirname "$VENEER")/veneerd}"
here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/support/cell.sh
. "$here/../support/cell.sh"
own_namespaces "$@"

scratch=$(make_scratch)
socket=$scratch/v.sock

fail() {
  echo "FAIL: $*" >&2
  exit 1
}

# expect WHAT WANTED GOT
expect() { [[ $2 == "$3" ]] || fail "$1: wanted '$2', got '$3'"; }

# ends WHAT STATUS WORDS OPTION...: it ends at once, and one line on standard error has the words.
ends() {
  local what=$1 wanted=$2 words=$3 status=0
  shift 3
  timeout 20 "$VENEERD" --root "$scratch/root" --run "$scratch/run" "$@" \
    >"$scratch/out" 2>"$scratch/err" || status=$?
  expect "the status of $what" "$wanted" "$status"
  expect "the lines of $what" 1 "$(wc -l <"$scratch/err")"
  grep -qF -- "$words" "$scratch/err" || fail "$what says $(cat "$scratch/err")"
}

# --- the command line ------------------------------------------------------------------------

"$VENEERD" --help | grep -q -- '--snapshotter unix://PATH' || fail "--help"
"$VENEERD" --version | grep -qE '^veneerd [0-9]' || fail "--version"
ends "no socket" 2 '--snapshotter or --docker-plugin is required'
ends "an unknown option" 2 'veneerd --help' --snapshotter "unix://$socket" --what
ends "an unknown form" 2 '"tar" is none of packed, directory' --form tar \
  --snapshotter "unix://$socket"
ends "no address" 1 'is not unix:// and an absolute path' --snapshotter "$socket"
ends "no address of metrics" 1 'is not an IP address' --metrics localhost:1 \
  --snapshotter "unix://$socket"
ends "no configuration" 2 "$scratch/none" --config "$scratch/none"
ends "a root that cannot be" 1 'level=error event=failed' --root /proc/none \
  --snapshotter "unix://$socket"
touch "$scratch/file"
ends "a file for a socket" 1 'is not a socket' --snapshotter "unix://$scratch/file"

# The manual has all options, and no others.
manual=$here/../../docs/man/veneerd.8
expect "the options of the manual" \
  "$("$VENEERD" --help | grep -oE '^  (-h,)?--[a-z-]+' | sed 's/.*--//' | sort)" \
  "$(sed -n 's/^\.It .*Fl -\([a-z-]*\).*/\1/p' "$manual" | sort)"

# --- as a service ----------------------------------------------------------------------------

# Writes each datagram that it gets to a file, a line each.
cat >"$scratch/listen.py" <<'PYTHON'
import socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1].replace("@", "\0"))
print("ready", flush=True)
while True:
    print(listener.recv(4096).decode(), flush=True)
PYTHON

# serves ADDRESS-OF-NOTIFICATIONS
serves() {
  : >"$scratch/told"  # of the one before
  python3 "$scratch/listen.py" "$1" >"$scratch/told" &
  listener=$!
  wait_until 30 grep -q ready "$scratch/told" || fail "the listener does not start"
  NOTIFY_SOCKET=$1 "$VENEERD" --root "$scratch/root" --run "$scratch/run" \
    --snapshotter "unix://$socket" 2>"$scratch/log" &
  server=$!
  wait_until 30 grep -q READY=1 "$scratch/told" || fail "no READY=1"
  [[ $(stat -c '%a %u %F' "$socket") == '600 0 socket' ]] || fail "$(stat "$socket")"
  expect "the first line of the log" \
    "level=info event=serving snapshotter=$socket root=$scratch/root version=0.1.0" \
    "$(sed "s/^time=$(date --utc +%F)T[0-9:.]*Z //" "$scratch/log")"
}

gone() { wait_until 30 grep -q STOPPING=1 "$scratch/told" || fail "no STOPPING=1"; }

serves "$scratch/notify"
ends "a second server" 1 'another process serves on' --snapshotter "unix://$socket"
kill -0 "$server" || fail "the first server ended"
kill -HUP "$server"
# Most of it are pages of the libraries.
resident=$(awk '$1 == "VmRSS:" {print $2}' "/proc/$server/status")
[[ $resident -lt 25600 ]] || fail "it takes $resident kB when it does nothing"
kill -TERM "$server"
wait "$server" || fail "SIGTERM: status $?"
gone
kill "$listener"
[[ ! -e $socket ]] || fail "the socket is left"

# Killed, it leaves its socket, and the next one takes it; an abstract address is told, too.
serves "@veneer-test-$$"
disown "$server"  # so that bash does not tell of it
kill -KILL "$server"
server_gone() { ! kill -0 "$server" 2>/dev/null; }
wait_until 10 server_gone
kill "$listener"
[[ -S $socket ]] || fail "SIGKILL removed the socket"
serves "$scratch/notify-again"
kill -INT "$server"
wait "$server" || fail "SIGINT: status $?"
gone
kill "$listener"
expect "what is open" 0 "$(find "$scratch/root/opened" -type f | wc -l)"

# A full file system can be found by SIGBUS alone; the service manager starts it again.
serves "$scratch/notify-bus"
kill -BUS "$server"
status=0
wait "$server" || status=$?
kill "$listener"
expect "the status after SIGBUS" 1 "$status"
grep -q '^level=error event=failed .*SIGBUS' "$scratch/log" || fail "$(cat "$scratch/log")"

# --- a configuration, and metrics --------------------------------------------------------------

cat >"$scratch/veneerd.conf" <<CONF
# a comment
root = "$scratch/root"
run = "$scratch/run"
snapshotter = "unix://$socket"
metrics = "127.0.0.1:0"
pack-on-commit = true
remap-ids = true
log-level = "error"
CONF
: >"$scratch/log"  # of the one before
JOURNAL_STREAM=8:1 "$VENEERD" --config "$scratch/veneerd.conf" --log-level info \
  2>"$scratch/log" &
server=$!
wait_until 30 grep -q ' metrics=' "$scratch/log" || fail "$(cat "$scratch/log")"
address=$(sed -n 's/^level=info event=serving metrics=//p' "$scratch/log")

# metric NAME: its value
metric() {
  python3 -c 'import sys, urllib.request
with urllib.request.urlopen(f"http://{sys.argv[1]}/metrics", timeout=20) as answer:
    for line in answer.read().decode().splitlines():
        name, _, value = line.rpartition(" ")
        if name == sys.argv[2]:
            print(value)' "$address" "$1"
}
expect "the layers of an empty store" 0 "$(metric veneer_layers)"
python3 "$here/../support/make_image.py" "$scratch/image" >/dev/null
"$VENEER" --root "$scratch/root" --run "$scratch/run" load "$scratch/image/oci" >/dev/null
expect "the layers of an image" 4 "$(metric veneer_layers)"
expect "its snapshots" 4 "$(metric 'veneer_snapshots{kind="committed"}')"
[[ $(metric veneer_store_bytes) -gt 10000 ]] || fail "its size: $(metric veneer_store_bytes)"
expect "what was imported by containerd" 0 "$(metric 'veneer_import_bytes_total{from="blob"}')"
ends "an address that is taken" 1 "listen on $address" --metrics "$address" \
  --snapshotter "unix://$scratch/other.sock"
# A client that says nothing keeps nobody, and no shutdown, waiting for long.
exec 7<>"/dev/tcp/${address%:*}/${address#*:}"
expect "the layers after a silent client" 4 "$(metric veneer_layers)"
exec 7>&-
kill -TERM "$server"
wait "$server" || fail "SIGTERM: status $?"

echo 'wat = 1' >>"$scratch/veneerd.conf"
ends "an unknown setting" 2 wat --config "$scratch/veneerd.conf"
