# shellcheck shell=bash
# shellcheck disable=SC2154 # docker20.sh's
# Images in, containers, a commit, images out; then nothing is left.

expect "the driver" "$name" "$(docker info --format '{{.Driver}}')"
docker info --format '{{.DriverStatus}}' | grep -q 'Backing Filesystem' ||
  fail "$(docker info --format '{{.DriverStatus}}')"
docker load --quiet --input "$scratch/image/docker.tar" >/dev/null
expect "layers applied" 4 "$(calls ApplyDiff)"
expect "a container" cake "$(run "$image" ls /srv/menu)"

docker run --detach --name kept --network none "$image" \
  sh -c 'while :; do sleep 1000; done' >/dev/null
docker exec kept sh -c 'echo one >/srv/one; rm -r /srv/menu; ln /srv/one /srv/two'
expect "the changes" "A /srv/one A /srv/two C /srv D /srv/menu" "$(docker diff kept | in_order)"
expect "the size" "4B" "$(docker ps --size --format '{{.Size}}' | cut -d' ' -f1)"
expect "the size, inspected" 4 "$(docker inspect --size --format '{{.SizeRw}}' kept)"
[[ -d $(docker inspect --format '{{.GraphDriver.Data.UpperDir}}' kept) ]] || fail "no UpperDir"
echo "from outside" >"$scratch/outside"
docker cp "$scratch/outside" kept:/srv/outside
docker cp kept:/srv/one "$scratch/one"
expect "a file that is copied out" one "$(cat "$scratch/one")"
docker restart --time 0 kept >/dev/null
expect "a file that is copied in" "from outside" "$(docker exec kept cat /srv/outside)"
docker export kept >"$scratch/export.tar"
expect "the export" "one" "$(tar -xOf "$scratch/export.tar" srv/one)"
docker commit kept veneer.test/galley:kept >/dev/null
docker rm --force kept >/dev/null
expect "the commit" "one outside owners stock turn two types xattrs" \
  "$(run veneer.test/galley:kept ls /srv | grep -vFx names | in_order)"
expect "its links" 2 "$(run veneer.test/galley:kept stat -c %h /srv/two)"
if run --storage-opt size=50M "$image" true 2>"$scratch/refusal"; then fail "size=50M is taken"; fi
grep -q 'unknown storage option "size"' "$scratch/refusal" || fail "$(cat "$scratch/refusal")"

# Docker checks the digest of each layer that it writes.
docker save --output "$scratch/saved.tar" "$image" veneer.test/galley:kept
docker rmi "$image" veneer.test/galley:kept >/dev/null
expect "images" "" "$(docker images --all --quiet)"
expect_empty_home "$(home_of "$data$name")"
docker load --quiet --input "$scratch/saved.tar" >/dev/null
expect "what was saved" one "$(run veneer.test/galley:kept cat /srv/two)"
docker rmi "$image" veneer.test/galley:kept >/dev/null
expect_empty_home "$(home_of "$data$name")"
dockerd_stop
plugin_stop
