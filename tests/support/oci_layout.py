#!/usr/bin/env python3
"""Makes an OCI image layout of layer tars: OUT/oci-layout, OUT/index.json, OUT/blobs.

The layers are stored as they are, plain, gzip or zstd, lowest first. The same layers give the same
bytes.

usage: oci_layout.py OUT LAYER...
"""

import gzip
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

OCI = "application/vnd.oci.image."
PIECE = 1 << 20


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def to_json(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def write_blob(out, data):
    path = out / "blobs/sha256" / digest_of(data)[7:]
    path.write_bytes(data)
    return {"digest": digest_of(data), "size": len(data)}


def write_layout(out, layers):
    """`layers` are pairs of a descriptor (digest and size of a blob that is or will be there) and a
    DiffID."""
    (out / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    config = {"architecture": "amd64", "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]}}
    manifest = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json",
                "config": {"mediaType": OCI + "config.v1+json", **write_blob(out, to_json(config))},
                "layers": [{"mediaType": OCI + "layer.v1.tar", **blob} for blob, _ in layers]}
    entry = {"mediaType": OCI + "manifest.v1+json", **write_blob(out, to_json(manifest))}
    (out / "index.json").write_bytes(to_json({"schemaVersion": 2, "manifests": [entry]}))
    (out / "oci-layout").write_bytes(to_json({"imageLayoutVersion": "1.0.0"}))


def digest_of_stream(stream):
    sha = hashlib.sha256()
    while piece := stream.read(PIECE):
        sha.update(piece)
    return "sha256:" + sha.hexdigest()


def diff_id_of(path):
    # zstd gets the descriptor itself, whose position a buffer would have moved.
    with open(path, "rb", buffering=0) as stored:
        magic = stored.read(4)
        stored.seek(0)
        if magic[:2] == b"\x1f\x8b":
            return digest_of_stream(gzip.open(stored))
        if magic == b"\x28\xb5\x2f\xfd":
            with subprocess.Popen(["zstd", "-dc"], stdin=stored, stdout=subprocess.PIPE) as zstd:
                return digest_of_stream(zstd.stdout)
        return digest_of_stream(stored)


def add_layer(out, path):
    with open(path, "rb") as stored:
        digest = digest_of_stream(stored)
    shutil.copyfile(path, out / "blobs/sha256" / digest[7:])
    return {"digest": digest, "size": path.stat().st_size}, diff_id_of(path)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__.strip().splitlines()[-1])
    out = pathlib.Path(sys.argv[1])
    (out / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    write_layout(out, [add_layer(out, pathlib.Path(layer)) for layer in sys.argv[2:]])


if __name__ == "__main__":
    main()
