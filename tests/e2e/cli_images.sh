#!/usr/bin/env bash
# Images by name: load, images, inspect, layers, save, rmi, gc; and what the shells complete.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

python3 "$SUPPORT/make_image.py" "$SCRATCH/image" >/dev/null
image=$SCRATCH/image
name=veneer.test/galley:v1
id=$(python3 - "$image/oci" <<'PYTHON'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
index = json.loads((out / "index.json").read_bytes())
manifest = out / "blobs/sha256" / index["manifests"][0]["digest"][7:]
print(json.loads(manifest.read_bytes())["config"]["digest"][7:])
PYTHON
)
short=${id:0:12}
# One value of a JSON document: a Python expression over `it`.
value() { python3 -c "import json, sys; it = json.load(sys.stdin); print($1)"; }
ids() { veneer images -q | sort; }

# Nothing there: a heading, an empty document.
expect "images of an empty store" "NAME  ID  PLATFORM  CREATED  SIZE" "$(veneer images)"
expect "images --json of an empty store" "[]" "$(veneer images --json)"

# The three kinds of files are one image.
for path in oci oci.tar docker.tar; do
  expect "load $path" "$name  $id" "$(veneer load "$image/$path" 2>"$SCRATCH/stderr")"
  expect "standard error of load $path" "" "$(cat "$SCRATCH/stderr")"
done
expect "number of images" "$short" "$(ids)"
expect "a new name" "soup:latest  $id
$name  $id" "$(veneer load - --name soup <"$image/docker.tar")"
expect "load --json" "True 4 [True, True, True, True]" \
  "$(veneer --json load "$image/oci" |
    value 'it["existed"], it["image"]["layers"], [l["existed"] for l in it["layers"]]')"
refused 1 '^veneer: load: .*galley:v1' veneer load --image other:v1 "$image/docker.tar"
refused 1 '^veneer: load: .*s390x' veneer load --platform linux/s390x "$image/oci"
refused 1 '^veneer: load: .*/none' veneer load "$SCRATCH/none"
refused 2 '^veneer: load: PATH is required .*veneer load --help' veneer load

# Tables align, and say what --json says.
veneer images >"$SCRATCH/table"
grep -qE "^soup:latest  +$short  linux/amd64  +[0-9]+ years ago  +[0-9.]+ .?B$" "$SCRATCH/table" ||
  fail "images: $(cat "$SCRATCH/table")"
expect "names in --json" "['soup:latest', '$name']" \
  "$(veneer images --json | value 'it[0]["names"]')"
expect "layers of the store" 5 "$(veneer layers | wc -l)"
expect "layers of the image" "$(veneer layers --json | value 'sorted(l["diff_id"] for l in it)')" \
  "$(veneer layers soup --json | value 'sorted(l["diff_id"] for l in it)')"
expect "the form of the layers" "{'packed'}" \
  "$(veneer layers --json | value '{l["form"] for l in it}')"
layer=$(veneer layers soup --json | value 'it[0]["diff_id"]')
expect "what inspect finds" "['image', 'layer']" \
  "$(veneer inspect --json "$short" "$layer" | value '[one["kind"] for one in it]')"
expect "the configuration" "$layer" \
  "$(veneer inspect --json soup | value 'it[0]["config"]["rootfs"]["diff_ids"][0]')"
[[ $(veneer inspect soup) == *"$id"*packed* ]] || fail "inspect soup"
refused 1 '^veneer: inspect: .*nobody' veneer inspect nobody

# Save: what is loaded again is the same image, whatever the format and the compression.
for format in oci docker; do
  for compression in none gzip zstd; do
    [[ $format/$compression == docker/zstd ]] && continue # Docker reads gzip only
    file=$SCRATCH/saved.$format.$compression
    veneer save "$id" -o "$file" --format "$format" --compression "$compression"
    other=$SCRATCH/root.$format.$compression
    expect "$format, $compression" "soup:latest  $id
$name  $id" "$(veneer --root "$other" load "$file")"
    expect "layers after $format, $compression" "$(veneer layers --json soup)" \
      "$(veneer --root "$other" layers --json soup)"
    cmp <(veneer save "$id" --format "$format" --compression "$compression") "$file" ||
      fail "two saves as $format, $compression differ"
    rm -r "$other"
  done
done
veneer save soup -o "$SCRATCH/one-name"
expect "save by a name" "soup:latest  $id" \
  "$(veneer --root "$SCRATCH/one" load "$SCRATCH/one-name")"
rm -r "$SCRATCH/one"
expect "mode of a saved file" 600 "$(stat -c %a "$SCRATCH/saved.oci.none")"
refused 1 '^veneer: save: .*nobody' veneer save nobody -o "$SCRATCH/never"
refused 1 '^veneer: save: .*no/such' veneer save soup -o "$SCRATCH/no/such/file"
refused 1 '^veneer: save: .*is a directory' veneer save soup -o "$SCRATCH"
refused 2 '^veneer: save: --format: "tar" is none of oci, docker' veneer save soup --format tar
expect "what failed saves leave" "" \
  "$(find "$SCRATCH" -maxdepth 1 -name 'never' -o -name '.veneer*')"
# A link stays one; what is no file is written to.
echo old >"$SCRATCH/target"
ln -s target "$SCRATCH/link"
veneer save "$id" -o "$SCRATCH/link"
cmp "$SCRATCH/target" "$SCRATCH/saved.oci.none" || fail "save through a link"
[[ -L $SCRATCH/link ]] || fail "save replaced a link"
veneer save soup -o /dev/null
[[ -c /dev/null ]] || fail "save replaced /dev/null"
command=$(printf '%q ' "$VENEER" --root "$SCRATCH/root" --run "$SCRATCH/run" save soup)
script -qec "$command" /dev/null </dev/null >"$SCRATCH/typescript" || true
grep -q '^veneer: save: .*terminal' "$SCRATCH/typescript" || fail "save to a terminal"

# What a typing error may have meant.
refused 1 '^veneer: inspect: .*' veneer inspect soop
refused 1 '^veneer: create: .*soup:latest' veneer create soop

# The shells complete commands, options and names.
export PATH=$SCRATCH/bin:$PATH VENEER_ROOT=$SCRATCH/root VENEER_RUN=$SCRATCH/run
mkdir "$SCRATCH/bin"
ln -s "$(readlink -f "$VENEER")" "$SCRATCH/bin/veneer"
bash_completes() {
  bash -c 'source <(command veneer completion bash)
    COMP_WORDS=(veneer "$@") COMP_CWORD=$#; _veneer; echo "${COMPREPLY[*]}"' bash "$@"
}
expect "bash: a command" "rmi rm" "$(bash_completes rm)"
expect "bash: an option" "--format" "$(bash_completes save --forma)"
expect "bash: a name" "soup:latest" "$(bash_completes rmi so)"
fish_completes() {
  fish --no-config -c "command veneer completion fish | source; complete -C '$1'"
}
expect "fish: a verb" "apply" "$(fish_completes 'veneer driver app' | cut -f1)"
expect "fish: an option" "--dry-run" "$(fish_completes 'veneer gc --dr' | cut -f1)"
expect "fish: a name" "soup:latest" "$(fish_completes 'veneer save so' | cut -f1)"
expect "zsh: commands, options and names" "save
--output
soup:latest" "$(zsh -f -c '
  compadd() { [[ $1 == -- ]] && print -l -- ${@[2,-1]}; }
  _describe() { [[ $1 == -o ]] && shift; local -a list; list=(${(P)2}); print -l -- ${list%%:*}; }
  _files() { : }
  compdef() { : }
  eval "$(command veneer completion zsh)"
  completes() { local -a words; words=("$@"); local CURRENT=$#; _veneer; }
  completes veneer sav | grep -x save
  completes veneer save "" | grep -xE -- "--output|soup:latest" | sort')"
expect "completion where there is no store" "" \
  "$(VENEER_ROOT=$SCRATCH/nowhere command veneer completion names all)"
[[ ! -e $SCRATCH/nowhere ]] || fail "completion made a store"

# rmi: one name, the last one, an id; several at once, of which some are not there.
expect "rmi of one of two names" "untagged soup:latest" "$(veneer rmi soup)"
expect "the image stays" "$short" "$(ids)"
status=0
veneer rmi nobody "$name" >"$SCRATCH/stdout" 2>"$SCRATCH/stderr" || status=$?
expect "status of rmi with one that is not there" 1 "$status"
expect "rmi of the last name" "untagged $name
deleted $id" "$(cat "$SCRATCH/stdout")"
grep -qE '^veneer: rmi: .*nobody' "$SCRATCH/stderr" || fail "rmi: $(cat "$SCRATCH/stderr")"
expect "images at the end" "" "$(ids)"
# Its layers are gone, and deleted by someone who does not keep us waiting.
expect "layers at the end" "[]" "$(veneer layers --json)"
for ((i = 0; i < 100; ++i)); do
  [[ -n $(ls -A "$SCRATCH/root/trash") ]] || break
  sleep 0.1
done
expect "the trash" "" "$(ls -A "$SCRATCH/root/trash")"
expect "the layers' directory" "" "$(ls -A "$SCRATCH/root/layers/sha256")"
veneer load "$image/oci" >/dev/null
expect "rmi --json by id" "{'names': ['$name'], 'image': 'sha256:$id'}" \
  "$(veneer rmi --json "$short" | value 'it[0]')"

# gc deletes what is in the trash, in the foreground; a dry run nothing.
mkdir "$SCRATCH/root/trash/x"
mkdir "$SCRATCH/root/staging/y"
expect "gc --dry-run" "trash/x    removed, and not deleted yet
staging/y  its process died
0 layers, 0 B to delete; 2 leftovers" "$(veneer gc --dry-run)"
expect "gc --dry-run --json" "[['trash/x', 'removed, and not deleted yet'], \
['staging/y', 'its process died']]" \
  "$(veneer gc --dry-run --json |
    value '[[l["path"], l["reason"]] for l in it["leftovers"]]')"
[[ -d $SCRATCH/root/trash/x ]] || fail "a dry run deletes"
expect "gc" "0 layers, 0 B deleted; 2 leftovers" "$(veneer gc | tail -1)"
expect "gc again" "0 layers, 0 B deleted; 0 leftovers" "$(veneer gc)"
[[ ! -e $SCRATCH/root/trash/x ]] || fail "gc does not empty the trash"
[[ ! -e $SCRATCH/root/staging/y ]] || fail "gc leaves what the dead have staged"

# The other form of layers, asked for; and why.
veneer --root "$SCRATCH/plain" --form directory --volatile load "$image/oci" >/dev/null
expect "the form asked for" "{'directory'}" \
  "$(veneer --root "$SCRATCH/plain" layers --json | value '{l["form"] for l in it}')"
expect "info of the form" "packed " \
  "$(veneer info --json | value 'it["form"], it["why_not_packed"]' |
  tr -d "(),'")"
refused 2 '^veneer: images: --form: "flat" is none of packed, directory' veneer --form flat images

# Progress is for terminals: a line, or several, and nothing stays.
command=$(printf '%q ' "$VENEER" --run "$SCRATCH/run" --root "$SCRATCH/tty" load "$image/oci")
shown=$(script -qec "$command" /dev/null </dev/null)
[[ $shown == *$'\r'"layer "*/4*"$name  $id"* ]] || fail "progress: $(cat -v <<<"$shown")"
