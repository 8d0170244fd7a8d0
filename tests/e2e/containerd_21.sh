#!/usr/bin/env bash
# containerd 2.1 with veneerd as its snapshotter and its differ: images come in by every way there
# is and are what umoci sees, containers run and are made layers of, veneerd is killed under them,
# layers that are not what they are said to be are refused. What it leaves is nothing.
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
config=$scratch/config.toml

# ctr_in NAMESPACE ARGUMENT...; the others too are for one namespace.
ctr_in() { in_cell ctr --namespace "$@"; }
import_in() { ctr_in "$1" images import --snapshotter veneer "${@:2}" >/dev/null; }
snapshot() { ctr_in default snapshot --snapshotter veneer "$@"; }
run_in() {
  ctr_in "$1" run --snapshotter veneer --cgroup "/$SCRATCH_NAME/$RANDOM$RANDOM" "${@:2}"
}
remove_all_in() {
  local images
  mapfile -t images < <(ctr_in "$1" images ls --quiet)
  [[ ${#images[@]} == 0 ]] || ctr_in "$1" images rm --sync "${images[@]}" >/dev/null
}
answers_again() { snapshot ls >/dev/null 2>&1; }

make_image() { python3 "$support/make_image.py" "$scratch/$1" "${@:2}" >/dev/null; }
other_image() { python3 "$support/other_image.py" "$scratch/image/oci" "$scratch/$1.tar" "${@:2}"; }

make_image image
make_image zstd --zstd
make_image deep --layers 20
make_image deepest --layers 120
other_image lie veneer.test/lie:v1 --wrong-diff-id
other_image cut veneer.test/cut:v1 --cut-layer
cell_start "$support/../../build/clients/forky" "$scratch"
umoci_tree "$scratch/image/oci:v1" "$scratch/v1.wanted"
umoci_tree "$scratch/deep/oci:l20" "$scratch/deep.wanted"
umoci_tree "$scratch/deepest/oci:l120" "$scratch/deepest.wanted"
expect "entries of the image" 77 "$(wc -l <"$scratch/v1.wanted")"
VENEERD_OPTIONS=(--containerd "unix://$CONTAINERD_SOCKET")
veneerd_start
{ containerd_config 3; containerd_differ veneer-diff; } >"$config"
containerd_start "$config"

# --- images that lie -------------------------------------------------------------------------

# refused WHAT WORDS ARCHIVE [OPTION of import...]: and what was applied before goes away.
refused() {
  local applied
  applied=$(calls Apply)
  if import_in lies "${@:4}" "$scratch/$3.tar" 2>"$scratch/refusal"; then fail "$1 is taken"; fi
  grep -qE "$2" "$scratch/refusal" || fail "$1: $(cat "$scratch/refusal")"
  [[ $(calls Apply) -gt $applied ]] || fail "$1: no layer was applied"
  remove_all_in lies
  wait_until 20 nothing_of_lies || fail "$1: $(ctr_in lies snapshot --snapshotter veneer ls)"
}
# What a failed import leaves, containerd collects with whatever is removed after its end.
nothing_of_lies() {
  ctr_in lies leases rm --sync "$(ctr_in lies leases create)" >/dev/null
  [[ $(ctr_in lies snapshot --snapshotter veneer ls | wc -l) == 1 ]]
}

refused "a wrong DiffID" 'wrong diff id' lie
refused "a wrong DiffID, by the client" 'wrong diff id' lie --local
expect_empty_store

# --- by every way ----------------------------------------------------------------------------

applied=$(calls Apply)
import_in default "$scratch/image/oci.tar"
expect "layers applied" 4 $(($(calls Apply) - applied))
expect "layers" 4 "$(layers)"
same_tree default $image "$scratch/v1.wanted"
# What the client itself unpacks is asked for again, and is not read again.
import_in local --local "$scratch/image/docker.tar"
expect "layers applied for both" 8 $(($(calls Apply) - applied))
import_in default --local "$scratch/image/oci.tar"
expect "layers applied, when they are there" 8 $(($(calls Apply) - applied))
expect "layers of both" 4 "$(layers)"
same_tree local $image "$scratch/v1.wanted"
expect "a container" cake "$(run_in local --rm $image once ls /srv/menu)"
refused "a wrong DiffID of a layer that is known" 'wrong diff id' lie
refused "the same, by the client" 'wrong diff id' lie --local
remove_all_in local

# --- containers, and a daemon that dies ------------------------------------------------------

run_in default --detach $image kept sh -c 'while :; do sleep 1000; done'
# in_kept COMMAND...
in_kept() { ctr_in default task exec --exec-id "exec-$RANDOM$RANDOM" kept "$@"; }
in_kept sh -c 'echo one >/srv/one; rm -r /srv/menu; ln /srv/one /srv/two'
veneerd_kill
in_kept sh -c 'echo three >/srv/three; cat /srv/stock/fresh' >/dev/null
if snapshot ls >/dev/null 2>&1; then fail "containerd answers without veneerd"; fi
# From here on it finds the blobs as files, and reads those of an image ahead.
VENEERD_OPTIONS+=(--content-dir "$BLOBS")
veneerd_start
wait_until 10 answers_again || fail "containerd does not find veneerd again"
expect "what was written" one "$(in_kept cat /srv/one)"
expect "another container" cake "$(run_in default --rm $image again ls /srv/menu)"

diffs=$(calls Diff)
snapshot diff kept >"$scratch/diff.tar.gz"
expect "differences that veneerd made" 1 $(($(calls Diff) - diffs))
expect "the changes" "run/ srv/ srv/.wh.menu srv/one srv/three srv/two" \
  "$(tar -tzf "$scratch/diff.tar.gz" | LC_ALL=C sort | grep -vFx ./ | xargs)"
ctr_in default task kill --signal KILL kept
kept_stopped() { ctr_in default task ls | grep -q 'kept.*STOPPED'; }
wait_until 10 kept_stopped || fail "the container does not stop"
ctr_in default task delete kept >/dev/null 2>&1 || true
snapshot commit changed kept
ctr_in default container rm kept
snapshot prepare more changed >/dev/null
mkdir "$scratch/more"
sh -c "$(snapshot mounts "$scratch/more" more)"
expect "the commit" "one 2 three 1 two 2" "$(cd "$scratch/more/srv" && find . -maxdepth 1 \
  \( -name menu -o -name one -o -name 't[hw]*' \) -printf '%f %n\n' | sort | xargs)"
umount "$scratch/more"
snapshot rm more
snapshot rm changed
remove_all_in default
expect_empty_store

# --- an import that is cut off ---------------------------------------------------------------

applied=$(calls Apply)
import_in default "$scratch/deepest/oci.tar" 2>"$scratch/cut-off" &
importer=$!
some_applied() { [[ $(calls Apply) -ge $((applied + 20)) ]]; }
wait_until 30 some_applied || fail "the import does not begin"
veneerd_kill
if wait "$importer"; then fail "an import ends well without veneerd"; fi
[[ $(calls Apply) -lt $((applied + 124)) ]] || fail "the import was done before veneerd was killed"
veneerd_start
wait_until 10 answers_again || fail "containerd does not find veneerd after the import"
import_in default "$scratch/deepest/oci.tar"
expect "layers" 124 "$(layers)"
ahead=$(grep -c 'event="read ahead"' "$VENEERD_LOG" || true)
[[ $ahead -ge 20 ]] || fail "of 124 layers $ahead were read ahead"
expect "a container of 124 layers" cake \
  "$(run_in default --rm veneer.test/galley:l120 deepest ls /srv/menu)"
same_tree default veneer.test/galley:l120 "$scratch/deepest.wanted"
remove_all_in default
expect_empty_store

# --- pulls side by side ----------------------------------------------------------------------

registry_start
push_archive "$scratch/image/oci.tar" $image galley:v1
push_archive "$scratch/zstd/oci.tar" $image galley:zstd
push_archive "$scratch/deep/oci.tar" veneer.test/galley:l20 galley:l20
pulls=()
for namespace in one two; do
  for tag in v1 zstd l20; do
    ctr_in $namespace images pull --plain-http --snapshotter veneer "$REGISTRY/galley:$tag" \
      &>"$scratch/pull-$namespace-$tag" &
    pulls+=("$!:$namespace-$tag")
  done
done
for pull in "${pulls[@]}"; do
  wait "${pull%%:*}" || fail "a pull: $(tail -n 3 "$scratch/pull-${pull#*:}")"
done
expect "layers of the pulled" 24 "$(layers)"
for namespace in one two; do
  same_tree $namespace "$REGISTRY/galley:v1" "$scratch/v1.wanted"
  same_tree $namespace "$REGISTRY/galley:zstd" "$scratch/v1.wanted"
  same_tree $namespace "$REGISTRY/galley:l20" "$scratch/deep.wanted"
  expect "a container of 24 layers" cake \
    "$(run_in $namespace --rm "$REGISTRY/galley:l20" deep ls /srv/menu)"
done
remove_all_in one
expect "a container of the other" cake \
  "$(run_in two --rm "$REGISTRY/galley:zstd" other ls /srv/menu)"
remove_all_in two
expect_empty_store
veneerd_stop

# --- differs that fail -----------------------------------------------------------------------

# From here on veneerd sees errors, and reads the blobs as files.
containerd_kill
VENEERD_OPTIONS=(--content-dir "$BLOBS")
veneerd_start
top_id=$(tar -xOf "$scratch/image/docker.tar" manifest.json | grep -oE '[0-9a-f]{64}' | tail -n 1)
: >"$scratch/lies"
python3 "$support/lying_proxy.py" "$scratch/lie.sock" "$VENEERD_SOCKET" "$top_id" \
  "$(sha256sum </dev/null | cut -d' ' -f1)" >"$scratch/lies" &
proxy=$!
wait_until 10 grep -q ready "$scratch/lies" || fail "the proxy does not start"
{ containerd_config 3; containerd_differ veneer-diff "$scratch/lie.sock"; } >"$config"
containerd_start "$config"
wait_until 10 answers_again || fail "containerd does not find veneerd"
ln -s image/oci.tar "$scratch/good.tar"
refused "a differ that lies" 'wrong diff id' good
expect "lies" 1 "$(grep -c lied "$scratch/lies")"
refused "a layer that is cut off" 'is cut off' cut
refused "the same, by the client" 'is cut off' cut --local
expect_empty_store
containerd_kill
kill -TERM "$VENEERD_PID" "$proxy"
wait "$VENEERD_PID" || fail "veneerd ends with $?"

# --- containers from elsewhere ---------------------------------------------------------------

# Restored with its files, a container goes on with them: veneerd leaves such a layer to
# containerd's own differ. A container of a user namespace has its owners from the kernel.
VENEERD_OPTIONS=(--containerd "unix://$CONTAINERD_SOCKET" --remap-ids)
veneerd_start
{ containerd_config 3; containerd_differ veneer-diff; } |
  sed -e 's/^ *default = .*/default = ["veneer-diff", "walking"]/' \
    -e '/proxy_plugins.veneer\]/a capabilities = ["remap-ids"]' >"$config"
containerd_start "$config"
wait_until 10 answers_again || fail "containerd does not find veneerd for the last time"
import_in default "$scratch/image/oci.tar"
# restored BLOB: applied to the container's snapshot, as `ctr containers restore --rw` does it;
# ctr itself wants a checkpoint of the processes, too.
restored() {
  grpc "$here/../../src" rpc/proto/diff.proto containerd.services.diff.v1 Diff/Apply ApplyRequest \
    ApplyResponse "diff {media_type: \"application/vnd.oci.image.layer.v1.tar+gzip\"
      digest: \"sha256:$(sha256sum "$1" | cut -d' ' -f1)\" size: $(stat -c %s "$1")}
    mounts {type: \"overlay\" source: \"overlay\" $(options_of moved)}"
}
# options_of KEY: of its mount, as protoc writes them
options_of() {
  snapshot mounts /nowhere "$1" | sed -E 's/.* -o ([^ ]+).*/\1/' | tr ',' '\n' |
    sed 's/.*/options: "&"/'
}
# changed SCRIPT: what it says in the mounted snapshot
changed() {
  mkdir "$scratch/moved"
  sh -c "$(snapshot mounts "$scratch/moved" moved)"
  (cd "$scratch/moved/srv" && sh -c "$1")
  umount "$scratch/moved"
  rmdir "$scratch/moved"
}
# make_layer FILE SCRIPT: of what it changes
make_layer() {
  snapshot prepare moved "$id" >/dev/null
  changed "$2"
  snapshot diff moved >"$1"
  snapshot rm moved
}
id=$(snapshot ls | awk '/Committed/ {names[$1]; parents[$2]}
  END {for (name in names) if (!(name in parents)) print name}')
make_layer "$scratch/one.tar.gz" 'echo one >one; rm -r menu'
make_layer "$scratch/three.tar.gz" 'echo three >three'
snapshot prepare moved "$id" >/dev/null
applied=$(calls Apply)
restored "$scratch/one.tar.gz" | grep -q 'layer.v1.tar"' || fail "nothing was applied"
changed 'echo two >two'
restored "$scratch/three.tar.gz" >/dev/null
expect "applies that veneerd was asked for" 2 $(($(calls Apply) - applied))
expect "what is restored, and written" "one three two" \
  "$(changed 'ls -d menu 2>/dev/null; cat one three two | xargs')"
snapshot commit moved-layer moved
snapshot rm moved-layer
# owners_in [OPTION...]: of a container, with what is newly made in it
owners_in() {
  run_in default --rm "$@" $image owners sh -c 'touch /srv/new; stat -c "%n %u %g" / /srv/*'
}
wanted=$(owners_in)
[[ $wanted == *'/srv/new 0 0'* ]] || fail "owners: $wanted"
expect "owners inside a user namespace" "$wanted" \
  "$(owners_in --uidmap 0:500000:65536 --gidmap 0:600000:65536 --remap-labels)"
expect "the map" "0 500000 65536" "$(run_in default --rm --uidmap 0:500000:65536 \
  --gidmap 0:600000:65536 --remap-labels $image map sh -c 'xargs </proc/self/uid_map')"
remove_all_in default
expect_empty_store
kill -TERM "$VENEERD_PID"
wait "$VENEERD_PID" || fail "veneerd ends with $?"
