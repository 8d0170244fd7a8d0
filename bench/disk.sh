# Sourced by the benchmarks: the disk that they write to, in memory, so that no real one decides.
# shellcheck shell=bash

# shellcheck source=tests/support/mounts.sh
. "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../tests/support/mounts.sh"

# make_disk IMAGE SIZE TARGET: mounts a new ext4 file system in the file IMAGE on TARGET.
make_disk() {
  # A disk has its blocks from the start. Those of a sparse file would be found, and cleared, while
  # something is timed that syncs; and again after a discard.
  head --bytes "$2" /dev/zero >"$1"
  # Whole inode tables from the start: the kernel would write them while something is timed.
  mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$1"
  mkdir -p "$3"
  mount -o loop "$1" "$3"
}

# touch_memory DIRECTORY: what is timed next needs memory, and a host may have taken back what was
# free in a virtual machine: its first use is several times slower than a copy. DIRECTORY is one in
# memory.
touch_memory() {
  head --bytes 3G /dev/zero >"$1/touched"
  rm "$1/touched"
}
