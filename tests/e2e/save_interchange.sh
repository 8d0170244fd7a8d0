#!/usr/bin/env bash
# What `veneer save` writes, Docker, containerd, podman and skopeo read, and the reverse: the image
# has one id, whoever has it.
set -euo pipefail
: "${VENEER:?the path of the veneer binary}"
here=$(dirname "$(realpath "$0")")
support=$here/../support
# shellcheck source=tests/support/cell.sh
. "$support/cell.sh"
own_namespaces "$@"

scratch=$(make_scratch)
name=galley.test/soup:v1

veneer() { "$VENEER" --root "$scratch/root" --run "$scratch/run" "$@"; }
# The image's id in a store of its own.
loaded_id() {
  local other=$scratch/other
  "$VENEER" --root "$other" --run "$scratch/run" load "$1" | awk '{print $NF}' | sort -u
  rm -rf --one-file-system "$other"
}

fail() {
  echo "FAIL: $*" >&2
  exit 1
}

# expect WHAT WANTED GOT
expect() { [[ $2 == "$3" ]] || fail "$1: wanted '$2', got '$3'"; }

# --- what is saved: an image, and a commit over it -------------------------------------------

# podman's driver vfs keeps no owner that its image format cannot carry: no limits are met here.
python3 "$support/make_image.py" "$scratch/image" >/dev/null
veneer load "$scratch/image/oci" --name base >/dev/null
veneer create base --name box >/dev/null
box=$(veneer mount box)
echo ours >"$box/srv/ours"
rm -r "$box/srv/stock"
chroot "$box" /bin/busybox sh -c 'ln /srv/ours /srv/linked; mkdir -m 2775 /srv/shared'
id=$(SOURCE_DATE_EPOCH=1700000000 veneer commit box "$name" --change 'CMD ["cat", "/srv/ours"]')
veneer rm box >/dev/null

files=()
for format in oci docker; do
  for compression in none gzip zstd; do
    [[ $format/$compression != docker/zstd ]] || continue
    files+=("$scratch/$format.$compression")
    veneer save "$name" --format "$format" --compression "$compression" -o "${files[-1]}"
    expect "the id of ${files[-1]}" "$id" "$(loaded_id "${files[-1]}")"
  done
done

cell_start "$support/../../build/clients/bookworm" "$scratch"

# --- Docker ----------------------------------------------------------------------------------

docker() { in_cell docker "$@"; }
dockerd_start "$scratch/docker" overlay2
for file in "${files[@]}"; do
  # Docker 20.10 reads no zstd from files.
  [[ $file != *.zstd ]] || continue
  docker load -qi "$file" >/dev/null
  expect "Docker's id of $file" "sha256:$id" "$(docker image inspect -f '{{.Id}}' $name)"
  expect "docker run of $file" ours "$(docker run --rm --network none $name)"
  if [[ $file == "${files[-1]}" ]]; then docker save $name -o "$scratch/docker.saved"; fi
  docker rmi $name >/dev/null
done
dockerd_stop
expect "the id of what Docker saves" "$id" "$(loaded_id "$scratch/docker.saved")"

# --- containerd ------------------------------------------------------------------------------

mkdir "$scratch/containerd"
cat >"$scratch/containerd/config.toml" <<TOML
version = 2
root = "$scratch/containerd/root"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper"]
[plugins."io.containerd.internal.v1.opt"]
  path = "$scratch/containerd/opt"
TOML
in_cell containerd -c "$scratch/containerd/config.toml" >"$scratch/containerd/log" 2>&1 &
CTR=$!
ctr() { in_cell ctr "$@"; }
ctr_answers() { ctr version >/dev/null 2>&1; }
wait_until 20 ctr_answers || fail "containerd: $(tail -n 5 "$scratch/containerd/log")"
config_of() {
  ctr content get "$(ctr images ls "name==$name" | awk 'NR == 2 {print $3}')" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["config"]["digest"])'
}
for file in "${files[@]}"; do
  ctr images import "$file" >/dev/null
  expect "containerd's configuration of $file" "sha256:$id" "$(config_of)"
  expect "ctr run of $file" ours "$(ctr run --rm --cgroup "/$SCRATCH_NAME/run" $name run)"
  if [[ $file == "${files[0]}" ]]; then ctr images export "$scratch/containerd.saved" $name; fi
  ctr images rm --sync $name >/dev/null
done
in_cell sh -c "kill $(in_cell pidof containerd)"
wait "$CTR" || fail "containerd's end: $(tail -n 5 "$scratch/containerd/log")"
expect "the id of what containerd exports" "$id" "$(loaded_id "$scratch/containerd.saved")"

# --- podman ----------------------------------------------------------------------------------

podman() {
  in_cell podman --root "$scratch/podman" --runroot /run/podman --tmpdir /run/podman-tmp \
    --storage-driver overlay --cgroup-manager cgroupfs --events-backend file "$@"
}
for file in "${files[@]}"; do
  podman load -qi "$file" >/dev/null
  expect "podman's id of $file" "$id" "$(podman image inspect -f '{{.Id}}' $name)"
  podman rmi $name >/dev/null
done
podman load -qi "${files[1]}" >/dev/null
for format in oci-archive docker-archive; do
  podman save -q --format $format -o "$scratch/podman.$format" $name
  expect "the id of what podman saves as $format" "$id" "$(loaded_id "$scratch/podman.$format")"
done
podman rmi $name >/dev/null

# --- skopeo ----------------------------------------------------------------------------------

skopeo() { in_cell skopeo --insecure-policy "$@"; }
for file in "${files[@]}"; do
  from=oci-archive
  [[ $file == */oci.* ]] || from=docker-archive
  skopeo inspect --raw --config "$from:$file" >"$scratch/config"
  expect "skopeo's configuration of $file" "$id  -" "$(sha256sum <"$scratch/config")"
  skopeo copy -q "$from:$file" "$from:$scratch/copied:$name"
  expect "the id of what skopeo copies from $file" "$id" "$(loaded_id "$scratch/copied")"
  rm -r "$scratch/copied"
done
