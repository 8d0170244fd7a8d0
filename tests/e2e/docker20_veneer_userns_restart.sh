#!/usr/bin/env bash
# Docker 20.10 on the graph-driver plugin, driver `veneer`: either side dies and comes back
# where containers are in user namespaces.
set -euo pipefail
driver=veneer name=veneer
DOCKERD_OPTIONS=(--userns-remap cook)
# shellcheck source=tests/support/docker20.sh
. "$(dirname "$0")/../support/docker20.sh"
# shellcheck source=tests/support/docker20_restart.sh
. "$support/docker20_restart.sh"
