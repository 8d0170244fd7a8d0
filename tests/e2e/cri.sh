#!/usr/bin/env bash
# What a kubelet asks of containerd 2.1 (the CRI), on veneerd: images are pulled, pods and their
# containers run and are measured, and all of it goes away again.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
support=$here/../support
# shellcheck source=tests/support/cell.sh
. "$support/cell.sh"
own_namespaces "$@"

scratch=$(make_scratch)
# shellcheck source=tests/support/containerd.sh
. "$support/containerd.sh"
image=$REGISTRY/galley:v1
pause=veneer.test/pause:1

# --- a client --------------------------------------------------------------------------------

runtime() { grpc "$support" cri.proto runtime.v1 "RuntimeService/$1" "${@:2}"; }
images() { grpc "$support" cri.proto runtime.v1 "ImageService/$1" "${@:2}"; }
# value_of FIELD: the first one in the text of an answer, without its quotes.
value_of() { awk -v field="$1:" '$1 == field {print $2; exit}' | tr -d '"'; }

# --- set-up ----------------------------------------------------------------------------------

config() {
  containerd_config 3 cri
  containerd_differ veneer-diff
  cat <<CONFIG
  [proxy_plugins.veneer.exports]
    root = "$scratch/root"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "veneer"
  disable_snapshot_annotations = true
  stats_collect_period = 1
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "$pause"
[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  restrict_oom_score_adj = true
CONFIG
}

python3 "$support/make_image.py" "$scratch/image" >/dev/null
python3 "$support/other_image.py" "$scratch/image/oci" "$scratch/pause.tar" $pause \
  --command sleep 1000000
cell_start "$support/../../build/clients/forky" "$scratch"
VENEERD_OPTIONS=(--containerd "unix://$CONTAINERD_SOCKET" --content-dir "$BLOBS")
veneerd_start
config >"$scratch/config.toml"
containerd_start "$scratch/config.toml"
registry_start
push_archive "$scratch/image/oci.tar" veneer.test/galley:v1 galley:v1
in_cell ctr --namespace k8s.io images import --snapshotter veneer "$scratch/pause.tar" >/dev/null
runtime_ready() {
  runtime Status Empty Status '' | tr -d ' \n' | grep -q 'type:"RuntimeReady"status:true'
}
wait_until 20 runtime_ready || fail "the runtime is not ready"
expect "the runtime" containerd "$(runtime Version Empty Version '' | value_of runtime_name)"

# --- images ----------------------------------------------------------------------------------

umoci_tree "$scratch/image/oci:v1" "$scratch/v1.wanted"
applied=$(calls Apply)
reference=$(images PullImage ImageRequest ImageReference "image {image: '$image'}" |
  value_of image_ref)
[[ $reference == sha256:* ]] || fail "the image is $reference"
# The pause image has the same layers.
expect "layers applied" "4 4" "$applied $(calls Apply)"
expect "the image" "$image" "$(images ImageStatus ImageRequest ImageStatus \
  "image {image: '$reference'}" | value_of repo_tags)"
same_tree k8s.io "$image" "$scratch/v1.wanted"
images ListImages Empty Images '' | grep -q "\"$pause\"" || fail "no pause image"
if images PullImage ImageRequest ImageReference "image {image: '$REGISTRY/none:v1'}" \
  2>"$scratch/none"; then fail "an image that is not there is pulled"; fi
grep -q 'grpc-status: 5' "$scratch/none" || fail "$(cat "$scratch/none")"

# --- a pod -----------------------------------------------------------------------------------

mkdir "$scratch/logs"
namespaces="security_context {namespace_options {network: 2}}"
pod="metadata {name: 'galley' uid: '1' namespace: 'default'} log_directory: '$scratch/logs'
  linux {cgroup_parent: '/$SCRATCH_NAME' $namespaces}"
sandbox=$(runtime RunPodSandbox RunPod Pod "config {$pod}" | value_of pod_sandbox_id)
container=$(runtime CreateContainer CreateContainer Container "pod_sandbox_id: '$sandbox'
  config {metadata {name: 'cook'} image {image: '$reference'} log_path: 'cook.log'
    command: ['sh', '-c', 'echo hello; while :; do sleep 1000; done'] linux {$namespaces}}
  sandbox_config {$pod}" | value_of container_id)
runtime StartContainer Container Empty "container_id: '$container'" >/dev/null

# in_container COMMAND...: its standard output and its status
in_container() {
  local words
  words=$(printf ", '%s'" "$@")
  runtime ExecSync Exec ExecAnswer "container_id: '$container' cmd: [${words:2}] timeout: 20" \
    >"$scratch/exec"
  echo "$(value_of stdout <"$scratch/exec") $(value_of exit_code <"$scratch/exec")"
}
state() {
  runtime ContainerStatus Container ContainerStatusAnswer "container_id: '$container'" |
    value_of state
}
written() {
  runtime ContainerStats Container ContainerStatsAnswer "container_id: '$container'" |
    tr -d ' \n' | grep -oE 'used_bytes\{value:[0-9]+' | grep -oE '[0-9]+$'
}
has_written() { [[ $(written) -ge $1 ]]; }
has_logged() { grep -q ' stdout F hello' "$scratch/logs/cook.log"; }

expect "its state" 1 "$(state)"
wait_until 10 has_logged || fail "no log"
expect "the menu" 'cake\n ' "$(in_container ls /srv/menu)"
expect "a status" ' 3' "$(in_container sh -c 'exit 3')"
expect "writing" ' ' "$(in_container sh -c 'head -c 5000000 /dev/zero >/srv/large')"
wait_until 20 has_written 5000000 || fail "the writable layer has $(written) bytes"
[[ $(written) -lt 6000000 ]] || fail "the writable layer has $(written) bytes"
images ImageFsInfo Empty ImageFsInfo '' >"$scratch/usage"
grep -qF "mountpoint: \"$scratch/root\"" "$scratch/usage" || fail "$(cat "$scratch/usage")"

veneerd_kill
expect "without veneerd" 'cake\n ' "$(in_container ls /srv/menu)"
veneerd_start
expect "its state, later" 1 "$(state)"

# --- and all of it away ----------------------------------------------------------------------

runtime StopContainer Container Empty "container_id: '$container'" >/dev/null
expect "its state, stopped" 2 "$(state)"
runtime RemoveContainer Container Empty "container_id: '$container'" >/dev/null
runtime StopPodSandbox Pod Empty "pod_sandbox_id: '$sandbox'" >/dev/null
runtime RemovePodSandbox Pod Empty "pod_sandbox_id: '$sandbox'" >/dev/null
in_cell ctr --namespace k8s.io snapshot --snapshotter veneer ls >"$scratch/snapshots"
expect "snapshots" 4 "$(grep -c Committed "$scratch/snapshots")"
for name in "$reference" $pause; do
  images RemoveImage ImageRequest Empty "image {image: '$name'}" >/dev/null
done
expect_empty_store
veneerd_stop
containerd_kill
