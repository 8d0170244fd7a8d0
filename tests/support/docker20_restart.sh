# shellcheck shell=bash
# shellcheck disable=SC2154 # docker20.sh's
# Either side is killed and started again, under a running container.

docker load --quiet --input "$scratch/image/docker.tar" >/dev/null
docker run --detach --name kept --network none --restart no "$image" \
  sh -c 'while :; do date >/srv/tick; sleep 0.05; done' >/dev/null
docker run --detach --name idle --network none "$image" \
  sh -c 'while :; do sleep 1000; done' >/dev/null
docker exec kept sh -c 'echo one >/srv/one; rm -r /srv/menu'
home=$(home_of "$data$name")

# The mounts that are the driver's own: containers', and in no state that of others.
merged() { grep -c " $home/[^ ]*/merged " /proc/self/mountinfo || true; }
expect "mounts of two containers" 2 "$(merged)"

# veneerd gets no second Init.
# It runs on, though `docker exec` would wait.
tick() { find "$home" -path '*/merged/srv/tick' -printf '%T@\n' 2>/dev/null; }
ticks_on() { [[ $(tick) != "$1" ]]; }
plugin_kill
wait_until 5 ticks_on "$(tick)" || fail "the container stands still"
plugin_start "$driver"
expect "a running container" one "$(docker exec kept cat /srv/one)"
expect "the changes" "A /srv/one A /srv/tick C /srv D /srv/menu" "$(docker diff kept | in_order)"
expect "another container" cake "$(run "$image" ls /srv/menu)"
docker kill kept >/dev/null
expect "mounts of one container" 1 "$(merged)"
docker start kept >/dev/null
docker commit kept veneer.test/galley:kept >/dev/null

# A call while it is down waits for it.
plugin_kill
run veneer.test/galley:kept cat /srv/one >"$scratch/waited" &
waiting=$!
sleep 1
plugin_start "$driver"
wait "$waiting" || fail "a call does not wait for veneerd"
expect "what waited" one "$(cat "$scratch/waited")"

# dockerd forgets what it has got, and puts it nevertheless.
plugin_dockerd_kill
plugin_dockerd "$name" "${DOCKERD_OPTIONS[@]}"
wait_until 20 docker inspect kept >/dev/null
docker rm --force kept idle >/dev/null
expect "mounts of no container" 0 "$(merged)"
expect "what was committed" one "$(run veneer.test/galley:kept cat /srv/one)"

# Both.
docker run --detach --name kept --network none "$image" sleep 1000 >/dev/null
plugin_kill
plugin_dockerd_kill
plugin_start "$driver"
plugin_dockerd "$name" "${DOCKERD_OPTIONS[@]}"
docker exec kept ls /srv/menu >/dev/null
docker rm --force kept >/dev/null
expect "mounts of no container" 0 "$(merged)"

# Another start with the same home, though Docker has not said it yet.
dockerd_stop
plugin_stop
plugin_start "$driver"
plugin_dockerd "$name" "${DOCKERD_OPTIONS[@]}"
expect "the images" 2 "$(docker images --quiet | wc -l)"
docker rmi "$image" veneer.test/galley:kept >/dev/null
expect_empty_home "$home"
dockerd_stop
plugin_stop
