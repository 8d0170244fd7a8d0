#!/usr/bin/env bash
# Layers packed over their parents and mounted are the image that the overlay driver unpacks; what
# does not fit is refused and leaves nothing.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

CLIENTS=${VENEER_CLIENTS:-$SUPPORT/../../build/clients}/forky
[[ -x $CLIENTS/usr/bin/fsck.erofs ]] || fail "no fsck.erofs: run tests/support/clients.sh"
mount --bind "$SCRATCH" "$CLIENTS/mnt"
trap 'umount "$CLIENTS/mnt"; clean_up' EXIT

layer() { veneer layer "$@"; }

# fsck LAYER: every index of it is sound, data included. (--xattrs refuses empty values.)
fsck() {
  local index output
  for index in "$SCRATCH/$1"/*.erofs; do
    output=$(chroot "$CLIENTS" fsck.erofs --extract --device="/mnt/$1/layer.tar" \
      "/mnt/$1/${index##*/}" 2>&1) || fail "fsck.erofs of $index: $output"
  done
}

# Directories of an index have their marks under both names, for user namespaces; overlayfs without
# userxattr shows the other one.
tree_of() {
  python3 "$SUPPORT/tree_lines.py" "$1" | sed 's/ user\.overlay\.[a-z]*=[0-9]*//g; s/ *$//'
}

mounts_left() { grep -c " $SCRATCH/[^ ]*/\(mnt\|target\)\( \|/\)" /proc/self/mountinfo || true; }

# pack_all DIR FORM BLOB...: DIR/0, DIR/1, ... each over those before it; STACK is topmost first.
pack_all() {
  local dir=$1 form=$2 blob parent
  shift 2
  STACK=()
  mkdir "$SCRATCH/$dir"
  for blob; do
    local parents=()
    for parent in "${STACK[@]}"; do parents+=(--parent "$parent"); done
    local at=$SCRATCH/$dir/${#STACK[@]}
    expect "DiffID of $at" "sha256:$(plain "$blob" | sha256sum | cut -d' ' -f1)" \
      "$(layer pack "$blob" "$at" "${parents[@]}" --form "$form")"
    STACK=("$at" "${STACK[@]}")
  done
}

plain() {
  case $(od -An -tx1 -N4 "$1") in
    *"1f 8b"*) gzip -dc "$1" ;;
    *"28 b5 2f fd"*) zstd -dc "$1" ;;
    *) cat "$1" ;;
  esac
}

mkdir "$SCRATCH/target"
target=$SCRATCH/target
python3 "$SUPPORT/make_image.py" "$SCRATCH/image" --zstd --layers 3 >/dev/null
mapfile -t blobs < <(python3 "$SUPPORT/oci_blobs.py" "$SCRATCH/image/oci")
expect "kinds of compression" "gzip plain zstd" "$(for blob in "${blobs[@]}"; do
  case $(od -An -tx1 -N2 "$blob") in
    *"1f 8b") echo gzip ;;
    *"28 b5") echo zstd ;;
    *) echo plain ;;
  esac
done | sort -u | xargs)"
top=$(driver load "$SCRATCH/image/oci")
driver create-rw box "$top"
box=$(driver get box)
touch -d @0 "$box"  # no layer names the root: its time is everyone's own
wanted=$(tree_of "$box")
driver put box
[[ $(wc -l <<<"$wanted") -gt 70 ]] || fail "the image has few entries: $wanted"

for form in packed directory; do
  pack_all "$form" "$form" "${blobs[@]}"
  layer mount "${STACK[@]}" "$target"
  diff <(echo "$wanted") <(tree_of "$target") >"$SCRATCH/diff" ||
    fail "the $form layers are another tree: $(head -20 "$SCRATCH/diff")"
  if touch "$target/new" 2>/dev/null; then fail "a mount without an upper is writable"; fi
  layer unmount "$target"
  expect "mounts after unmount ($form)" 0 "$(mounts_left)"
done

# What is mounted there and is not made of layers stays.
mount -t tmpfs none "$target"
refused 1 '^veneer: layer unmount: .* is not a stack of layers$' layer unmount "$target"
umount "$target"
mkdir -p "$SCRATCH/plain"/{a,b,mnt}
mount --bind "$SCRATCH/plain" "$target"
refused 1 '^veneer: layer unmount: .* is not a stack of layers$' layer unmount "$target"
umount "$target"
for lowers in "$SCRATCH/plain/a:$SCRATCH/plain/b" "$SCRATCH/plain/mnt:$SCRATCH/packed/0/mnt"; do
  mount -t overlay overlay -o "lowerdir=$lowers" "$target"
  refused 1 '^veneer: layer unmount: .* is not a stack of layers$' layer unmount "$target"
  umount "$target"
done
refused 1 '^veneer: layer unmount: nothing is mounted on ' layer unmount "$target"

for at in "${!blobs[@]}"; do
  fsck "packed/$at"
  [[ ! -e $SCRATCH/packed/$at/fs ]] || fail "layer $at is a directory"
  [[ -d $SCRATCH/directory/$at/fs ]] || fail "layer $at is not a directory"
done
pack_all again packed "${blobs[@]}"
for at in "${!blobs[@]}"; do
  diff -r -x mnt "$SCRATCH/packed/$at" "$SCRATCH/again/$at" || fail "packing $at again differs"
done

# Several at once are what one after another makes, and the digests are those of the files.
# pairs DIR BLOB...: PAIRS is these blobs, each with its directory DIR/0, DIR/1, ...
pairs() {
  local dir=$SCRATCH/$1 blob
  shift
  PAIRS=()
  mkdir -p "$dir"
  for blob; do PAIRS+=("$blob" "$dir/$((${#PAIRS[@]} / 2))"); done
}

pairs several "${blobs[@]}"
layer --json pack "${PAIRS[@]}" >"$SCRATCH/ids"
for at in "${!blobs[@]}"; do
  diff -r -x mnt "$SCRATCH/packed/$at" "$SCRATCH/several/$at" ||
    fail "layer $at of several differs"
  sed -n "$((at + 1))p" "$SCRATCH/ids" >"$SCRATCH/id"
  python3 - "$SCRATCH/several/$at" "${blobs[$at]}" "$SCRATCH/id" <<'PYTHON'
import hashlib, json, pathlib, sys
layer, blob, line = map(pathlib.Path, sys.argv[1:])
told = json.loads(line.read_text())
for name, file in ("blob", blob), ("diff_id", layer / "layer.tar"), \
        ("index_digest", layer / told["index"]):
    digest = "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
    assert told[name] == digest, (name, told[name], digest)
PYTHON
done
pairs over "${blobs[@]:1}"
layer pack "${PAIRS[@]}" --parent "$SCRATCH/packed/0" >"$SCRATCH/ids"
expect "DiffIDs" "${#PAIRS[@]}" $((2 * $(grep -c '^sha256:' "$SCRATCH/ids")))
for at in "${!blobs[@]}"; do
  ((at == 0)) || diff -r -x mnt "$SCRATCH/packed/$at" "$SCRATCH/over/$((at - 1))" ||
    fail "layer $at of several over a parent differs"
done

# Of several, one that cannot be packed leaves nothing of any: damaged, or found to be by the layers
# below it.
head -c $(($(stat -c %s "${blobs[1]}") / 2 + 100)) "${blobs[1]}" >"$SCRATCH/damaged"
python3 - "$SCRATCH/link.tar" <<'PYTHON'
import sys, tarfile
with tarfile.open(sys.argv[1], "w") as tar:
    record = tarfile.TarInfo("etc/link")
    record.type, record.linkname = tarfile.LNKTYPE, "etc/nowhere"
    tar.addfile(record)
PYTHON
for bad in damaged link.tar; do
  pairs "bad-$bad" "${blobs[0]}" "$SCRATCH/$bad" "${blobs[@]:2}"
  refused 1 "^veneer: layer pack: $SCRATCH/$bad: " layer pack "${PAIRS[@]}"
  expect "what is left with $bad" "" "$(find "$SCRATCH/bad-$bad" -mindepth 2)"
done
refused 1 '^veneer: layer pack: .* is given twice$' \
  layer pack "${blobs[0]}" "$SCRATCH/twice" "${blobs[1]}" "$SCRATCH/./twice"
refused 2 '^veneer: layer pack: .*no directory for this blob' layer pack "${blobs[0]}"

# Killed while the second is read: no mounts are left, and the directories, emptied, serve again.
mkfifo "$SCRATCH/fifo"
pairs killed "${blobs[0]}" "$SCRATCH/fifo"
"$VENEER" layer pack "${PAIRS[@]}" >/dev/null &
pid=$!
exec 9>"$SCRATCH/fifo"
head -c 700 "${blobs[1]}" >&9
until compgen -G "$SCRATCH/killed/0/layer*.erofs" >/dev/null; do
  kill -0 "$pid" || fail "packing ends before it has its second blob"
  sleep 0.01
done
kill -9 "$pid"
{ wait "$pid" && fail "packing was not killed"; } 2>/dev/null
exec 9>&-
expect "mounts of a killed packing" 0 "$(mounts_left)"
refused 1 '^veneer: layer pack: .* is not empty$' \
  layer pack "${blobs[0]}" "$SCRATCH/killed/0" "${blobs[1]}" "$SCRATCH/killed/1"
rm -r "$SCRATCH/killed"/*/*
pairs killed "${blobs[@]:0:2}"
layer pack "${PAIRS[@]}" >/dev/null
for at in 0 1; do
  diff -r -x mnt "$SCRATCH/packed/$at" "$SCRATCH/killed/$at" ||
    fail "layer $at differs after a kill"
done

# Writable: changes go to the upper, layers stay, and the stack can be mounted twice.
mkdir "$SCRATCH/target/other" "$SCRATCH/target/box"
layer mount "${STACK[@]}" "$target/other"
layer mount --upper "$SCRATCH/upper" "${STACK[@]}" "$target/box"
echo new >"$target/box/etc/motd"
rm "$target/box/etc/passwd"
expect "a file of the upper" new "$(cat "$SCRATCH/upper/fs/etc/motd")"
[[ -c $SCRATCH/upper/fs/etc/passwd ]] || fail "no whiteout in the upper"
chroot "$target/box" /bin/sh -c 'test -e /etc/group' || fail "the image does not run"
layer unmount "$target/box"
expect "layers that the other mount needs" "${#STACK[@]}" \
  "$(grep -c " $SCRATCH/again/[^ ]*/mnt " /proc/self/mountinfo)"
grep -q ^cook "$target/other/etc/passwd" || fail "the layers have changed"
layer unmount "$target/other"
expect "mounts at the end" 0 "$(mounts_left)"
layer mount --upper "$SCRATCH/upper" "${STACK[@]}" "$target/box"
expect "a change after mounting again" new "$(cat "$target/box/etc/motd")"
layer unmount "$target/box"
# An image may have a layer twice.
layer mount "${STACK[@]}" "${STACK[0]}" "$target/box"
layer unmount "$target/box"
expect "mounts after a layer twice" 0 "$(mounts_left)"

# Marks for directories that the lower layers do not have make none, also where reading again is
# what finds that out, and nothing else is different over them.
python3 - "$SCRATCH/void.tar" <<'PYTHON'
import sys, tarfile
with tarfile.open(sys.argv[1], "w") as tar:
    for name in "./", "new/x", "new/", "no/.wh.y":
        record = tarfile.TarInfo(name.rstrip("/"))
        record.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
        record.mode = 0o755
        tar.addfile(record)
PYTHON
layer pack "$SCRATCH/void.tar" "$SCRATCH/void" --parent "$SCRATCH/packed/0" >/dev/null
layer mount "$SCRATCH/void" "$SCRATCH/packed/0" "$target"
[[ -e $target/new/x && ! -e $target/no ]] || fail "a whiteout of nothing makes its directory"
layer unmount "$target"

# What is refused leaves nothing.
refused 1 '^veneer: layer mount: .*/none: No such file' layer mount "$SCRATCH/none" "$target"
refused 1 '^veneer: layer mount: .*holds no layer' layer mount "$SCRATCH/image" "$target"
refused 1 '^veneer: layer mount: .*/missing' layer mount "${STACK[0]}" "$SCRATCH/missing" "$target"
refused 1 '^veneer: layer pack: .* is not empty$' layer pack "${blobs[0]}" "$SCRATCH/packed/0"
refused 1 '^veneer: layer pack: .*/none' layer pack "$SCRATCH/none" "$SCRATCH/a"
refused 1 '^veneer: layer pack: .*holds no layer' \
  layer pack "${blobs[0]}" "$SCRATCH/b" --parent "$SCRATCH/image"
refused 2 '^veneer: layer pack: .*packed or directory' \
  layer pack "${blobs[0]}" "$SCRATCH/c" --form tree
for at in 0 1; do
  size=$(stat -c %s "${blobs[$at]}")
  head -c $((size / 2 + 100)) "${blobs[$at]}" >"$SCRATCH/cut"
  refused 1 '^veneer: layer pack: ' layer pack "$SCRATCH/cut" "$SCRATCH/cut.$at"
  expect "files of a layer cut off" "" "$(ls -A "$SCRATCH/cut.$at")"
done
mv "$SCRATCH/packed/0/layer.tar" "$SCRATCH/packed/0/away"
refused 1 '^veneer: layer mount: ' layer mount "$SCRATCH/packed/0" "$target"
expect "mounts after failures" 0 "$(mounts_left)"

# What fuzzing has found, in the kernel: a tar is refused in one line, or read to its end.
packed=0
for tar in "$SUPPORT"/../fuzz/corpus/pack/*; do
  at=corpus-$(basename "$tar" .tar)
  if ! layer pack "$tar" "$SCRATCH/$at" >"$SCRATCH/stdout" 2>"$SCRATCH/stderr" </dev/null; then
    refused 1 '^veneer: layer pack: ' layer pack "$tar" "$SCRATCH/$at"
    expect "files of $at" "" "$(ls -A "$SCRATCH/$at")"
    continue
  fi
  [[ -e $SCRATCH/$at/fs ]] || fsck "$at"
  layer mount "$SCRATCH/$at" "$target" || fail "$at is packed and cannot be mounted"
  size=$(find "$target" -xdev -type f -size +8M -print -quit)
  [[ -n $size ]] || find "$target" -xdev -type f -exec cat {} + >/dev/null || fail "reading $at"
  find "$target" -xdev -printf '%l' >/dev/null || fail "listing $at"
  layer unmount "$target"
  packed=$((packed + 1))
done
[[ $packed -ge 10 ]] || fail "only $packed tars of the corpus can be packed"
expect "mounts at the end" 0 "$(mounts_left)"
