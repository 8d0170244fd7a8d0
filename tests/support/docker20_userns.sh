# shellcheck shell=bash
# shellcheck disable=SC2154 # the test's
# Containers in user namespaces: --userns-remap, which docker20.sh's dockerd was started with.

docker load --quiet --input "$scratch/image/docker.tar" >/dev/null
docker run --detach --name kept --network none "$image" \
  sh -c 'while :; do sleep 1000; done' >/dev/null
pid=$(docker inspect --format '{{.State.Pid}}' kept)
expect "root's id outside" 100000 \
  "$(awk '$1 == "Uid:" {print $2}' "/proc/$CELL/root/proc/$pid/status")"
expect "root's id inside" 0 "$(docker exec kept id -u)"
docker exec kept sh -c 'echo one >/srv/one; chown 7:8 /srv/one; rm -r /srv/menu'
expect "the changes" "A /srv/one C /srv D /srv/menu" "$(docker diff kept | in_order)"
expect "the owner outside" "100007 100008" \
  "$(stat -c '%u %g' "/proc/$CELL/root/proc/$pid/root/srv/one")"
docker commit kept veneer.test/galley:kept >/dev/null
docker rm --force kept >/dev/null
expect "a committed owner" "7 8" "$(run veneer.test/galley:kept stat -c '%u %g' /srv/one)"
docker save veneer.test/galley:kept >"$scratch/saved.tar"
docker rmi veneer.test/galley:kept "$image" >/dev/null
docker load --quiet --input "$scratch/saved.tar" >/dev/null
expect "a saved owner" "7 8" "$(run veneer.test/galley:kept stat -c '%u %g' /srv/one)"
docker rmi veneer.test/galley:kept >/dev/null
home=$(home_of "$data$name")
[[ $(stat -c '%a %g' "$home") == "710 100000" ]] || fail "$(stat "$home")"
expect_empty_home "$home"
dockerd_stop
plugin_stop
