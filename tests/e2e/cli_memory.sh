#!/usr/bin/env bash
# Memory does not grow with the layer: 300 MB are loaded, and exported, in less than 64.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

limit_kb=65536
mkdir "$SCRATCH/tree"
head -c 250M /dev/urandom >"$SCRATCH/tree/random"
yes "words that compress" | head -c 50M >"$SCRATCH/tree/words" || true
for n in {1..2000}; do echo "$n" >"$SCRATCH/tree/small$n"; done
tar -C "$SCRATCH/tree" -cf "$SCRATCH/layer.tar" .
rm -r "$SCRATCH/tree"

# peak_kb COMMAND...: the most memory that it had at any moment.
peak_kb() {
  python3 -c '
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
' "$@"
}

for command in "cat" "igzip -1c" "zstd -qc"; do
  $command "$SCRATCH/layer.tar" >"$SCRATCH/layer"
  python3 "$SUPPORT/oci_layout.py" "$SCRATCH/image" "$SCRATCH/layer"
  used=$(peak_kb "$VENEER" --root "$SCRATCH/root" --run "$SCRATCH/run" driver load "$SCRATCH/image")
  echo "load of $command: $used kB"
  [[ $used -lt $limit_kb ]] || fail "loading ($command) took $used kB of memory"
  id=$(driver list)
  used=$(peak_kb "$VENEER" --root "$SCRATCH/root" --run "$SCRATCH/run" driver diff "$id")
  echo "diff: $used kB"
  [[ $used -lt $limit_kb ]] || fail "exporting took $used kB of memory"
  driver remove "$id"
  rm -r "$SCRATCH/image"
done
