#!/usr/bin/env bash
# docs/FORMAT.md has the tables of store.db, and no others.
# shellcheck disable=SC2016 # backquotes are of the document
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

veneer images >/dev/null
compare() {
  python3 - "$1" "$SCRATCH/root/store.db" <<'PYTHON'
import pathlib, re, sqlite3, sys

document, database = sys.argv[1:]
rows = [[cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in pathlib.Path(document).read_text().splitlines() if line.startswith("|")]
differences = []

def compare(what, wanted, found):
    differences.extend(f"{what} lacks {one}" for one in sorted(wanted - found))
    differences.extend(f"{what} has {one}" for one in sorted(found - wanted))

# Tables: | `table`, or nothing | `column`, or several | type | ...
wanted = set()
connection = sqlite3.connect(database)
for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name"
                                   " NOT LIKE 'sqlite_%'"):
    wanted |= {(table, column[1]) for column in connection.execute(f"PRAGMA table_info({table})")}
found, table = set(), ""
for row in rows[rows.index(["table", "column", "type", "what"]) + 2:]:
    if len(row) != 4:
        break
    table = row[0].strip("`") or table
    found |= {(table, column) for column in re.findall(r"`(\w+)`", row[1])}
compare("the schema", wanted, found)
print("\n".join(differences))
sys.exit(bool(differences))
PYTHON
}
document=$SUPPORT/../../docs/FORMAT.md
compare "$document" || fail "docs/FORMAT.md is not what the sources say"

# It finds what is wrong: what is done to the document, what is said then.
finds() {
  sed "$1" "$document" >"$SCRATCH/FORMAT.md"
  if cmp -s "$document" "$SCRATCH/FORMAT.md"; then fail "'$1' changes nothing"; fi
  if compare "$SCRATCH/FORMAT.md" >"$SCRATCH/said"; then fail "'$1' is not noticed"; fi
  grep -qF -- "$2" "$SCRATCH/said" || fail "'$1': $(cat "$SCRATCH/said")"
}
finds 's/| `file_bytes` |/| `data_bytes` |/' "the schema lacks ('layers', 'file_bytes')"
finds 's/| `blobs` |/| `globs` |/' "the schema has ('globs', 'digest')"
