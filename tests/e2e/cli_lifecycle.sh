#!/usr/bin/env bash
# From an image to a container, its changes as a layer, and a container over that.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

mkdir -p "$SCRATCH/base/etc" "$SCRATCH/base/var/old" "$SCRATCH/base/bin"
echo base >"$SCRATCH/base/etc/name"
echo gone >"$SCRATCH/base/var/old/file"
echo '#!/bin/sh' >"$SCRATCH/base/bin/tool"
chmod 755 "$SCRATCH/base/bin/tool"
tar -C "$SCRATCH/base" -cf "$SCRATCH/base.tar" .

# An image layer: create, apply.
driver create base
expect "size of an applied layer" "20 B" "$(driver apply base <"$SCRATCH/base.tar")"
refused 1 '^veneer: driver create: .*base' driver create base

# A container over it is a mount.
driver create-rw box base
box=$(driver get box)
mountpoint -q "$box" || fail "$box is not mounted"
expect "a file of the image" base "$(cat "$box/etc/name")"
echo changed >"$box/etc/name"
echo new >"$box/etc/new"
rm -r "$box/var/old"
chmod 700 "$box/bin/tool"
mkdir "$box/with newline"
: >"$box/with newline/a"$'\n'"b"
expect "the image's file" base "$(cat "$HOME_DIR/base/root/etc/name")"

wanted='C /bin
C /bin/tool
C /etc
C /etc/name
A /etc/new
C /var
D /var/old
A /with newline
A /with newline/a\x0ab'
expect "changes" "$wanted" "$(driver changes box base)"
expect "size of the changes" "22 B" "$(driver size box base)"
driver --json changes box base | python3 -c '
import json, sys
changes = json.load(sys.stdin)
assert {"kind": "A", "path": "/with newline/a\nb"} in changes, changes
assert {"kind": "D", "path": "/var/old"} in changes, changes
' || fail "changes --json"

# Mounts are counted: two get() are undone by two put().
expect "path of a second get" "$box" "$(driver get box)"
driver put box
mountpoint -q "$box" || fail "the first of two put unmounts"
driver put box
if mountpoint -q "$box" 2>/dev/null; then fail "the second put does not unmount"; fi
driver put box || fail "one put too many is an error"

# The container's changes as a layer over the same image; compressed on the way, it is the same.
driver diff box base >"$SCRATCH/changes.tar"
driver diff box base | cmp - "$SCRATCH/changes.tar" || fail "two diffs differ"
tar -tf "$SCRATCH/changes.tar" >/dev/null || fail "GNU tar does not read the diff"
driver create new base
driver apply new base <"$SCRATCH/changes.tar" >/dev/null
driver create zipped base
gzip -c "$SCRATCH/changes.tar" | driver apply zipped base >/dev/null
expect "metadata of an image layer" "$HOME_DIR/new/root" "$(driver --json metadata new |
  python3 -c 'import json, sys; print(*json.load(sys.stdin).values())')"

driver create-rw second new
second=$(driver get second)
expect "the changed file" changed "$(cat "$second/etc/name")"
expect "the new file" new "$(cat "$second/etc/new")"
[[ ! -e $second/var/old ]] || fail "the removed directory is back"
expect "the changed mode" 700 "$(stat -c %a "$second/bin/tool")"
[[ -f $second/"with newline/a"$'\n'"b" ]] || fail "the file with a newline is lost"
expect "changes of a fresh container" "" "$(driver changes second new)"
[[ $HOME_DIR/new/root/bin -ef $HOME_DIR/zipped/root/bin ]] && fail "two layers are one directory"
expect "the compressed layer's tree" \
  "$(cd "$HOME_DIR/new/root" && find . -printf '%y %m %s %T@ %P\n' | sort)" \
  "$(cd "$HOME_DIR/zipped/root" && find . -printf '%y %m %s %T@ %P\n' | sort)"
[[ $HOME_DIR/base/root/var -ef $HOME_DIR/new/root/var ]] && fail "directories are shared"
expect "inode of an unchanged file's layers" 700 "$(stat -c %a "$HOME_DIR/new/root/bin/tool")"
refused 1 '^veneer: driver apply: ' driver apply new base

# A mounted container can be removed; so can everything.
driver remove second
driver remove second 2>/dev/null && fail "a second removal succeeds"
for id in box zipped new base; do driver remove "$id"; done
expect "layers at the end" "" "$(driver list)"
expect_no_leftovers
if grep -q " $SCRATCH/" /proc/self/mountinfo; then fail "a mount is left"; fi
