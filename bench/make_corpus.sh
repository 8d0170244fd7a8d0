#!/usr/bin/env bash
# Makes the image that the benchmarks load, once: real packages of Debian and npm in three layers
# (full: about 74,000 entries, 1.2 GB plain), or only the first of them (base: 9,000, 170 MB).
#   usage: bench/make_corpus.sh OUT [base|full]
# OUT gets base.tar (and dev.tar node.tar), each also as .gz and .zst, and OCI image layouts of
# them: base-gz base-zst (and corpus-gz corpus-zst). What is there already is kept.
set -euo pipefail

# What hooks of mmdebstrap run inside: $2 is the root file system.
if [[ ${1:-} == --hook ]]; then
  root=$2
  # Status 1 is that a file changed meanwhile: the roots of /proc and /sys always do.
  pack() {
    tar --create --directory "$root" --one-file-system --numeric-owner --xattrs \
      --warning=no-file-changed --exclude='./tmp/*' --exclude='./var/lib/apt/lists/*' \
      --exclude='./var/cache/apt/*.bin' --exclude='./var/cache/apt/archives/*.deb' \
      --exclude=./etc/resolv.conf --exclude=./usr/sbin/policy-rc.d "$@" || [[ $? == 1 ]]
  }
  pack --sort=name --file "$NEW/base.tar" .
  [[ -n $DEV_PACKAGES ]] || exit 0
  # The second layer is what has changed in the inode since: new files, and directories around them.
  touch "$NEW/stamp"
  sleep 1
  # shellcheck disable=SC2086 # a list of words
  DEBIAN_FRONTEND=noninteractive chroot "$root" \
    apt-get install -qq -y --no-install-recommends $DEV_PACKAGES >/dev/null
  (cd "$root" && find . -xdev -mindepth 1 -cnewer "$NEW/stamp" -print0 | LC_ALL=C sort -z) |
    pack --no-recursion --null --files-from - --file "$NEW/dev.tar"
  exit 0
fi

usage() {
  echo "usage: make_corpus.sh OUT [base|full]" >&2
  exit 2
}

[[ $# -ge 1 && $# -le 2 ]] || usage
what=${2:-full}
self=$(realpath "$0")
scripts=$(dirname "$self")/../scripts
case $what in
  base) layers=(base) name=base packages='' ;;
  full) layers=(base dev node) name=corpus
        packages="build-essential python3 python3-numpy git openjdk-17-jre-headless" ;;
  *) usage ;;
esac
node_packages=(react-scripts @angular/cli typescript eslint jest)
mkdir -p "$1"
cd "$1"
out=$PWD
[[ ! -e $name-gz/index.json || ! -e $name-zst/index.json ]] || exit 0

[[ $EUID == 0 ]] || { echo "make_corpus.sh: needs root (mmdebstrap in root mode)" >&2; exit 1; }
"$scripts/install-deps" bench
NEW=$(mktemp -d "$out/.new.XXXXXX")
trap 'rm -rf --one-file-system "$NEW"' EXIT

make_debian_layers() {
  echo "make_corpus.sh: Debian packages"
  export NEW DEV_PACKAGES=$packages
  mmdebstrap --quiet --variant=minbase --mode=root --format=null --dpkgopt=force-unsafe-io \
    --customize-hook="'$self' --hook \"\$1\"" bookworm /dev/null
  mv "$NEW"/*.tar .
}

# It has no records for usr/ and usr/src/: some builders leave the parents out.
make_node_layer() {
  echo "make_corpus.sh: npm packages"
  command -v npm >/dev/null || "$scripts/install-deps" corpus
  mkdir "$NEW/app"
  (cd "$NEW/app" && npm init --yes >/dev/null &&
    npm install --silent --no-audit --no-fund --ignore-scripts "${node_packages[@]}")
  tar --create --directory "$NEW" --sort=name --numeric-owner --owner=0 --group=0 \
    --transform='s,^app,usr/src/app,S' --file "$NEW/node.tar" app
  mv "$NEW/node.tar" .
}

# add_blob LAYOUT FILE: prints the digest and size members of the file's descriptor.
add_blob() {
  local hex
  hex=$(sha256sum <"$2" | cut -d' ' -f1)
  ln -f "$2" "$1/blobs/sha256/$hex"
  printf '"digest":"sha256:%s","size":%d' "$hex" "$(stat -c %s "$2")"
}

join() {
  local IFS=,
  echo "$*"
}

# make_layout SUFFIX MEDIA: the OCI layout of the layers that are compressed as SUFFIX.
make_layout() {
  local suffix=$1 media=$2 oci=application/vnd.oci.image layout=$NEW/layout
  local layer ids=() descriptors=() histories=() config manifest
  mkdir -p "$layout/blobs/sha256"
  for layer in "${layers[@]}"; do
    ids+=("\"sha256:$(sha256sum <"$layer.tar" | cut -d' ' -f1)\"")
    histories+=("{\"created_by\":\"$layer\"}")
    descriptors+=("{\"mediaType\":\"$oci.layer.v1.tar+$media\",\
$(add_blob "$layout" "$layer.tar.$suffix")}")
  done
  printf '{"architecture":"amd64","os":"linux","config":{"Cmd":["/bin/bash"]},"rootfs":%s,%s}' \
    "{\"type\":\"layers\",\"diff_ids\":[$(join "${ids[@]}")]}" \
    "\"history\":[$(join "${histories[@]}")]" >"$NEW/config"
  config=$(add_blob "$layout" "$NEW/config")
  printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s",%s},"layers":[%s]}' \
    "$oci.manifest.v1+json" "$oci.config.v1+json" "$config" "$(join "${descriptors[@]}")" \
    >"$NEW/manifest"
  manifest=$(add_blob "$layout" "$NEW/manifest")
  printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
  printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s",%s,"annotations":{%s}}]}' \
    "$oci.manifest.v1+json" "$manifest" "\"org.opencontainers.image.ref.name\":\"latest\"" \
    >"$layout/index.json"
  rm -f "$NEW/config" "$NEW/manifest"
  rm -rf "$name-$suffix"
  mv "$layout" "$name-$suffix"
}

for layer in "${layers[@]}"; do
  [[ -e $layer.tar ]] || case $layer in
    node) make_node_layer ;;
    *) make_debian_layers ;;
  esac
done
# compress TARGET COMMAND...: once, and whole.
compress() {
  local target=$1
  shift
  [[ ! -e $target ]] || return 0
  "$@" >"$NEW/compressed"
  mv "$NEW/compressed" "$target"
}

for layer in "${layers[@]}"; do
  compress "$layer.tar.gz" gzip -6 --stdout "$layer.tar"
  compress "$layer.tar.zst" zstd -q -3 --stdout "$layer.tar"
done
make_layout gz gzip
make_layout zst zstd
du -sh "$out/$name-gz" "$out/$name-zst"
