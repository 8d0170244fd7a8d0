#!/usr/bin/env bash
# Bytes that change on the disk, below what the page cache has of a file: check finds them, and
# what is repaired is what containers read.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

DISK=$SCRATCH/disk
veneer() { "$VENEER" --root "$DISK/root" --run "$SCRATCH/run" "$@"; }
python3 "$SUPPORT/make_image.py" "$SCRATCH/image" >/dev/null
image=$SCRATCH/image/docker.tar
name=veneer.test/galley:v1
truncate -s 64M "$SCRATCH/device"
mkfs.ext4 -q -F -b 4096 "$SCRATCH/device"
mkdir "$DISK"
mount -o loop "$SCRATCH/device" "$DISK"

veneer load -q "$image" >/dev/null
veneer create "$name" --name box >/dev/null
# All that the container shows; afterwards it is mounted no more.
shown() {
  local path
  path=$(veneer mount box)
  (cd "$path" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
  veneer umount box
}
content=$(shown)
veneer check >/dev/null || fail "damage in a new store"

# flip_on_disk FILE: a bit in the middle of its first block, where it lies in the device.
flip_on_disk() {
  local block size
  size=$(stat -c %s "$1")
  sync -f "$DISK"
  block=$(debugfs -R "bmap ${1#"$DISK"} 0" "$SCRATCH/device" 2>/dev/null)
  python3 - "$SCRATCH/device" $((block * 4096 + (size < 4096 ? size / 2 : 1100))) <<'PYTHON'
import sys
with open(sys.argv[1], "r+b", buffering=0) as device:
    device.seek(int(sys.argv[2]))
    byte = device.read(1)
    device.seek(int(sys.argv[2]))
    device.write(bytes([byte[0] ^ 4]))
PYTHON
}
# found_and_repaired FILE KIND [OPTION...]
found_and_repaired() {
  local status=0 before
  before=$(sha256sum <"$1") # and so all of it is in the page cache
  flip_on_disk "$1"
  expect "what the page cache has of $2" "$before" "$(sha256sum <"$1")"
  veneer check >"$SCRATCH/said" || status=$?
  expect "status of check with a bad $2 on the disk" 3 "$status"
  grep -q "^$2 " "$SCRATCH/said" || fail "no $2: $(cat "$SCRATCH/said")"
  veneer check --repair "${@:3}" >"$SCRATCH/said" || fail "$2: $(cat "$SCRATCH/said")"
  veneer check >/dev/null || fail "$2 is damaged still"
  expect "the container after a repair of $2" "$content" "$(shown)"
}
directory=$(find "$DISK/root/layers" -name layer.erofs -printf '%h\n' | sort | sed -n 1p)
found_and_repaired "$directory/layer.tar" tar --from "$image"
found_and_repaired "$directory/layer.erofs" index
found_and_repaired "$DISK/root/blobs/sha256/$(ls "$DISK/root/blobs/sha256")" blob --from "$image"

veneer rm box >/dev/null
veneer gc >/dev/null
while read -r target; do umount "$target"; done < <(awk -v run="$SCRATCH/run/" \
  'index($5, run) == 1 { print $5 }' /proc/self/mountinfo | tac)
umount "$DISK"
