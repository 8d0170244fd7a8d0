#!/usr/bin/env python3
"""Flips bits of a store's database, one at a time, and looks what veneer makes of each.

usage: flip_bits.py VENEER DIRECTORY COUNT [SEED]

DIRECTORY/root is a store that nobody has open, with an image, containers and names. For each flip:
`check` ends and tells of damage, or all that the verbs tell is as it was, times and sizes aside;
`check --repair` loses nothing that the right database has. Prints how many were found.
"""

import json
import pathlib
import random
import shutil
import sqlite3
import subprocess
import sys

VERBS = (["images"], ["ps"], ["layers"], ["inspect", "app"], ["inspect", "box"])
# No digest and no reference tells what these should be, nor the order that they make.
UNTOLD = {"created", "added", "updated", "disk_size"}
PAGE = 4096
DAMAGED = 3


def without_untold(value):
    if isinstance(value, dict):
        return {key: without_untold(one) for key, one in value.items() if key not in UNTOLD}
    if isinstance(value, list):
        return sorted((without_untold(one) for one in value), key=json.dumps)
    return value


class Store:
    def __init__(self, veneer, directory):
        self.root = directory / "root"
        self.whole = directory / "whole"
        self.command = [veneer, "--root", self.root, "--run", directory / "run", "--json"]
        self.database = self.root / "store.db"
        connection = sqlite3.connect(self.database)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        self.bytes = self.database.read_bytes()
        self.logs = [self.root / "store.db-wal", self.root / "store.db-shm"]
        for log in self.logs:
            log.unlink(missing_ok=True)
        shutil.copytree(self.root, self.whole, symlinks=True)
        self.told = self.tell()
        self.write(self.bytes)

    def write(self, data):
        for log in self.logs:
            log.unlink(missing_ok=True)
        self.database.write_bytes(data)

    def restore(self):
        shutil.rmtree(self.root)
        shutil.copytree(self.whole, self.root, symlinks=True)

    def run(self, *words):
        done = subprocess.run([*self.command, *words], capture_output=True, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr.decode(errors="replace")

    def tell(self):
        told = []
        for words in VERBS:
            status, answer, error = self.run(*words)
            assert status == 0, (words, error)
            told.append(without_untold(json.loads(answer)))
        return told


def look(store, at, bit):
    """Whether that bit's flip is found."""
    data = bytearray(store.bytes)
    data[at] ^= 1 << bit
    store.write(data)
    status, _, error = store.run("check")
    assert status in (0, DAMAGED), (status, error)
    if status == 0:
        assert store.tell() == store.told, "something else is told, and nothing was found"
        return False
    status, _, error = store.run("check", "--repair")
    assert status in (0, DAMAGED), ("repair", status, error)
    store.write(store.bytes)
    status, answer, error = store.run("check")
    if status != 0:
        # What repair made anew, beside what was there.
        kinds = {damage["kind"] for damage in json.loads(answer)["damages"]}
        assert kinds == {"orphan"}, (kinds, error)
        store.restore()
    return True


def main():
    store = Store(sys.argv[1], pathlib.Path(sys.argv[2]))
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    chance = random.Random(seed)
    used = [at for at, byte in enumerate(store.bytes) if byte != 0]
    found = 0
    for _ in range(int(sys.argv[3])):
        at, bit = chance.choice(used), chance.randrange(8)
        try:
            found += look(store, at, bit)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            sys.exit(f"byte {at} (page {at // PAGE + 1}), bit {bit}: {error}")
    print(f"{found} of {sys.argv[3]} found")


main()
