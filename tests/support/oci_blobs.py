#!/usr/bin/env python3
"""Prints the paths of the layers' blobs of an OCI layout with one image, lowest first.

usage: oci_blobs.py DIR
"""

import json
import pathlib
import sys

layout = pathlib.Path(sys.argv[1])
blobs = layout / "blobs/sha256"
index = json.loads((layout / "index.json").read_bytes())
manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_bytes())
for layer in manifest["layers"]:
    print(blobs / layer["digest"][7:])
