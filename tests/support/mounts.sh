# Sourced by tests and benchmarks.
# shellcheck shell=bash

# unmount_below DIRECTORY [OPTION...]: undoes the mounts that are left there, the last first, as one
# may lie in another.
unmount_below() {
  local target
  while read -r target; do
    umount "${@:2}" "$target"
  done < <(awk -v top="$1/" 'index($5, top) == 1 {print $5}' /proc/self/mountinfo | tac)
}
