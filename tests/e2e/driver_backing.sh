#!/usr/bin/env bash
# Where the driver `overlay` cannot work: the file system is named, and nothing is made there.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

DISK=$SCRATCH/disk
mkdir "$DISK"

# refused_on REGEX MKFS...: of a home on that file system, and of one that is there already.
refused_on() {
  truncate -s 256M "$SCRATCH/device"
  "${@:2}" "$SCRATCH/device" >/dev/null 2>&1
  mount -o loop "$SCRATCH/device" "$DISK"
  local before
  before=$(find "$DISK")
  refused 1 "^veneer: driver list: $1" veneer driver --driver overlay --home "$DISK/a/home" list
  refused 1 "^veneer: driver list: $1" veneer driver --driver overlay --home "$DISK" list
  expect "what is on the file system" "$before" "$(find "$DISK")"
  unmount_below "$SCRATCH"
  rm "$SCRATCH/device"
}

refused_on '.*/disk(/a/home)? lies on btrfs, .* choose a --home on' mkfs.btrfs -q
# An ext4 without it is what is left to make: Linux mounts no xfs without ftype any more.
refused_on 'the ext4 file system .*d_type.*make it anew .* or choose another --home' \
  mkfs.ext4 -q -F -O '^filetype'

# overlayfs on overlayfs.
mkdir "$SCRATCH"/{lower,upper,work}
mount -t overlay overlay \
  -o "lowerdir=$SCRATCH/lower,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work" "$DISK"
refused 1 'lies on overlay' veneer driver --driver overlay --home "$DISK/home" list
umount "$DISK"

# What is not there yet is made where its parents will be.
expect "layers of a new home" "" "$(veneer driver --home "$SCRATCH/a/b/home" list)"
expect "its mode" 710 "$(stat -c %a "$SCRATCH/a/b/home")"
