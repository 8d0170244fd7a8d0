#!/usr/bin/env bash
# A flipped bit of the database is found, or changes nothing that matters; and to repair a store
# whose database is damaged throws nothing away. (Of the other files: cli_check.sh.)
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

python3 "$SUPPORT/make_image.py" "$SCRATCH/image" >/dev/null
veneer load -q "$SCRATCH/image/oci" --name app >/dev/null
veneer create app --name box >/dev/null
veneer create app --name second >/dev/null
veneer commit box box:2 >/dev/null
veneer create box:2 --name third >/dev/null
veneer check -q
python3 "$SUPPORT/flip_bits.py" "$VENEER" "$SCRATCH" "${FLIPS:-200}" "${SEED:-1}"
