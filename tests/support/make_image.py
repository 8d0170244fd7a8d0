#!/usr/bin/env python3
"""Writes the image that the end-to-end tests load, as OUT/oci, OUT/oci.tar and OUT/docker.tar.

Four layers hold one of everything that a layer can: every file type, hard links, special bits,
large ids, nanosecond times, extended attributes, capabilities, long and non-ASCII names,
whiteouts, opaque directories with the marker before and after a sibling, type changes, names that
come back. They run: /bin is busybox. The same arguments give the same bytes, and no root is
needed, because devices and owners are only records of an archive.

usage: make_image.py OUT [--layers N] [--zstd] [--small-ids]
  --layers N    N more layers of one file each, some of which remove the file of the one below
  --zstd        the top layer of the four is compressed with zstd
  --small-ids   no ids beyond 65535, which rootless stores cannot chown to
"""

import argparse
import gzip
import hashlib
import io
import json
import pathlib
import posixpath
import subprocess
import tarfile

NAME = "veneer.test/galley"
BUSYBOX = pathlib.Path("/bin/busybox")
LINKED = "sh ls cat".split()
SYMLINKED = """chmod chown cp dd echo env find grep head id ln mkdir mount mv ps readlink rm rmdir
    sha256sum sleep sort stat sync tar test touch true umount wc""".split()
TIME = 1600000000
OCI = "application/vnd.oci.image."
# A version 2 file capability, as the kernel keeps it: cap_net_bind_service, permitted, effective.
CAPABILITY = bytes.fromhex("01000002" + "00040000" + "00000000" + "00000000" + "00000000")


class Layer:
    """A layer's tar in the making; the methods return the layer, for chaining."""

    def __init__(self, dialect=tarfile.PAX_FORMAT):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w", format=dialect)

    def put(self, name, kind, mode, data=b"", xattrs=None, **fields):
        record = tarfile.TarInfo(name)
        record.type, record.mode, record.mtime, record.size = kind, mode, TIME, len(data)
        for field, value in fields.items():
            setattr(record, field, value)
        for key, value in (xattrs or {}).items():
            text = value.decode("utf-8", "surrogateescape")
            record.pax_headers = {**record.pax_headers, "SCHILY.xattr." + key: text}
        self.tar.addfile(record, io.BytesIO(data))
        return self

    def dir(self, name, mode=0o755, **fields):
        return self.put(name + "/", tarfile.DIRTYPE, mode, **fields)

    def file(self, name, data=b"", mode=0o644, **fields):
        return self.put(name, tarfile.REGTYPE, mode, data, **fields)

    def hard_link(self, name, target, mode=0o644, **fields):
        # Docker and containerd apply a link record's mode and owner to the inode, so they are
        # the target's.
        return self.put(name, tarfile.LNKTYPE, mode, linkname=target, **fields)

    def symlink(self, name, target):
        return self.put(name, tarfile.SYMTYPE, 0o777, linkname=target)

    def whiteout(self, name):
        parent, base = posixpath.split(name)
        return self.file(posixpath.join(parent, ".wh." + base), mode=0)

    def opaque(self, name):
        return self.file(name + "/.wh..wh..opq", mode=0)

    def finish(self):
        self.tar.close()
        return self.bytes.getvalue()


def system_layer(small_ids):
    layer = Layer()
    for name in "bin dev etc proc root srv sys".split():
        layer.dir(name)
    layer.dir("tmp", 0o1777)
    layer.file("bin/busybox", BUSYBOX.read_bytes(), 0o755)
    for name in LINKED:
        layer.hard_link("bin/" + name, "bin/busybox", 0o755)
    for name in SYMLINKED:
        layer.symlink("bin/" + name, "busybox")
    layer.file("etc/passwd", b"root:x:0:0::/root:/bin/sh\ncook:x:1000:1000::/srv:/bin/sh\n")
    layer.file("etc/group", b"root:x:0:\ncook:x:1000:\n")

    layer.dir("srv/types")
    layer.put("srv/types/char", tarfile.CHRTYPE, 0o666, devmajor=1, devminor=3)
    layer.put("srv/types/block", tarfile.BLKTYPE, 0o640, devmajor=7, devminor=300, gid=6)
    layer.put("srv/types/fifo", tarfile.FIFOTYPE, 0o622)
    layer.symlink("srv/types/dangling", "../no/such/place")
    layer.symlink("srv/types/absolute", "/etc/passwd")
    layer.file("srv/types/empty")
    layer.file("srv/types/zeros", bytes(300000))

    layer.dir("srv/owners", 0o2775, uid=1000, gid=1000)
    layer.file("srv/owners/linked-1", b"one inode\n", uid=1000, gid=1000)
    layer.hard_link("srv/owners/linked-2", "srv/owners/linked-1", uid=1000, gid=1000)
    layer.file("srv/owners/setuid", b"#!/bin/sh\nid -u\n", 0o4755)
    layer.file("srv/owners/setgid", b"#!/bin/sh\nid -g\n", 0o2750, gid=1000)
    layer.dir("srv/owners/sticky", 0o3777, gid=1000)
    if not small_ids:
        layer.file("srv/owners/large", uid=2097152 + 40, gid=4000000)
    layer.file("srv/owners/nanoseconds", mtime=1600000000.987654321)

    layer.dir("srv/xattrs", xattrs={"user.shelf": b"top"})
    binary = {"user.text": "süß".encode(), "user.binary": b"\x00\x80\xff\n="}
    layer.file("srv/xattrs/file", b"attributes\n", xattrs=binary)
    layer.file("srv/xattrs/capable", b"#!/bin/sh\n", 0o755,
               xattrs={"security.capability": CAPABILITY})

    layer.dir("srv/names")
    layer.file("srv/names/" + "long-" * 50, b"250 bytes\n")
    layer.file("srv/names/crème brûlée ❄", b"not ASCII\n")
    layer.file("srv/names/new\nline", b"a newline\n")

    for name in "stock stock/drawer stock/drawer/deep turn menu menu/old".split():
        layer.dir("srv/" + name)
    for name in "eaten replaced retouched drawer/spoon drawer/deep/fork".split():
        layer.file("srv/stock/" + name, name.encode() + b" of layer 0\n")
    layer.file("srv/turn/inside", b"its directory becomes a link\n")
    layer.file("srv/menu/soup", b"hidden by an opaque directory\n")
    layer.file("srv/menu/old/fish", b"hidden deeper\n")
    return layer.finish()


def removing_layer():
    # GNU's dialect: long names are records of their own, times are whole seconds.
    layer = Layer(tarfile.GNU_FORMAT).dir("srv").dir("srv/stock")
    layer.whiteout("srv/stock/eaten").whiteout("srv/stock/drawer").whiteout("srv/stock/never-was")
    layer.file("srv/stock/replaced", b"of layer 1, another owner\n", 0o600, uid=1000, gid=1000)
    layer.file("srv/stock/fresh", b"added by layer 1\n")
    layer.hard_link("srv/stock/" + "fresh-too-" * 20, "srv/stock/fresh")
    return layer.finish()


def replacing_layer():
    layer = Layer(tarfile.USTAR_FORMAT).dir("srv")
    layer.dir("srv/menu", 0o750).opaque("srv/menu").file("srv/menu/salad", b"of layer 2\n")
    layer.symlink("srv/turn", "menu")
    layer.dir("srv/stock").file("srv/stock/retouched", b"retouched of layer 0\n", 0o4711)
    return layer.finish()


def returning_layer():
    layer = Layer().dir("srv").dir("srv/stock")
    layer.dir("srv/stock/drawer", 0o700).file("srv/stock/drawer/knife", b"alone in here\n")
    layer.file("srv/stock/eaten", b"back in layer 3\n")
    # The marker hides lower layers only: a sibling of the same layer stays, wherever it stands.
    layer.dir("srv/menu").file("srv/menu/cake", b"of layer 3\n").opaque("srv/menu")
    return layer.finish()


def extra_layer(number):
    layer = Layer().dir("srv/more").file(f"srv/more/{number:03}", f"layer {number}\n".encode())
    if number % 3 == 2:
        layer.whiteout(f"srv/more/{number - 1:03}")
    return layer.finish()


def compress(data, how):
    if how == "gzip":
        return gzip.compress(data, 6, mtime=0)
    if how == "zstd":
        return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout
    return data


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def to_json(value):
    return json.dumps(value, separators=(",", ":")).encode()


def write_tar(path, files):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            record = tarfile.TarInfo(name)
            record.size, record.mtime = len(data), TIME
            tar.addfile(record, io.BytesIO(data))


def write_oci(out, reference, config, layers):
    files = {"oci-layout": to_json({"imageLayoutVersion": "1.0.0"})}

    def add(media_type, data):
        files["blobs/sha256/" + digest(data)[7:]] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    suffix = {"gzip": "+gzip", "zstd": "+zstd", "plain": ""}
    manifest = add(OCI + "manifest.v1+json", to_json({
        "schemaVersion": 2,
        "mediaType": OCI + "manifest.v1+json",
        "config": add(OCI + "config.v1+json", config),
        "layers": [add(OCI + "layer.v1.tar" + suffix[how], compress(data, how))
                   for data, how in layers]}))
    manifest["annotations"] = {"org.opencontainers.image.ref.name": reference.split(":")[1],
                               "io.containerd.image.name": reference}
    manifest["platform"] = {"architecture": "amd64", "os": "linux"}
    files["index.json"] = to_json({"schemaVersion": 2, "manifests": [manifest]})
    for name, data in files.items():
        path = out / "oci" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    write_tar(out / "oci.tar", files)


def write_docker(out, reference, config, layers):
    files = {digest(data)[7:] + "/layer.tar": data for data, _ in layers}
    manifest = [{"Config": digest(config)[7:] + ".json", "RepoTags": [reference],
                 "Layers": [digest(data)[7:] + "/layer.tar" for data, _ in layers]}]
    files[digest(config)[7:] + ".json"] = config
    files["manifest.json"] = to_json(manifest)
    write_tar(out / "docker.tar", files)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=0)
    parser.add_argument("--zstd", action="store_true")
    parser.add_argument("--small-ids", action="store_true")
    options = parser.parse_args()

    layers = [(system_layer(options.small_ids), "gzip"), (removing_layer(), "plain"),
              (replacing_layer(), "gzip"),
              (returning_layer(), "zstd" if options.zstd else "gzip")]
    layers += [(extra_layer(number), "gzip") for number in range(options.layers)]
    reference = NAME + (f":l{options.layers}" if options.layers else ":v1")
    created = "2020-09-13T12:26:40Z"
    config = to_json({
        "architecture": "amd64", "os": "linux", "created": created,
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [digest(data) for data, _ in layers]},
        "history": [{"created": created, "created_by": f"layer {n}"} for n in range(len(layers))]})
    options.out.mkdir(parents=True, exist_ok=True)
    write_oci(options.out, reference, config, layers)
    write_docker(options.out, reference, config, layers)
    print(reference, digest(config))


main()
