#!/usr/bin/env bash
# The shells complete commands, options, what options take, and names, also those with colons.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

python3 "$SUPPORT/make_image.py" "$SCRATCH/image" >/dev/null
veneer load "$SCRATCH/image/oci" --name galley:v1 >/dev/null
veneer load "$SCRATCH/image/oci" --name galley:v2 >/dev/null
veneer create galley:v1 --name box >/dev/null
export PATH=$SCRATCH/bin:$PATH VENEER_ROOT=$SCRATCH/root VENEER_RUN=$SCRATCH/run
mkdir "$SCRATCH/bin"
ln -s "$(readlink -f "$VENEER")" "$SCRATCH/bin/veneer"

# bash. The arguments are the words of the line as bash breaks them.
command veneer completion bash >"$SCRATCH/bash"
bash -n "$SCRATCH/bash" || fail "bash does not take its script"
bash_completes() {
  # shellcheck disable=SC2016 # for the other shell
  bash -c 'source "$0"; COMP_WORDBREAKS=${BREAKS-$COMP_WORDBREAKS}
    COMP_WORDS=(veneer "$@") COMP_CWORD=$#; _veneer; echo "${COMPREPLY[*]}"' "$SCRATCH/bash" "$@"
}
expect "a group's commands" "pack mount unmount" "$(bash_completes layer '')"
expect "a command behind an option's value" "images" "$(bash_completes --root /x im)"
expect "an option" "--dry-run" "$(bash_completes gc --dr)"
expect "what an option takes" "oci docker" "$(bash_completes save --format '')"
expect "the same behind an equals sign" "docker" "$(bash_completes save --format = d)"
expect "the same with none of it" "oci docker" "$(bash_completes save --format =)"
for words in "save -o" "save --output" "--root" "driver --home" "load --name"; do
  # shellcheck disable=SC2086 # words are several arguments
  expect "files, for what '$words' takes" "" "$(bash_completes $words '')"
done
expect "files, to be loaded" "" "$(bash_completes load '')"
expect "names of images" "galley:v1 galley:v2" "$(bash_completes save gal)"
expect "names of containers" "box" "$(bash_completes rm '')"
expect "names of both" "box galley:v1 galley:v2" "$(bash_completes mount '')"
# What stands before the last colon is on the line already.
expect "a name behind its colon" "v1 v2" "$(bash_completes create galley :)"
expect "a tag" "v2" "$(bash_completes create galley : v2)"
expect "a tag where colons break no words" "galley:v2" \
  "$(BREAKS=' ' bash_completes create galley:v2)"

# fish. What follows a tab is the description.
fish_completes() {
  fish --no-config -c "command veneer completion fish | source; complete -C '$1'"
}
expect "fish: a command" "images" "$(fish_completes 'veneer im' | cut -f1)"
expect "fish: what an option takes" "docker oci" \
  "$(fish_completes 'veneer save --format ' | cut -f1 | sort | xargs)"
expect "fish: names of containers" "box" "$(fish_completes 'veneer rm bo')"
expect "fish: a letter" "-o" "$(fish_completes 'veneer save -' | cut -f1 | grep -x -- -o)"

# zsh, with functions for its own that say what they were given.
zsh_completes() {
  # shellcheck disable=SC2016 # for the other shell
  zsh -f -c '
    compadd() { [[ $1 == -- ]] && print -l -- ${@[2,-1]}; }
    _describe() {
      [[ $1 == -o ]] && shift; local -a list; list=(${(P)2}); print -l -- ${list%%:*}
    }
    _files() { print FILES }
    compdef() { : }
    eval "$(command veneer completion zsh)"
    words=(veneer "$@") CURRENT=$(($# + 1)); _veneer' zsh "$@"
}
expect "zsh: what an option takes" "oci docker" "$(zsh_completes save --format '' | xargs)"
expect "zsh: files" "FILES" "$(zsh_completes save -o '' | xargs)"
[[ $(zsh_completes rm '') == box$'\n'* ]] || fail "zsh: names of containers: $(zsh_completes rm '')"

# Whoever asks for what is not there gets no help for something else.
refused 2 '^veneer: no command is called sail \(see veneer --help\)$' veneer sail
refused 2 '^veneer: no command is called sail \(see veneer --help\)$' veneer sail --help
refused 2 '^veneer: no command is called imags; did you mean images\? \(see' veneer imags
refused 2 '^veneer: driver: no command is called sail \(see veneer driver --help\)$' driver sail
refused 2 '^veneer: create: not expected here: two \(see veneer create --help\)$' \
  veneer create one two
