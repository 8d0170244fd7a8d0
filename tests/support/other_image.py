#!/usr/bin/env python3
"""Writes the first image of a layout again as an OCI archive, with another name and what the
options say. What only Docker calls so gets OCI's media type.

usage: other_image.py LAYOUT OUT.tar REFERENCE [--command WORD...] [--wrong-diff-id] [--cut-layer]
  --command WORD...   what its containers run
  --wrong-diff-id     the top layer is not what the configuration says: its DiffID is another one
  --cut-layer         the top layer ends in the middle; its blob has the digest that is said
"""

import argparse
import hashlib
import io
import json
import pathlib
import tarfile

OCI_TYPES = {
    "application/vnd.docker.distribution.manifest.v2+json":
        "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.container.image.v1+json": "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip":
        "application/vnd.oci.image.layer.v1.tar+gzip",
}


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def to_json(value):
    return json.dumps(value, separators=(",", ":")).encode()


class Image:
    def __init__(self, layout):
        self.blobs = layout / "blobs/sha256"
        self.files = {"oci-layout": (layout / "oci-layout").read_bytes()}
        index = json.loads((layout / "index.json").read_bytes())
        self.entry = {**index["manifests"][0]}
        self.manifest = json.loads(self.blob(self.entry))
        while "manifests" in self.manifest:  # an index below the index: of platforms, say
            self.entry = {**self.manifest["manifests"][0]}
            self.manifest = json.loads(self.blob(self.entry))
        self.config = json.loads(self.blob(self.manifest["config"]))

    def blob(self, descriptor):
        return (self.blobs / descriptor["digest"][7:]).read_bytes()

    def put(self, descriptor, data):
        kind = descriptor["mediaType"]
        descriptor.update(digest=digest(data), size=len(data), mediaType=OCI_TYPES.get(kind, kind))
        self.files["blobs/sha256/" + digest(data)[7:]] = data

    def write(self, path, reference):
        self.put(self.manifest["config"], to_json(self.config))
        self.manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
        self.put(self.entry, to_json(self.manifest))
        self.entry["annotations"] = {
            "org.opencontainers.image.ref.name": reference.split(":")[-1],
            "io.containerd.image.name": reference}
        self.files["index.json"] = to_json({"schemaVersion": 2, "manifests": [self.entry]})
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, data in self.files.items():
                record = tarfile.TarInfo(name)
                record.size = len(data)
                tar.addfile(record, io.BytesIO(data))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("layout", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("reference")
    parser.add_argument("--command", nargs="+")
    parser.add_argument("--wrong-diff-id", action="store_true")
    parser.add_argument("--cut-layer", action="store_true")
    options = parser.parse_args()

    image = Image(options.layout)
    layers = image.manifest["layers"]
    for layer in layers:
        data = image.blob(layer)
        cut = options.cut_layer and layer is layers[-1]
        image.put(layer, data[:len(data) // 2] if cut else data)
    if options.command:
        image.config["config"]["Cmd"] = options.command
    if options.wrong_diff_id:
        image.config["rootfs"]["diff_ids"][-1] = digest(b"another layer")
    image.write(options.out, options.reference)


main()
