#!/usr/bin/env bash
# containerd 1.6 on veneerd's proxy snapshotter: it extracts the layers itself, through our mounts,
# and runs containers on them with runc, while either daemon is killed. What it leaves is nothing.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
support=$here/../support
# shellcheck source=tests/support/cell.sh
. "$support/cell.sh"
own_namespaces "$@"

scratch=$(make_scratch)
# shellcheck source=tests/support/containerd.sh
. "$support/containerd.sh"
image=veneer.test/galley:v1
deep=veneer.test/galley:l120
config=$scratch/config.toml

ctr() { in_cell env CONTAINERD_SNAPSHOTTER=veneer ctr "$@"; }
snapshot() { in_cell ctr snapshot --snapshotter veneer "$@"; }
import() { in_cell ctr images import --snapshotter veneer "$1" >/dev/null; }
run() { ctr run --cgroup "/$SCRATCH_NAME/$RANDOM" "$@"; }
# After a restart containerd tries again within 3 seconds.
answers_again() { snapshot ls >/dev/null 2>&1; }
snapshots() { snapshot ls | tail -n +2 | wc -l; }

# --- an image --------------------------------------------------------------------------------

# tree_lines DIR [OPTION...]: the directory itself is left out, as no archive says anything of it.
tree_lines() { python3 "$support/tree_lines.py" "$@" | tail -n +2; }

# mount_short DIR KEY: where the options of 124 layers are more than a page, containerd leaves out
# what their paths begin with, too.
mount_short() {
  local command
  command=$(snapshot mounts "$1" "$2")
  (cd "$scratch/root/snapshots" && sh -c "${command//$scratch\/root\/snapshots\//}")
}

# same_tree WHAT OCI-LAYOUT:TAG CHAIN-ID ENTRIES [OPTION of tree_lines...]
same_tree() {
  in_cell umoci --log error raw unpack --image "$2" "$scratch/$1.tree" >/dev/null
  tree_lines "$scratch/$1.tree" "${@:5}" >"$scratch/$1.wanted"
  expect "entries of $1" "$4" "$(wc -l <"$scratch/$1.wanted")"
  mkdir "$scratch/$1.mnt"
  snapshot prepare "look-$1" "$3" >/dev/null
  mount_short "$scratch/$1.mnt" "look-$1"
  tree_lines "$scratch/$1.mnt" "${@:5}" >"$scratch/$1.got"
  umount "$scratch/$1.mnt"
  snapshot rm "look-$1"
  diff "$scratch/$1.wanted" "$scratch/$1.got" >&2 || fail "$1: the trees differ"
}

top_of() { snapshot ls | awk '$3 == "Committed" {print $1, $2}' | python3 -c '
import sys
rows = [line.split() for line in sys.stdin]
parents = {row[1] for row in rows if len(row) > 1}
print(*[row[0] for row in rows if row[0] not in parents])'; }

python3 "$support/make_image.py" "$scratch/image" >/dev/null
python3 "$support/make_image.py" "$scratch/deep" --layers 120 >/dev/null
cell_start "$support/../../build/clients/bookworm" "$scratch"
veneerd_start
expect "the socket's mode" 600 "$(stat -c %a "$VENEERD_SOCKET")"
containerd_config 2 >"$config"
containerd_start "$config"
import "$scratch/image/oci.tar"
expect "layers" 4 "$(snapshots)"
top=$(top_of)
same_tree galley "$scratch/image/oci:v1" "$top" 77
import "$scratch/image/oci.tar"
expect "layers, again" 4 "$(snapshots)"

# --- containers, and daemons that die --------------------------------------------------------

expect "a container" cake "$(run --rm $image once ls /srv/menu)"
run --detach $image kept sh -c 'while :; do sleep 1000; done'
# in_kept COMMAND...
in_kept() { ctr task exec --exec-id "exec-$RANDOM$RANDOM" kept "$@"; }
in_kept sh -c 'echo one >/srv/one; rm -r /srv/menu; ln /srv/one /srv/two'

veneerd_kill
[[ -S $VENEERD_SOCKET ]] || fail "a killed server leaves its socket"
in_kept sh -c 'echo three >/srv/three; cat /srv/stock/fresh' >/dev/null
if snapshot ls >/dev/null 2>&1; then fail "containerd answers without veneerd"; fi
veneerd_start
wait_until 10 answers_again || fail "containerd does not find veneerd again"
expect "what was written" one "$(in_kept cat /srv/one)"
run --rm $image again true

containerd_kill
in_cell pgrep -x sleep >/dev/null || fail "the container died with containerd"
veneerd_kill
veneerd_start
containerd_start "$config"
wait_until 10 answers_again || fail "containerd does not find veneerd after both were killed"
expect "what was written" three "$(in_kept cat /srv/three)"

# --- a layer of what it changed --------------------------------------------------------------

snapshot diff kept >"$scratch/diff.tar.gz"
expect "the changes" "run/ srv/ srv/.wh.menu srv/one srv/three srv/two" \
  "$(tar -tzf "$scratch/diff.tar.gz" | LC_ALL=C sort | xargs)"
ctr task kill --signal KILL kept
kept_stopped() { ctr task ls | grep -q 'kept.*STOPPED'; }
wait_until 10 kept_stopped || fail "the container does not stop"
ctr task delete kept >/dev/null 2>&1 || true
snapshot commit changed kept
ctr container rm kept
snapshot prepare more changed >/dev/null
mkdir "$scratch/more"
sh -c "$(snapshot mounts "$scratch/more" more)"
expect "the commit" "one three two" "$(cd "$scratch/more/srv" && find . -maxdepth 1 -name menu \
  -o -maxdepth 1 -links 2 -type f -name 'o*' -o -name 't[hw]*' | sed 's,./,,' | sort | xargs)"
umount "$scratch/more"
[[ $(snapshot usage changed | awk 'END {print $NF}') -ge 4 ]] || fail "usage of a commit"
snapshot rm more
snapshot rm changed

# --- many layers, and none -------------------------------------------------------------------

import "$scratch/deep/oci.tar"
expect "layers of both" 124 "$(snapshots)"
# Directories that a layer has files in but does not name get the time of the day from containerd.
same_tree deep "$scratch/deep/oci:l120" "$(top_of)" 158 --no-dir-times
expect "a container of 124 layers" cake "$(run --rm $deep deep ls /srv/menu)"

ctr images rm --sync $image $deep >/dev/null
no_snapshots() { [[ $(snapshots) == 0 ]]; }
wait_until 20 no_snapshots || fail "snapshots are left: $(snapshot ls)"
expect_empty_store

# --- layers that are packed when they are committed ------------------------------------------

expect "packed layers so far" 0 "$(layers)"
veneerd_stop
VENEERD_OPTIONS+=(--pack-on-commit)
veneerd_start
wait_until 10 answers_again || fail "containerd does not find the server that packs"
import "$scratch/image/oci.tar"
expect "packed layers" 4 "$(layers)"
# The index has the names of overlayfs's marks for user namespaces, too.
tree_lines() {
  python3 "$support/tree_lines.py" "$@" | tail -n +2 | sed 's/ user\.overlay\.origin=$//'
}
same_tree packed "$scratch/image/oci:v1" "$(top_of)" 77
expect "a container on packed layers" cake "$(run --rm $image packed ls /srv/menu)"
ctr images rm --sync $image >/dev/null
wait_until 20 no_snapshots || fail "snapshots are left: $(snapshot ls)"
expect_empty_store
veneerd_stop
containerd_kill
