#!/usr/bin/env python3
"""Times the everyday verbs as a user runs them, the start of the process included.

usage: verbs.py VENEER ROOT RUN LAYOUT

Loads the image of LAYOUT into the store at ROOT. Prints a table: the median, the slowest and how
often it was run, for a container in which one file was changed, and for the image itself.
"""

import pathlib
import statistics
import subprocess
import sys
import time

ROUNDS = 21
IMAGE_ROUNDS = 7


class Verbs:
    def __init__(self, veneer, root, run):
        self.command = [veneer, "--root", root, "--run", run]
        self.times = {}

    def __call__(self, verb, *words, timed=True):
        begun = time.monotonic()
        done = subprocess.run([*self.command, verb, *words], check=True, stdout=subprocess.PIPE)
        if timed:
            self.times.setdefault(verb, []).append((time.monotonic() - begun) * 1000)
        return done.stdout.decode().strip()


def live(verbs, image):
    box = verbs("create", image)
    path = pathlib.Path(verbs("mount", box))
    (path / "etc/changed").write_text("by the benchmark\n")
    assert verbs("diff", box) == "C /etc\nA /etc/changed"
    made = verbs("commit", box)
    verbs("umount", box)
    verbs("rm", box)
    verbs("rmi", made, timed=False)


def main():
    verbs = Verbs(*sys.argv[1:4])
    layout = sys.argv[4]
    for _ in range(IMAGE_ROUNDS):
        verbs("load", layout, "--name", "timed", timed=False)
        for _ in range(ROUNDS // IMAGE_ROUNDS):
            verbs("--version")
            verbs("ps")
            live(verbs, "timed")
        verbs("rmi", "timed")
    print("\nVerbs, the process included")
    print(f"{'':<10} {'median ms':>10} {'slowest':>10} {'rounds':>7}")
    for verb, times in verbs.times.items():
        print(f"{verb:<10} {statistics.median(times):>10.1f} {max(times):>10.1f} {len(times):>7}")


main()
