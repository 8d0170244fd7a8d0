#!/usr/bin/env bash
# A directory of a million entries: packed, mounted, listed and looked up.
# shellcheck source=tests/support/cli.sh
source "$(dirname "$0")/../support/cli.sh"

# Names in no order, most of empty files.
python3 - <<'PYTHON' | veneer layer pack - "$SCRATCH/layer" >/dev/null
import sys
out = sys.stdout.buffer

def header(name, mode, size, kind):
    block = bytearray(512)
    block[0:len(name)] = name
    block[100:107] = b"%07o" % mode
    block[108:115] = block[116:123] = b"0000000"
    block[124:135] = b"%011o" % size
    block[136:147] = b"%011o" % 1600000000
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)

out.write(header(b"./", 0o755, 0, b"5") + header(b"d/", 0o751, 0, b"5"))
empty = header(b"d/00000000", 0o644, 0, b"0")
zeros = 8 * ord("0")
base = int(empty[148:154], 8) - zeros
for i in range(1000000):
    name = b"%08x" % (i * 2654435761 % (1 << 32))
    if i % 1000 == 0:
        out.write(header(b"d/" + name, 0o644, 8, b"0") + name.ljust(512, b"\0"))
    else:
        out.write(empty[:2] + name + empty[10:148] + b"%06o\0" % (base + sum(name)) + empty[155:])
out.write(bytes(1024))
PYTHON

mkdir "$SCRATCH/target"
veneer layer mount "$SCRATCH/layer" "$SCRATCH/target"
python3 - "$SCRATCH/target/d" <<'PYTHON' || fail "the directory is another one"
import os, sys
top = sys.argv[1]
wanted = {"%08x" % (i * 2654435761 % (1 << 32)): i for i in range(1000000)}
found = os.listdir(top)
assert len(found) == 1000000 and wanted.keys() == set(found), len(found)
assert os.stat(top).st_mode & 0o7777 == 0o751
for name, i in wanted.items():
    if i % 1000 == 0:
        with open(os.path.join(top, name), "rb") as file:
            assert file.read() == name.encode()
    elif i % 1000 == 1:
        status = os.stat(os.path.join(top, name))
        assert (status.st_size, status.st_mtime) == (0, 1600000000)
        missing = name[:-1] + "x"
        assert not os.path.exists(os.path.join(top, missing))
PYTHON
veneer layer unmount "$SCRATCH/target"
