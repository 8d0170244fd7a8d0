#!/usr/bin/env bash
# Containers: create, ps, mount, diff, commit, rm, umount, df; and every verb's help.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

python3 "$SUPPORT/make_image.py" "$SCRATCH/image" >/dev/null
veneer load "$SCRATCH/image/oci" --name galley >/dev/null
value() { python3 -c "import json, sys; it = json.load(sys.stdin); print($1)"; }

# Every verb has a help with an example, and a place in the manual.
for verb in load images rmi save create ps rm mount umount diff commit layers inspect df gc; do
  help=$(veneer "$verb" --help)
  [[ $help == *"Example:"*"veneer $verb"* ]] || fail "help of $verb: $help"
  grep -q "^\.It Cm $verb\b" "$SUPPORT/../../docs/man/veneer.1" || fail "no manual of $verb"
done
[[ $(veneer --help) == *Images*load*Containers*create*Store*layers* ]] || fail "veneer --help"

# A container is made of an image, by name or id, and has a name.
box=$(veneer create galley --name box)
[[ $box =~ ^[0-9a-f]{64}$ ]] || fail "the id is '$box'"
refused 1 '^veneer: create: .*box' veneer create galley --name box
refused 1 '^veneer: create: .*gallery.*galley:latest' veneer create gallery
refused 2 '^veneer: create: IMAGE is required' veneer create
other=$(veneer create --json galley | value 'it["name"]')
expect "names of the containers" "$other box" \
  "$(veneer ps --json | value '" ".join(one["name"] for one in it)')"
expect "ids of the containers" 2 "$(veneer ps -q | grep -cE '^[0-9a-f]{12}$')"
veneer ps | grep -qE "^box +${box:0:12}  galley:latest  +.* ago +-$" || fail "ps: $(veneer ps)"

# Mounted, it can be written; the same path again; mount alone lists.
path=$(veneer mount box)
mountpoint -q "$path" || fail "$path is not mounted"
expect "the path of a second mount" "$path" "$(veneer mount "${box:0:8}")"
expect "what is mounted" "NAME  MOUNTED ON
box   $path" "$(veneer mount)"
expect "ps of a mounted container" "$path" "$(veneer ps --json | value 'it[1]["mounted_on"]')"
expect "a program of the image" "root" \
  "$(chroot "$path" /bin/busybox sed -n 's/:x:0.*//p' /etc/passwd)"
expect "changes before any" "" "$(veneer diff box)"
echo hello >"$path/etc/motd"
rm "$path/srv/stock/fresh"
chmod 700 "$path/srv/menu"
wanted='C /etc
A /etc/motd
C /srv
C /srv/menu
C /srv/stock
D /srv/stock/fresh'
expect "changes" "$wanted" "$(veneer diff box)"
expect "changes as JSON" "{'kind': 'A', 'path': '/etc/motd'}" \
  "$(veneer diff box --json | value 'it[1]')"
veneer diff box --tar >"$SCRATCH/changes.tar"
expect "the tar of the changes" "./etc/motd" \
  "$(tar -tf "$SCRATCH/changes.tar" | sed 's,^\(\./\)*,./,' | grep motd)"
veneer diff box --tar | cmp - "$SCRATCH/changes.tar" || fail "two tars differ"
refused 1 '^veneer: diff: .*nobody' veneer diff nobody

# An image can be mounted too, read-only.
view=$(veneer mount galley)
expect "a file of the image" "added by layer 1" "$(cat "$view/srv/stock/fresh")"
if touch "$view/no" 2>/dev/null; then fail "a mounted image can be written"; fi
expect "what is mounted now" 3 "$(veneer mount | wc -l)"
veneer umount galley
refused 1 '^veneer: umount: galley is not mounted' veneer umount galley

# Committed, the changes are an image of their own; equal ones with a fixed date.
export SOURCE_DATE_EPOCH=1700000000
new=$(veneer commit box greeting --change 'CMD ["cat", "/etc/motd"]' --change 'ENV A="b c"' \
  --message 'says hello' --author 'A Cook <cook@veneer.test>')
[[ $new =~ ^[0-9a-f]{64}$ ]] || fail "the id of the new image is '$new'"
expect "the image's configuration" "['cat', '/etc/motd'] says hello 5" \
  "$(veneer inspect --json greeting | value 'it[0]["config"]["config"]["Cmd"],
    it[0]["config"]["history"][-1]["comment"], len(it[0]["layers"])')"
expect "a second commit" "$new" "$(veneer commit box --change 'CMD ["cat", "/etc/motd"]' \
  --change 'ENV A="b c"' -m 'says hello' -a 'A Cook <cook@veneer.test>')"
SOURCE_DATE_EPOCH=noon refused 1 '^veneer: commit: SOURCE_DATE_EPOCH is "noon"' veneer commit box
refused 1 '^veneer: commit: .*' veneer commit box x --change 'FROM scratch'
second=$(veneer mount "$(veneer create greeting --name second)")
expect "the new file" hello "$(cat "$second/etc/motd")"
[[ ! -e $second/srv/stock/fresh ]] || fail "the removed file is back"
expect "the changed mode" 700 "$(stat -c %a "$second/srv/menu")"
expect "changes of a fresh container" "" "$(veneer diff second)"

# Who takes how much.
veneer df --json | value 'it' >"$SCRATCH/df"
expect "df counts" "2 3 5" \
  "$(veneer df --json |
    value '" ".join(str(it[k]["count"]) for k in ("images", "containers", "layers"))')"
expect "df of shared layers" "True" \
  "$(veneer df --json | value '0 < it["images"]["shared"] < it["images"]["size"]')"
expect "df: nothing of used images could go" "0" \
  "$(veneer df --json | value 'it["images"]["reclaimable"]')"
expect "lines of df" 8 "$(veneer df | wc -l)"
expect "df of each image" "True" "$(veneer df --json | value 'all(0 < i["shared"] < i["size"] and
  i["unique"] == i["size"] - i["shared"] and i["reclaimable"] == 0 for i in it["each_image"]
  if i["unique"]) and len(it["each_image"]) == 2')"

# A copy of a store has mounts of its own.
cp -a "$SCRATCH/root" "$SCRATCH/copy"
mounts_of() { find "$SCRATCH/run" -maxdepth 1 -regex '.*/[0-9a-f]*'; }
own=$(mounts_of)
copied=$("$VENEER" --root "$SCRATCH/copy" --run "$SCRATCH/run" mount galley)
expect "a file of the copy" "added by layer 1" "$(cat "$copied/srv/stock/fresh")"
expect "the directories of two stores" 2 "$(mounts_of | wc -l)"
"$VENEER" --root "$SCRATCH/copy" --run "$SCRATCH/run" umount galley
umount "$(mounts_of | grep -vxF "$own")"/[0-9]*

# What is used is not removed, and says by whom; rm takes several and unmounts.
refused 1 '^veneer: rmi: .*second' veneer rmi greeting
expect "rm" "second
$other" "$(veneer rm second "$other")"
if mountpoint -q "$second" 2>/dev/null; then fail "rm does not unmount"; fi
expect "rmi afterwards" "untagged greeting:latest
deleted $new" "$(veneer rmi greeting)"
refused 1 '^veneer: rm: .*second' veneer rm second
status=0
output=$(veneer rm second box 2>/dev/null) || status=$?
expect "rm of two, one of which is gone" "1 box" "$status $output"
expect "containers at the end" "[]" "$(veneer ps --json)"
expect "what is mounted at the end" "[]" "$(veneer mount --json)"
veneer rmi "$(veneer images -q)" >/dev/null
veneer gc >/dev/null
expect "what is left on disk" "" \
  "$(cd "$SCRATCH/root" && find layers/sha256 snapshots blobs/sha256 staging trash -mindepth 1)"
if grep " $SCRATCH/" /proc/self/mountinfo; then fail "a mount is left"; fi
