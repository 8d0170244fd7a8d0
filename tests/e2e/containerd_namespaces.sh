#!/usr/bin/env bash
# What one namespace of containerd 2.1 has extracted serves another, and neither fetches nor
# extracts it again, with containerd's own differ and with veneerd's. It is gone with the last.
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

# config DIFFER
config() {
  containerd_config 3
  cat <<CONFIG
[proxy_plugins.veneer-diff]
  type = "diff"
  address = "$VENEERD_SOCKET"
[plugins."io.containerd.service.v1.diff-service"]
  default = ["$1"]
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/$(dpkg --print-architecture)"
  snapshotter = "veneer"
  differ = "$1"
CONFIG
}

# In namespace NAMESPACE: import_in NAMESPACE, run_in NAMESPACE, remove_in NAMESPACE
import_in() { in_cell ctr -n "$1" images import --snapshotter veneer "$scratch/image/oci.tar"; }
run_in() {
  in_cell ctr -n "$1" run --rm --cgroup "/$SCRATCH_NAME/$RANDOM" --snapshotter veneer $image x \
    ls /srv/menu
}
remove_in() { in_cell ctr -n "$1" images rm --sync $image; }
layers_in() { in_cell ctr -n "$1" snapshot --snapshotter veneer ls | grep -c Committed || true; }
# calls NAME: how many of them veneerd has seen
calls() { grep -c "call=$1 " "$VENEERD_LOG" || true; }

# shared_with DIFFER APPLIED: so many layers have come through the differ of ours.
shared_with() {
  local commits applies
  config "$1" >"$scratch/config.toml"
  containerd_start "$scratch/config.toml"
  commits=$(calls Commit)
  applies=$(calls Apply)
  import_in one >/dev/null
  expect "$1: a container" cake "$(run_in one)"
  expect "$1: commits" 4 $(($(calls Commit) - commits))
  expect "$1: layers that we applied" "$2" $(($(calls Apply) - applies))

  import_in two >/dev/null
  expect "$1: a container of the other" cake "$(run_in two)"
  expect "$1: commits for both" 4 $(($(calls Commit) - commits))
  expect "$1: layers applied for both" "$2" $(($(calls Apply) - applies))
  expect "$1: layers of each" "4 4" "$(layers_in one) $(layers_in two)"

  remove_in one >/dev/null
  expect "$1: when the first has gone" cake "$(run_in two)"
  remove_in two >/dev/null
  expect_empty_store
  containerd_kill
}

python3 "$support/make_image.py" "$scratch/image" >/dev/null
cell_start "$support/../../build/clients/forky" "$scratch"
VENEERD_OPTIONS=(--content-dir "$scratch/ctd/io.containerd.content.v1.content")
veneerd_start
shared_with walking 0
shared_with veneer-diff 4
veneerd_stop
