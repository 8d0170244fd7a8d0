# shellcheck shell=bash
# What Docker 20.10 does on the graph-driver plugin, for the tests of each driver to source: they
# set $driver, and $name, under which Docker knows the plugin. DOCKERD_OPTIONS may have more.

here=$(dirname "$(realpath "$0")")
support=$here/../support
# shellcheck source=tests/support/cell.sh
. "$support/cell.sh"
own_namespaces "$@"
scratch=$(make_scratch)
# shellcheck source=tests/support/docker_plugin.sh
. "$support/docker_plugin.sh"
# shellcheck disable=SC2034 # of the files that are sourced next
image=veneer.test/galley:v1
[[ -v DOCKERD_OPTIONS ]] || DOCKERD_OPTIONS=()
# shellcheck disable=SC2034 # the same: where user namespaces have their data
data=${DOCKERD_OPTIONS[0]:+100000.100000/}

chmod 711 "$scratch"  # for user namespaces, whose ids are small
python3 "$support/make_image.py" ${DOCKERD_OPTIONS[0]:+--small-ids} "$scratch/image" >/dev/null
cell_start "$support/../../build/clients/bookworm" "$scratch"
# shellcheck disable=SC2154 # the test's
plugin_start "$driver"
# shellcheck disable=SC2154
in_cell sh -c 'echo cook:x:1234:1234::/:/bin/sh >>/etc/passwd; echo cook:x:1234: >>/etc/group
  echo cook:100000:65536 | tee /etc/subuid >/etc/subgid'
plugin_dockerd "$name" "${DOCKERD_OPTIONS[@]}"
