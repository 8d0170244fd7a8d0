#!/usr/bin/env python3
"""Cuts the power of a store at random moments, and looks whether all that had returned is there.

The store lies on a file system of its own, on a loop device. While one process after the other
loads, creates, writes, commits and removes, the power goes: what was in memory alone is lost. The
file system is mounted again, which replays its journal, with an empty <run>, and opened: `veneer
check` hashes everything, and every image, container and file of which the making (or removal) had
returned is compared. The one operation that was cut off may have come about or not. Every tenth cut
is of a new store, so that its making is cut, too.

How the power goes:
  ext4, xfs  the file system is shut down without its journal being flushed (EXT4_IOC_SHUTDOWN,
             XFS_IOC_GOINGDOWN): from then on nothing reaches the device. An fsync(2) that begins
             while that call is under way may succeed and have written nothing (seen on ext4, in
             half of all cuts), so what returns after the call has begun counts as cut off.
  btrfs      has no such call: the device is a file on xfs of which a clone (FICLONE) is taken, in
             one moment, and used from then on.

usage: power_cut.py FILESYSTEM CUTS [--volatile] [--seed N]      (VENEER names the binary)
  --volatile   the store syncs nothing: the test must find losses, or it cannot find any
Mounts in the caller's namespace: run it in one of its own.
"""

import argparse
import contextlib
import fcntl
import hashlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

VENEER = os.environ["VENEER"]
GOING_DOWN = 0x8004587D  # _IOR('X', 125, __u32); ext4 and xfs have the same number
NO_LOG_FLUSH = 2
CLONE = 0x40049409  # FICLONE: _IOW(0x94, 9, int)
MKFS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"],
        "btrfs": ["mkfs.btrfs", "-q", "-f"]}
SIZES = {"ext4": 128 << 20, "xfs": 320 << 20, "btrfs": 512 << 20}
HOST_SIZE = 4 << 30  # of the file system that has the device and its clone
LONGEST_ROUND = 0.6  # seconds
CUTS_OF_A_STORE = 10


class Lost(Exception):
    pass


class PowerCut(Exception):
    """An operation has returned when the power was going: nobody has seen that."""


def make_file_system(kind, device, size):
    with open(device, "wb") as file:
        file.truncate(size)
    subprocess.run([*MKFS[kind], device], stdout=subprocess.DEVNULL, check=True)


def mount(device, target):
    subprocess.run(["mount", "-o", "loop", device, target], check=True)


class Store:
    def __init__(self, scratch, kind, is_volatile):
        self.kind = kind
        self.disk = scratch / "disk"
        self.run_dir = scratch / "run"
        self.is_volatile = is_volatile
        self.name = "0"
        self.disk.mkdir()
        host = scratch
        if kind == "btrfs":
            host = scratch / "host"
            host.mkdir()
            make_file_system("xfs", scratch / "host.xfs", HOST_SIZE)
            mount(scratch / "host.xfs", host)
        self.device = host / "device"
        make_file_system(kind, self.device, SIZES[kind])

    def plug_in(self):
        mount(self.device, self.disk)

    def cut(self):
        """Between two instructions of whoever is at work; that ends then, or by itself."""
        if self.kind == "btrfs":
            with open(self.device, "rb") as device, open(f"{self.device}.cut", "wb") as clone:
                fcntl.ioctl(clone, CLONE, device.fileno())
            return
        fd = os.open(self.disk, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, GOING_DOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def unmount_what_it_has(self):
        mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        points = [line.split()[4] for line in mounts]
        for point in reversed(points):
            if point.startswith((f"{self.disk}/", f"{self.run_dir}/")):
                subprocess.run(["umount", point], check=True)
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def unplug(self):
        self.unmount_what_it_has()
        subprocess.run(["umount", self.disk], check=True)
        if self.kind == "btrfs":
            os.rename(f"{self.device}.cut", self.device)

    def renew(self):
        """A store that is not there yet, in place of this one."""
        self.unmount_what_it_has()
        shutil.rmtree(self.disk / self.name)
        self.name = str(int(self.name) + 1)

    def command(self, *arguments):
        options = ["--volatile"] if self.is_volatile else []
        return [VENEER, "--root", f"{self.disk}/{self.name}", "--run", str(self.run_dir), *options,
                *arguments]

    def call(self, *arguments):
        """The output; CalledProcessError if it fails."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True)
        if done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout,
                                                done.stderr)
        return done.stdout

    def list(self, verb):
        return json.loads(self.call(verb, "--json"))


def write_image(path, chance):
    """A docker-archive of one layer that no other image has."""
    def add(archive, name, content, kind=tarfile.REGTYPE):
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.size = kind, 0o755, len(content)
        archive.addfile(member, io.BytesIO(content))

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        add(archive, "srv", b"", tarfile.DIRTYPE)
        for number in range(20):
            add(archive, f"srv/{number}", chance.randbytes(chance.randrange(30_000)))
    digest = "sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                         "rootfs": {"type": "layers", "diff_ids": [digest]}}).encode()
    with tarfile.open(path, mode="w") as archive:
        add(archive, "layer.tar", layer.getvalue())
        add(archive, "config.json", config)
        add(archive, "manifest.json", json.dumps(
            [{"Config": "config.json", "RepoTags": None, "Layers": ["layer.tar"]}]).encode())


class Model:
    """What must be there. `pending` is what the operation that is under way may change."""

    def __init__(self):
        self.images = {}  # name -> what /srv/mine says, None for the loaded one
        self.boxes = {}  # name -> what /srv/mine says
        self.pending = None


class Worker(threading.Thread):
    """Operations, one after the other, until the power goes."""

    def __init__(self, store, model, image, chance):
        super().__init__()
        self.store, self.model, self.image, self.chance = store, model, image, chance
        self.done = 0
        self.error = None
        self.lock = threading.Lock()
        self.was_cut = False

    def run(self):
        try:
            while True:
                self.step()
        except PowerCut:
            pass
        except (OSError, subprocess.CalledProcessError) as error:
            self.error = error

    def cut(self):
        with self.lock:
            self.was_cut = True
        self.store.cut()

    @contextlib.contextmanager
    def returned(self):
        """Around what the model says of an operation that has returned."""
        with self.lock:
            if self.was_cut:
                raise PowerCut
            yield
            self.model.pending = None
            self.done += 1

    def step(self):
        model, chance = self.model, self.chance
        verbs = ["load"] * (3 if len(model.images) < 6 else 1)
        if model.images and len(model.boxes) < 6:
            verbs += ["create"] * 3
        if model.boxes:
            verbs += ["write"] * 3 + ["rm"]
            if len(model.images) < 6:
                verbs += ["commit"] * 2
        if len(model.images) > 1:
            verbs += ["rmi"] * (2 if len(model.images) < 6 else 8)
        verb = chance.choice(verbs)
        getattr(self, verb)(f"n{chance.randrange(1 << 32):08x}")

    def load(self, name):
        write_image(self.image, self.chance)
        self.model.pending = ("image", name)
        self.store.call("load", "-q", self.image, "--name", name)
        with self.returned():
            self.model.images[name] = None

    def create(self, name):
        image = self.chance.choice(sorted(self.model.images))
        self.model.pending = ("box", name)
        self.store.call("create", "-q", image, "--name", name)
        with self.returned():
            self.model.boxes[name] = self.model.images[image]

    def write(self, text):
        name = self.chance.choice(sorted(self.model.boxes))
        top = self.store.call("mount", name).strip()
        self.model.pending = ("text", name)
        fd = os.open(f"{top}/srv", os.O_RDONLY)
        try:
            new = os.open("new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=fd)
            try:
                os.write(new, (text * 1000).encode())
                os.fsync(new)
            finally:
                os.close(new)
            os.rename("new", "mine", src_dir_fd=fd, dst_dir_fd=fd)
            os.fsync(fd)
        finally:
            os.close(fd)
        with self.returned():
            self.model.boxes[name] = text
        self.store.call("umount", name)

    def commit(self, name):
        box = self.chance.choice(sorted(self.model.boxes))
        self.model.pending = ("image", name)
        self.store.call("commit", box, name)
        with self.returned():
            self.model.images[name] = self.model.boxes[box]

    def rm(self, _):
        name = self.chance.choice(sorted(self.model.boxes))
        self.model.pending = ("box", name)
        self.store.call("rm", name)
        with self.returned():
            del self.model.boxes[name]

    def rmi(self, _):
        used = {box["image"] for box in self.store.list("ps")}
        free = [name for name in sorted(self.model.images) if name not in used]
        if not free:
            return
        name = self.chance.choice(free)
        self.model.pending = ("image", name)
        try:
            self.store.call("rmi", name)
        except subprocess.CalledProcessError as error:
            if "uses it" not in error.stderr and "use it" not in error.stderr:
                raise
            with self.returned():
                return  # by its id, under another name
        with self.returned():
            del self.model.images[name]


def mine(store, name):
    """What the file says that `write` left."""
    top = store.call("mount", name).strip()
    try:
        path = pathlib.Path(f"{top}/srv/mine")
        text = path.read_text() if path.exists() else None
        if text is None:
            return None
        if text != text[:9] * 1000:
            raise Lost(f"{name}: /srv/mine is damaged")
        return text[:9]
    finally:
        store.call("umount", name)


def compare(store, what, names, wanted, pending, pending_text):
    """Takes over into `wanted` what the last operation did, if it came about."""
    for name in sorted(set(wanted) - names):
        if name != pending:
            raise Lost(f"{what} {name} is not there")
        del wanted[name]
    for name in sorted(names - set(wanted)):
        if name != pending:
            raise Lost(f"{what} {name} is there again")
        wanted[name] = mine(store, name)
    for name in sorted(names):
        text = mine(store, name)
        if text != wanted[name] and name != pending_text:
            raise Lost(f"{what} {name}: /srv/mine says {text}, not {wanted[name]}")
        wanted[name] = text


def verify(store, model):
    check = subprocess.run(store.command("check", "--json"), capture_output=True, text=True)
    if check.returncode != 0:
        raise Lost(f"check: {check.returncode} {check.stdout} {check.stderr}")
    kind, pending = model.pending or ("", "")
    pending_text = pending if kind == "text" else None
    try:
        images = {name.removesuffix(":latest")
                  for image in store.list("images") for name in image["names"]}
        boxes = {box["name"] for box in store.list("ps")}
        compare(store, "image", images, model.images, pending if kind == "image" else None, None)
        compare(store, "container", boxes, model.boxes, pending if kind == "box" else None,
                pending_text)
    except subprocess.CalledProcessError as error:
        raise Lost(f"{error.cmd}: {error.stderr}") from error
    model.pending = None


def cut_once(store, model, image, chance):
    """The number of operations that had returned."""
    worker = Worker(store, model, image, random.Random(chance.random()))
    worker.start()
    time.sleep(chance.uniform(0, LONGEST_ROUND))
    if worker.error is not None:
        raise Lost(f"before the cut: {worker.error} {getattr(worker.error, 'stderr', '')}")
    worker.cut()
    worker.join()
    store.unplug()
    store.plug_in()
    verify(store, model)
    return worker.done


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file_system", choices=sorted(MKFS))
    parser.add_argument("cuts", type=int)
    parser.add_argument("--volatile", action="store_true")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("VENEER_SEED", os.getpid())))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    chance = random.Random(options.seed)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="veneer-power.", dir="/var/tmp"))
    operations = cuts = 0
    began = time.monotonic()
    # The device lies in memory: all that counts is what was sent to it.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", scratch], check=True)
    try:
        store = Store(scratch, options.file_system, options.volatile)
        store.plug_in()
        model = Model()
        while cuts < options.cuts:
            if cuts > 0 and cuts % CUTS_OF_A_STORE == 0:
                store.renew()
                model = Model()
            operations += cut_once(store, model, scratch / "image", chance)
            cuts += 1
        print(f"{options.file_system}: {cuts} power cuts in {operations} operations, "
              f"{time.monotonic() - began:.0f} s, nothing lost (seed {options.seed})")
        status = 0
    except Lost as lost:
        print(f"{options.file_system}: cut {cuts + 1} of {options.cuts}, after {operations} "
              f"operations and more, seed {options.seed}: {lost}")
        status = 3
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", scratch], check=False)
        scratch.rmdir()
    return status


if __name__ == "__main__":
    sys.exit(main())
