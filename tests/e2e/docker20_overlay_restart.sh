#!/usr/bin/env bash
# Docker 20.10 on the graph-driver plugin, driver `overlay`: either side dies and comes back.
set -euo pipefail
driver=overlay name=galley
# shellcheck source=tests/support/docker20.sh
. "$(dirname "$0")/../support/docker20.sh"
# shellcheck source=tests/support/docker20_restart.sh
. "$support/docker20_restart.sh"
