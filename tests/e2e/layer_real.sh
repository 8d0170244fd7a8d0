#!/usr/bin/env bash
# The layer of a whole Debian, packed and mounted, is what GNU tar makes of the same tar, entry by
# entry and attribute by attribute, and fsck.erofs and dump.erofs read its index.
#
# CORPUS=DIR does the same with every DIR/*.tar.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

clients=${VENEER_CLIENTS:-$SUPPORT/../../build/clients}
forky=$clients/forky
[[ -x $forky/usr/bin/fsck.erofs ]] || fail "no fsck.erofs: run tests/support/clients.sh"

# erofs_tool NAME LAYER [OPTION...]
erofs_tool() {
  chroot "$forky" "$1" "${@:3}" --device="/mnt/$2/layer.tar" "/mnt/$2/layer.erofs" 2>&1
}

# What GNU tar extracts. A directory that only names of what is in it tell of is 0755, of time 0.
extract() {
  local dir
  mkdir "$2"
  tar --numeric-owner --same-owner --same-permissions --xattrs --xattrs-include='*' \
    --delay-directory-restore --warning=no-unknown-keyword -C "$2" -xf "$1"
  while read -r dir; do
    chmod 0755 "$2/$dir"
    touch -d @0 "$2/$dir"
  done < <(comm -13 \
    <(tar --quoting-style=literal -tf "$1" | sed 's:^\./::; s:/$::; s:^\.$::' | sort) \
    <(find "$2" -type d -printf '%P\n' | sort))
}

# check TAR NAME
check() {
  local tar=$1 name=$2 output count
  expect "DiffID of $tar" "sha256:$(sha256sum <"$tar" | cut -d' ' -f1)" \
    "$(veneer layer pack "$tar" "$SCRATCH/$name")"
  output=$(erofs_tool fsck.erofs "$name" --extract) || fail "fsck.erofs of $tar: $output"
  output=$(erofs_tool dump.erofs "$name" -s -S) || fail "dump.erofs of $tar: $output"

  extract "$tar" "$SCRATCH/tree"
  python3 "$SUPPORT/tree_lines.py" "$SCRATCH/tree" >"$SCRATCH/wanted"
  count=$(find "$SCRATCH/tree" -printf '%i\n' | sort -u | wc -l)
  expect "inodes of $tar" "$count" \
    "$(sed -n 's/^Filesystem inode count: *//p' <<<"$output")"
  rm -rf --one-file-system "$SCRATCH/tree"

  mkdir "$SCRATCH/target"
  veneer layer mount "$SCRATCH/$name" "$SCRATCH/target"
  python3 "$SUPPORT/tree_lines.py" "$SCRATCH/target" >"$SCRATCH/found"
  veneer layer unmount "$SCRATCH/target"
  rmdir "$SCRATCH/target"
  diff "$SCRATCH/wanted" "$SCRATCH/found" >"$SCRATCH/diff" ||
    fail "$tar, mounted, is another tree: $(head -n 20 "$SCRATCH/diff")"
  echo "$name: $(wc -l <"$SCRATCH/found") entries, $(stat -c %s "$tar") bytes," \
    "index of $(stat -c %s "$SCRATCH/$name/layer.erofs")"
  rm -rf --one-file-system "${SCRATCH:?}/$name"
}

mkdir "$SCRATCH/tars"
if [[ -n ${CORPUS:-} ]]; then
  tars=("$CORPUS"/*.tar)
else
  # With times in nanoseconds, a file of a capability, and one with holes.
  mkdir "$SCRATCH/more"
  printf 'cap' >"$SCRATCH/more/capable"
  python3 - "$SCRATCH/more" <<'PYTHON'
import os, sys
capability = bytes.fromhex("0100000200200000") + bytes(12)
os.setxattr(sys.argv[1] + "/capable", "security.capability", capability)
os.setxattr(sys.argv[1] + "/capable", "user.binary", b"\0\x80\n=")
with open(sys.argv[1] + "/holes", "wb") as file:
    for at in 0, 1 << 20, 5 << 20:
        file.seek(at)
        file.write(b"data" * 1500)
    file.truncate((6 << 20) + 77)
PYTHON
  tars=("$SCRATCH/tars/debian.tar")
  tar --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner --sort=name --sparse \
    --xattrs --xattrs-include='*' -cf "${tars[0]}" -C "$forky" . -C "$SCRATCH" more
fi
mount --bind "$SCRATCH" "$forky/mnt"
trap 'umount "$forky/mnt"; clean_up' EXIT
for tar in "${tars[@]}"; do check "$tar" "$(basename "$tar" .tar)"; done
