#!/usr/bin/env bash
# Exit codes, one-line errors, help, and output that cannot be written.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

# Usage errors: 2, one line, and where to read on.
refused 2 '^veneer: .*\(see veneer --help\)$' veneer
refused 2 '^veneer: .*sail.*\(see veneer --help\)$' veneer sail
refused 2 '^veneer: driver: .*\(see veneer driver --help\)$' driver
refused 2 '^veneer: driver create: ID is required' driver create
refused 2 '^veneer: driver create: .*\bthree\b' driver create one two three
refused 2 '^veneer: driver create: .*--colour' driver create one --colour
refused 2 '^veneer: info: --log-level: ' veneer --log-level loud info

# Failures: 1, one line, with the verb.
refused 1 '^veneer: driver get: .*nobody' driver get nobody
refused 1 '^veneer: driver create: .*nobody' driver create one nobody
refused 1 '^veneer: driver list: no driver is called "sail"' veneer driver --driver sail list
refused 1 '^veneer: driver list: .*1:2' driver --uidmap 1:2 list
refused 1 '^veneer: driver list: .*speed' driver --storage-opt overlay.speed=9 list
refused 1 '^veneer: driver load: .*/none' driver load "$SCRATCH/none"
for id in '' . .. a/b ../up "$(printf 'x%.0s' {1..256})"; do
  refused 1 '^veneer: driver create: ' driver create "$id"
done
# What a message repeats cannot steer the terminal or make a second line.
refused 1 '\\x0a.*\\x1b\[2J' driver get $'two\nlines\e[2J'
expect "layers after failures only" "" "$(driver list)"

# Help: 0, on standard output, for every verb and with an example.
for verb in create create-rw get put remove exists list status metadata diff changes apply size \
            cleanup load; do
  help=$(driver "$verb" --help)
  [[ $help == *"veneer driver"*"Example:"*"veneer "*"$verb"* ]] || fail "help of $verb: $help"
  grep -q "^\.It Cm $verb\b" "$SUPPORT/../../docs/man/veneer-driver.1" || fail "no manual of $verb"
done
[[ $(veneer --help) == *driver*info*"Example:"*"veneer load "* ]] || fail "veneer --help"
[[ $(veneer --version) =~ ^veneer\ [0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "veneer --version"

# exists answers with its status and prints nothing, but for --json.
driver create base
driver exists base || fail "exists of what exists"
refused_status=0
output=$(driver exists other 2>&1) || refused_status=$?
expect "status of exists" 1 "$refused_status"
expect "output of exists" "" "$output"
expect "exists --json" '{"id":"base","exists":true}' "$(driver exists base --json)"
refused_status=0
output=$(driver --json exists other) || refused_status=$?
expect "status of exists --json" 1 "$refused_status"
expect "exists --json of another" '{"id":"other","exists":false}' "$output"

# The environment names the directories, options come before it.
expect "VENEER_ROOT" base \
  "$(VENEER_ROOT=$SCRATCH/root VENEER_RUN=$SCRATCH/run "$VENEER" driver list)"
expect "--root over VENEER_ROOT" base "$(VENEER_ROOT=$SCRATCH/other driver list)"
expect "--home over --root" base "$(veneer --root "$SCRATCH/other" driver --home "$HOME_DIR" list)"

# Every --json document is JSON.
for words in "info" "driver list" "driver status" "driver metadata base" "driver changes base" \
             "driver size base" "driver create more" "driver remove more" "driver cleanup"; do
  # shellcheck disable=SC2086 # words are several arguments
  veneer --json $words | python3 -m json.tool >/dev/null || fail "veneer --json $words"
done

# A reader that went away is no crash and no news; a full disk is an error; so is no output at all.
for words in "--help" "info" "driver diff base"; do
  status=0
  # shellcheck disable=SC2086
  { sleep 0.1; veneer $words 2>"$SCRATCH/stderr" || echo $? >"$SCRATCH/status"; } | true
  expect "status of $words into a closed pipe" 1 "$(cat "$SCRATCH/status")"
  expect "errors of $words into a closed pipe" "" "$(cat "$SCRATCH/stderr")"
done
to_full() { "$@" >/dev/full; }
to_nowhere() { "$@" >&-; }
refused 1 '^veneer: info: .*No space left on device$' to_full veneer info
refused 1 '^veneer: driver list: .*Bad file descriptor$' to_nowhere driver list
driver exists base || fail "the layer is gone"

# A tar is not for terminals.
command=$(printf '%q ' "$VENEER" --root "$SCRATCH/root" --run "$SCRATCH/run" driver diff base)
script -qec "$command" /dev/null </dev/null >"$SCRATCH/typescript" || true
grep -q '^veneer: driver diff: .*terminal' "$SCRATCH/typescript" ||
  fail "diff to a terminal: $(cat -v "$SCRATCH/typescript")"

# The completion script completes commands, also behind options, and options.
completed() {
  COMP_WORDS=(veneer "$@") COMP_CWORD=$#
  _veneer
  echo "${COMPREPLY[*]}"
}
# shellcheck disable=SC1090 # made by the binary under test
source <(veneer completion bash)
expect "completion of a command" "driver" "$(completed dr)"
expect "completion of a verb" "create create-rw" "$(completed --json driver cr)"
expect "completion of an option" "--mount-label" "$(completed driver get --mount)"
