# shellcheck shell=bash
# What Docker 20.10 does on the graph-driver plugin, for the tests of each driver to source: they
# set $driver, and $name, under which Docker knows the plugin.

here=$(dirname "$(realpath "$0")")
support=$here/../support
# shellcheck source=tests/support/cell.sh
. "$support/cell.sh"
own_namespaces "$@"
scratch=$(make_scratch)
# shellcheck source=tests/support/docker_plugin.sh
. "$support/docker_plugin.sh"
image=veneer.test/galley:v1

python3 "$support/make_image.py" "$scratch/image" >/dev/null
cell_start "$support/../../build/clients/bookworm" "$scratch"
# shellcheck disable=SC2154 # the test's
plugin_start "$driver"
# shellcheck disable=SC2154
plugin_dockerd "$name"
