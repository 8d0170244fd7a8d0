# shellcheck shell=bash
# For end-to-end tests to source after cell.sh: a registry in the cell. The test has made $scratch.

REGISTRY=127.0.0.1:5000

# In the cell, on $REGISTRY.
# shellcheck disable=SC2154 # the test's
registry_start() {
  cat >"$scratch/registry.yml" <<CONFIG
version: 0.1
storage: {filesystem: {rootdirectory: $scratch/registry}}
http: {addr: "$REGISTRY"}
CONFIG
  in_cell docker-registry serve "$scratch/registry.yml" >"$scratch/registry.log" 2>&1 </dev/null &
  wait_until 20 registry_answers || fail "the registry does not answer"
}

registry_answers() { in_cell curl --silent --fail --output /dev/null "http://$REGISTRY/v2/"; }
