#!/usr/bin/env bash
# Nothing that had returned is lost when the power goes, and the test would find it if it were.
set -euo pipefail

: "${VENEER:?the path of the veneer binary}"
cut=$(dirname "$(readlink -f "$0")")/../support/power_cut.py

"$cut" ext4 "${CUTS:-20}"
"$cut" xfs "${CUTS:-5}"
"$cut" btrfs "${CUTS:-5}"
for file_system in ext4 xfs btrfs; do
  status=0
  "$cut" "$file_system" 20 --volatile >/dev/null || status=$?
  [[ $status == 3 ]] && continue
  echo "$file_system: no losses without syncing: status $status" >&2
  exit 1
done
