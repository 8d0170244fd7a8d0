#!/usr/bin/env bash
# The disk is full, of blocks or of inodes, or a quota is used up, at one moment after the other of
# each operation: the error is one line that says what is full, nothing that was there is lost, what
# only reads or removes works, and so does everything when there is room again.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

DISK=$SCRATCH/disk
OUT=$DISK/out.tar
veneer() { "$VENEER" --root "$DISK/root" --run "$SCRATCH/run" "$@"; }
# With homes of their own, which are on the full disk, too.
overlay() { veneer driver --driver overlay --home "$DISK/overlay" "$@"; }
snapshots() { veneer driver --driver veneer --home "$DISK/veneer" "$@"; }

# write_archive OUT TEXT FILES BYTES: a docker-archive of one layer, and the layer beside it.
write_archive() {
  local tree=$SCRATCH/tree
  rm -rf "$tree" && mkdir -p "$tree/top/srv"
  for ((number = 0; number < $3; number++)); do
    head -c "$4" < <(yes "$2 $number") >"$tree/top/srv/$2-$number"
  done
  tar -C "$tree/top" --sort=name --mtime=@0 -cf "$1.layer" srv
  cp "$1.layer" "$tree/layer.tar"
  printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers",
    "diff_ids":["sha256:%s"]}}' "$(sha256sum <"$1.layer" | cut -d' ' -f1)" >"$tree/config.json"
  printf '[{"Config":"config.json","RepoTags":null,"Layers":["layer.tar"]}]' >"$tree/manifest.json"
  tar -C "$tree" -cf "$1" manifest.json config.json layer.tar
}

clear_mounts() {
  unmount_below "$DISK"  # these have those of <run> as lower directories
  unmount_below "$SCRATCH/run"
}

# A new file system with a store that has an image, and a container that wrote. Quotas are those of
# btrfs, which the driver overlay refuses.
begin() {
  local driver
  mkdir -p "$DISK"
  drivers=(overlay snapshots)
  if [[ $1 == quota ]]; then
    drivers=(snapshots)
    truncate -s 256M "$SCRATCH/device"
    mkfs.btrfs -q "$SCRATCH/device" >/dev/null
    mkdir -p "$SCRATCH/top"
    mount -o loop "$SCRATCH/device" "$SCRATCH/top"
    btrfs quota enable "$SCRATCH/top"
    btrfs subvolume create "$SCRATCH/top/limited" >/dev/null
    mount --bind "$SCRATCH/top/limited" "$DISK"
  else
    truncate -s 16M "$SCRATCH/device"
    mkfs.ext4 -q -F -b 1024 -m 0 -N 400 "$SCRATCH/device"
    mount -o loop "$SCRATCH/device" "$DISK"
  fi
  veneer load -q "$SCRATCH/kept.tar" --name kept >/dev/null
  veneer create kept --name box >/dev/null
  echo written >"$(veneer mount box)/srv/mine"
  veneer umount box
  for driver in "${drivers[@]}"; do
    "$driver" create base
    "$driver" apply base <"$SCRATCH/kept.tar.layer" >/dev/null
  done
  mkdir "$DISK/filler"
}

end() {
  clear_mounts
  local tries=0
  # What deletes in the background has it open.
  until umount "$DISK" 2>/dev/null; do
    [[ $((tries += 1)) -lt 100 ]] || fail "$LEVEL: the disk is in use"
    sleep 0.1
  done
  ! mountpoint -q "$SCRATCH/top" || umount "$SCRATCH/top"
  rm -rf "$SCRATCH/run" "$SCRATCH/device"
}

# A subvolume at its limit has no room to change that.
limit_quota() {
  btrfs qgroup limit "$1" "0/$(btrfs inspect-internal rootid "$DISK")" "$SCRATCH/top"
}

# leave blocks KIB | leave inodes NUMBER | leave quota KIB
leave() {
  local free used
  rm -rf "$DISK/filler/"*
  sync -f "$DISK"
  if [[ $1 == quota ]]; then
    used=$(btrfs qgroup show --raw -f "$DISK" | awk 'END { print $2 }')
    limit_quota $((used + $2 * 1024))
  elif [[ $1 == blocks ]]; then
    # As much as there is, in several pieces: extents take blocks of their own.
    while free=$(df --output=avail -k "$DISK" | tail -1) && [[ $free -gt $2 ]]; do
      fallocate -l "$((free - $2 > 512 ? (free - $2) * 3 / 4 : 1))K" \
        "$DISK/filler/$free" 2>/dev/null || break
    done
  else
    free=$(df --output=iavail "$DISK" | tail -1)
    for ((number = 0; number < free - $2; number++)); do : >"$DISK/filler/$number"; done
  fi
}

# attempt NAME COMMAND...: sets done_NAME if it works; otherwise it has to say what is full.
declare -A is_done=() failures=()
attempt() {
  local name=$1 status=0
  shift
  "$@" >"$SCRATCH/stdout" 2>"$SCRATCH/stderr" </dev/null || status=$?
  is_done[$name]=1
  [[ $status == 0 ]] && return
  is_done[$name]=
  expect "$LEVEL: exit status of $name ($(cat "$SCRATCH/stderr"))" 1 "$status"
  expect "$LEVEL: lines on standard error of $name ($(cat "$SCRATCH/stderr"))" 1 \
    "$(wc -l <"$SCRATCH/stderr")"
  local room='[^ ]* has [0-9]+ KiB and [0-9]+ inodes left: (.*: )?No space'
  # Of a full disk, btrfs tells some of those that map files by SIGBUS alone.
  if [[ ${LEVEL% *} == quota ]] && grep -q 'at its quota.*SIGBUS' "$SCRATCH/stderr"; then
    failures[$name]=$((${failures[$name]:-0} + 1))
    return
  fi
  [[ ${LEVEL% *} != quota ]] || room='[^ ]*( is at its quota)?: .*Disk quota exceeded$'
  grep -qE "^veneer: [a-z -]+: .*${DISK}$room" "$SCRATCH/stderr" ||
    fail "$LEVEL: $name says '$(cat "$SCRATCH/stderr")'"
  [[ ${LEVEL% *} != inodes ]] || grep -qE 'and [0-3] inodes left' "$SCRATCH/stderr" ||
    fail "$LEVEL: $name does not say that inodes lack: $(cat "$SCRATCH/stderr")"
  failures[$name]=$((${failures[$name]:-0} + 1))
}

# As Docker does: what could not be applied is removed, which the full disk has to allow; but not
# btrfs at its quota, where that takes room, and may fail when the rows have gone already.
apply_to() {
  "$1" create new base || return
  "$1" apply new base <"$SCRATCH/new.tar.layer" && return
  "$1" remove new 2>/dev/null && return 1
  [[ ${LEVEL% *} == quota ]] || fail "$LEVEL: remove of $1 on the full disk"
  limit_quota none
  if "$1" list | grep -qx new; then "$1" remove new; fi
  return 1
}

write_in_box() {
  local path
  path=$(veneer mount box) || return 1
  # What overlayfs says of a full disk is its own affair.
  if ! (head -c 50000 < <(yes more) >"$path/srv/more") 2>/dev/null; then rm -f "$path/srv/more"; fi
  veneer umount box
}

operate() {
  attempt load veneer load -q "$SCRATCH/new.tar" --name new
  attempt create veneer create kept --name second
  attempt write write_in_box
  attempt commit veneer commit box made
  attempt save veneer save -q kept -o "$OUT"
  local driver
  for driver in "${drivers[@]}"; do attempt "$driver" apply_to "$driver"; done
}

names_of() { veneer "$1" --json | python3 -c 'import json, sys
print(*sorted(n for x in json.load(sys.stdin) for n in x.get("names", [x.get("name")])))'; }

# What an operation said that it did is there, what failed is not, and all that was there before.
verify() {
  veneer check --json >"$SCRATCH/check" || fail "$LEVEL: $1: check: $(cat "$SCRATCH/check")"
  expect "$LEVEL: $1: images" \
    "kept:latest${is_done[commit]:+ made:latest}${is_done[load]:+ new:latest}" "$(names_of images)"
  expect "$LEVEL: $1: containers" "box${is_done[create]:+ second}" "$(names_of ps)"
  expect "$LEVEL: $1: a saved file" "${is_done[save]:+out.tar}" \
    "$(find "$DISK" -maxdepth 1 -name '*.tar' -printf '%f\n')"
  local driver
  for driver in "${drivers[@]}"; do
    expect "$LEVEL: $1: layers of $driver" "base${is_done[$driver]:+ new}" \
      "$("$driver" list | sort | paste -sd ' ')"
  done
  expect "$LEVEL: $1: leftovers" "" "$(
    find "$DISK" -mindepth 1 -maxdepth 1 -name '.*'
    find "$DISK" -path '*/staging/*' -o -path '*/.veneer-staging/*'
  )"
}

# --- the levels --------------------------------------------------------------------------------

look_and_remove() {
  veneer check >/dev/null || fail "$LEVEL: check on the full disk"
  veneer images >/dev/null && veneer ps >/dev/null && veneer df >/dev/null
  veneer gc >/dev/null || fail "$LEVEL: gc on the full disk"
  local name
  for name in second box; do
    [[ $name == second && -z ${is_done[create]} ]] || veneer rm "$name" >/dev/null ||
      fail "$LEVEL: rm $name on the full disk"
  done
  for name in "${is_done[load]:+new}" "${is_done[commit]:+made}"; do
    [[ -z $name ]] || veneer rmi "$name" >/dev/null || fail "$LEVEL: rmi $name on the full disk"
  done
}

# There, to remove something takes room, too: it is done, or says so and can be done later.
remove_at_quota() {
  local name names=(box)
  [[ -z ${is_done[create]} ]] || names+=(second)
  for name in "${names[@]}"; do
    attempt remove veneer rm "$name"
    [[ -n ${is_done[remove]} ]] && continue
    limit_quota none
    veneer rm "$name" >/dev/null || fail "$LEVEL: rm $name with room"
  done
  limit_quota none
  veneer rmi kept new made >/dev/null || fail "$LEVEL: rmi with room"
}

try_level() {
  LEVEL="$1 $2"
  begin "$1"
  local name again=() operations=(load create write commit save "${drivers[@]}")
  leave "$1" "$2"
  operate
  # btrfs takes room for what is only looked at.
  [[ $1 != quota ]] || limit_quota none
  verify "full"
  rm -rf "$DISK/filler"
  expect "$LEVEL: the container" written "$(cat "$(veneer mount box)/srv/mine")"
  veneer umount box
  mkdir "$DISK/filler"
  for name in "${operations[@]}"; do
    [[ -n ${is_done[$name]} ]] || again+=("$name")
  done
  for name in "${again[@]}"; do
    case $name in
      load) attempt load veneer load -q "$SCRATCH/new.tar" --name new ;;
      create) attempt create veneer create kept --name second ;;
      write) attempt write write_in_box ;;
      commit) attempt commit veneer commit box made ;;
      save) attempt save veneer save -q kept -o "$OUT" ;;
      *) attempt "$name" apply_to "$name" ;;
    esac
    [[ -n ${is_done[$name]} ]] || fail "$LEVEL: $name with room: $(cat "$SCRATCH/stderr")"
  done
  verify "with room again"
  leave "$1" 0
  if [[ $1 == quota ]]; then remove_at_quota; else look_and_remove; fi
  end
}

write_archive "$SCRATCH/kept.tar" kept 4 3000
write_archive "$SCRATCH/new.tar" new 12 20000
for level in ${LEVELS_KIB:-0 4 20 60 150 350}; do try_level blocks "$level"; done
for level in ${LEVELS_INODES:-0 1 2 3 5 8 12 20}; do try_level inodes "$level"; done
for level in ${LEVELS_QUOTA_KIB:-0 64 150 400}; do try_level quota "$level"; done
for name in load create write commit save overlay snapshots; do
  [[ ${failures[$name]:-0} -gt 0 ]] || fail "$name never found the disk full"
done
