#!/usr/bin/env python3
"""Prints a directory tree as sorted lines, one an entry, with all that a layer store must keep:
path, type and mode, owner, mtime in nanoseconds, size and SHA-256 or device or link target,
extended attributes, and the first name of its hard-link group. What two clients made of one image
is then compared by diff.

usage: tree_lines.py DIR [--no-dir-times]
"""

import argparse
import hashlib
import os
import stat


def entries(root):
    """The root itself and all below it, sorted, as (path from the root, status)."""
    paths = [root]
    for directory, directories, files in os.walk(root):
        paths += [os.path.join(directory, name) for name in directories + files]
    return sorted((os.path.relpath(path, root), os.lstat(path)) for path in paths)


def content(path, status):
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"size={status.st_size} sha256={digest}"
    if kind == stat.S_IFLNK:
        return f"to={os.readlink(path)!r}"
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        return f"device={os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return ""


def attributes(path):
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return [f"{name}={os.getxattr(path, name, follow_symlinks=False).hex()}" for name in names]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dir", type=os.fsencode)
    parser.add_argument("--no-dir-times", action="store_true")
    options = parser.parse_args()

    tree = entries(options.dir)
    # Links from outside the tree do not count: image layers share the inodes of their files.
    groups = {}
    for name, status in tree:
        if not stat.S_ISDIR(status.st_mode):
            groups.setdefault((status.st_dev, status.st_ino), []).append(name)
    for name, status in tree:
        path = os.path.join(options.dir, name)
        group = groups.get((status.st_dev, status.st_ino), [])
        timeless = options.no_dir_times and stat.S_ISDIR(status.st_mode)
        fields = [repr(name)[1:], f"{status.st_mode:06o}", f"{status.st_uid}:{status.st_gid}",
                  "mtime=" + ("any" if timeless else str(status.st_mtime_ns)),
                  content(path, status), *attributes(path)]
        if len(group) > 1:
            fields.append(f"linked={group[0]!r}")
        print(*fields)


main()
