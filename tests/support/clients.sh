#!/usr/bin/env bash
# Makes the root file systems of the real clients that the end-to-end tests run:
# build/clients/{bookworm,trixie,forky}, and build/clients/conformance, where containerd's own tests
# are built. One that is there and was made from the same package list is kept. MIRROR overrides
# the mirror that this machine's apt uses.
#   usage: tests/support/clients.sh [SUITE...]
set -euo pipefail

declare -A packages=(
  [bookworm]="docker.io docker-registry containerd runc umoci podman skopeo busybox-static
            ca-certificates curl iproute2 pigz procps"
  [trixie]="docker.io docker-cli iproute2 procps"
  [forky]="erofs-utils umoci containerd runc docker.io docker-cli docker-buildx docker-registry
         curl procps"
  [conformance]="golang-go golang-github-containerd-containerd-dev ca-certificates iproute2 procps"
)
# Of which Debian, where the name does not say it.
declare -A debian=([conformance]=bookworm)
# The newer suite is a moving one: an archive snapshot of it is older than its Release file allows.
options=(--variant=minbase --mode=root --dpkgopt=force-unsafe-io
         '--dpkgopt=path-exclude=/usr/share/doc/*' '--dpkgopt=path-exclude=/usr/share/man/*'
         '--aptopt=Acquire::Check-Valid-Until "false"')

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
clients=$PWD/build/clients
suites=("$@")
[[ $# -gt 0 ]] || suites=("${!packages[@]}")

stamp_of() {
  sha256sum <<<"$1 ${packages[$1]} ${options[*]}" | cut -d' ' -f1
}

# A killed run leaves only .new-*, which the next run removes: the rename is the last step.
make_root() {
  local suite=$1 mirror=$2 new
  new=$(mktemp -d "$clients/.new-$suite.XXXXXX")
  if ! mmdebstrap "${options[@]}" --include="${packages[$suite]// /,}" \
      "${debian[$suite]:-$suite}" "$new/root" "$mirror" &>"$new/log"; then
    tail -n 30 "$new/log" >&2
    echo "clients.sh: mmdebstrap $suite failed; the above is the end of $new/log" >&2
    return 1
  fi
  stamp_of "$suite" >"$new/root/.stamp"
  if [[ -e $clients/$suite ]]; then
    mv -T "$clients/$suite" "$new/old"
  fi
  mv -T "$new/root" "$clients/$suite"
  rm -rf --one-file-system "$new"
}

mirror_of_host() {
  local site
  # shellcheck disable=SC2016 # apt-get expands the format.
  site=$(apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' 'Codename: bookworm' |
    sed -n 1p)
  echo "${site:-http://deb.debian.org/debian}"
}

mkdir -p "$clients"
exec 9>"$clients/.lock"
flock 9
stale=()
for suite in "${suites[@]}"; do
  [[ -v packages[$suite] ]] || { echo "clients.sh: no suite '$suite'" >&2; exit 1; }
  if [[ $(cat "$clients/$suite/.stamp" 2>/dev/null) != "$(stamp_of "$suite")" ]]; then
    stale+=("$suite")
  fi
done
[[ ${#stale[@]} -gt 0 ]] || exit 0

[[ $EUID == 0 ]] || { echo "clients.sh: needs root (mmdebstrap in root mode)" >&2; exit 1; }
rm -rf --one-file-system "$clients"/.new-*
mirror=${MIRROR:-$(mirror_of_host)}
makers=()
for suite in "${stale[@]}"; do
  echo "clients.sh: making build/clients/$suite (${packages[$suite]})"
  make_root "$suite" "$mirror" &
  makers+=($!)
done
status=0
for maker in "${makers[@]}"; do
  wait "$maker" || status=1
done
exit $status
