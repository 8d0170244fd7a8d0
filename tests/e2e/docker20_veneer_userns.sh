#!/usr/bin/env bash
# Docker 20.10 on the graph-driver plugin, driver `veneer`: containers in user namespaces.
set -euo pipefail
driver=veneer name=veneer
DOCKERD_OPTIONS=(--userns-remap cook)
# shellcheck source=tests/support/docker20.sh
. "$(dirname "$0")/../support/docker20.sh"
# shellcheck source=tests/support/docker20_userns.sh
. "$support/docker20_userns.sh"
