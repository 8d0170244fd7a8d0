# shellcheck shell=bash
# shellcheck disable=SC2154 # docker20.sh's
# Both builders, an image of 124 layers, and a registry; then nothing is left.

docker load --quiet --input "$scratch/image/docker.tar" >/dev/null
mkdir "$scratch/context"
echo "a recipe" >"$scratch/context/recipe"
cat >"$scratch/context/Dockerfile" <<DOCKERFILE
FROM $image
COPY recipe /srv/recipe
RUN rm -r /srv/menu && mkdir /srv/menu && echo tea >/srv/menu/tea
RUN rm /srv/stock/fresh && chmod 600 /srv/recipe && ln /srv/recipe /srv/again
CMD ["ls", "/srv/menu"]
DOCKERFILE
cat >"$scratch/context/Scratch" <<DOCKERFILE
FROM $image AS first
RUN mkdir /left && echo left >/left/left
FROM $image AS second
RUN mkdir /right && echo right >/right/right
FROM scratch
COPY --from=first /left /left
COPY --from=second /right /right
COPY recipe /recipe
DOCKERFILE

# built NAME: what the Dockerfile says of it.
built() {
  local name=veneer.test/galley:$1
  expect "$1: the menu" tea "$(run "$name")"
  expect "$1: the recipe" "600 2 a recipe" \
    "$(run "$name" sh -c 'stat -c "%a %h" /srv/again; cat /srv/again' | xargs)"
  if run "$name" test -e /srv/stock/fresh; then fail "$1: what is removed is there"; fi
  docker save "$name" >"$scratch/$1.tar"
  docker rmi "$name" >/dev/null
  docker load --quiet --input "$scratch/$1.tar" >/dev/null
  expect "$1: the menu, loaded" tea "$(run "$name")"
}

# build BUILDKIT NAME ARGUMENT...
build() {
  in_cell env HOME=/root DOCKER_BUILDKIT="$1" docker build --quiet --network none \
    --tag "veneer.test/galley:$2" "${@:3}"
}
build 0 legacy "$scratch/context" >/dev/null
built legacy
build 1 buildkit "$scratch/context" >/dev/null
built buildkit
build 1 scratch --file "$scratch/context/Scratch" "$scratch/context" >/dev/null
expect "an image from nothing" "left/ left/left recipe right/ right/right" \
  "$(id=$(docker create veneer.test/galley:scratch none) && docker export "$id" |
    tar -tf - | grep -E '^(left|right|recipe)' | in_order; docker rm "$id" >/dev/null)"

registry_start
docker tag "$image" "$REGISTRY/galley:v1"
docker push --quiet "$REGISTRY/galley:v1" >/dev/null
docker rmi "$REGISTRY/galley:v1" veneer.test/galley:{v1,legacy,buildkit,scratch} >/dev/null
docker builder prune --all --force >/dev/null
docker image prune --all --force >/dev/null
expect "images" "" "$(docker images --all --quiet)"
expect_empty_home "$(home_of "$data$name")"
docker pull --quiet "$REGISTRY/galley:v1" >/dev/null
expect "what was pulled" cake "$(run "$REGISTRY/galley:v1" ls /srv/menu)"
docker rmi "$REGISTRY/galley:v1" >/dev/null

python3 "$support/make_image.py" --layers 120 "$scratch/deep" >/dev/null
docker load --quiet --input "$scratch/deep/docker.tar" >/dev/null
deep=$(docker images --format '{{.Repository}}:{{.Tag}}')
expect "layers" 124 "$(docker inspect --format '{{len .RootFS.Layers}}' "$deep")"
run "$deep" true
docker rmi "$deep" >/dev/null
expect_empty_home "$(home_of "$data$name")"
dockerd_stop
plugin_stop
