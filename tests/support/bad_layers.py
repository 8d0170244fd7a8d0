#!/usr/bin/env python3
"""Makes images whose second layer must be refused: OUT/<case>/ is an OCI layout, OUT/cases names
them all, one a line, each with a tab and the regular expression that the refusal must match.
OUT/good is an image of the first layer, which all of them have in common.

usage: bad_layers.py OUT
"""

import pathlib
import sys
import zlib

import oci_layout

BLOCK = 512
END = bytes(2 * BLOCK)
LAYER = r"^veneer: driver load: layer 2 \(sha256:[0-9a-f]{12}\): "
IN_GZIP = r'entry ("[^"]+" )?at offset [0-9]+: .*(byte [0-9]+|digest)'


def octal(number, width):
    return b"%0*o\0" % (width - 1, number)


def base256(number, width):
    return (number + (1 << (8 * width - 1 if number >= 0 else 8 * width))).to_bytes(width, "big")


def header(name, kind=b"0", size=0, link=b"", size_field=None, checksum=None, devices=(0, 0)):
    """A ustar header. Names are cut at 100 bytes, as the field is."""
    fields = [name[:100].ljust(100, b"\0"), octal(0o644, 8), octal(0, 8), octal(0, 8),
              size_field or octal(size, 12), octal(1600000000, 12), b" " * 8, kind,
              link[:100].ljust(100, b"\0"), b"ustar\0", b"00", bytes(32), bytes(32),
              octal(devices[0], 8), octal(devices[1], 8), bytes(155), bytes(12)]
    block = b"".join(fields)
    assert len(block) == BLOCK
    number = sum(block) if checksum is None else checksum
    return block[:148] + b"%06o\0 " % number + block[156:]


def padded(data):
    return data + bytes(-len(data) % BLOCK)


def file(name, data=b"data\n", **fields):
    return header(name, size=len(data), **fields) + padded(data)


def record(key, value):
    """A PAX record, whose length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def pax(*records, kind=b"x"):
    data = b"".join(records)
    return header(b"PaxHeaders/x", kind=kind, size=len(data)) + padded(data)


def gnu(kind, text):
    data = text + b"\0"
    return header(b"././@LongLink", kind=kind, size=len(data)) + padded(data)


def gzip(data):
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def tar_cases():
    """Archives, each with what its refusal names; digests and sizes of them are all right."""
    def entry(name, offset=0):
        return rf'.*{name}.*\boffset {offset}\b'

    good = file(b"a/first") + file(b"a/second", b"x" * 700)
    for cut in (1, 511, 513, 1023, 1025, 1536, 2000, 2559):
        yield f"truncated-{cut}", good[:cut], entry("", 0 if cut < 1024 else 1024)
    yield "checksum", file(b"good") + file(b"bad", checksum=1), entry("", 1024)
    yield "no-tar", b"\x04\x22\x4d\x18" + b"an lz4 frame, if one believes it" * 40, entry("", 0)
    yield "one-zero-block", file(b"good") + bytes(BLOCK) + file(b"after") + END, entry("", 1024)
    yield "unknown-type", file(b"odd", kind=b"Q") + END, entry("odd")

    yield "size-2-63", header(b"big", size_field=base256(1 << 63, 12)) + END, entry("big")
    yield "size-2-95", header(b"big", size_field=base256((1 << 94), 12)) + END, entry("big")
    yield "size-8-tib", header(b"big", size_field=base256((1 << 43) + 1, 12)) + END, entry("big")
    yield "size-negative", header(b"big", size_field=base256(-1, 12)) + END, entry("big")
    yield "size-no-number", header(b"big", size_field=b"0000000009x\0") + END, entry("big")
    for value in (b"99999999999999999999", b"18446744073709551615", b"9223372036854775807", b"-1",
                  b"12x", b"0x10"):
        lie = pax(record(b"size", value))
        yield f"size-pax-{value.decode()}", lie + file(b"big") + END, entry("big")

    lies = {"longer": b"99 path=x\n", "shorter": b"5 path=name\n", "zero": b"0 path=x\n",
            "negative": b"-9 path=x\n", "huge": b"18446744073709551617 path=x\n",
            "no-number": b"x path=x\n", "no-space": b"9path=xyz\n", "no-equals": b"9 pathxy\n",
            "no-newline": b"9 path=xyz", "no-key": b"5 =x\n", "nul": b"10 path=\0x\n"}
    for name, lie in lies.items():
        yield f"pax-{name}", pax(lie) + file(b"victim") + END, entry("victim")
    yield "pax-alone", pax(record(b"path", b"x")), entry("PaxHeaders/x")
    large = header(b"PaxHeaders/x", kind=b"x", size=(1 << 20) + 1)
    yield "pax-too-large", large, entry("PaxHeaders/x")
    sparse = pax(record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.minor", b"0"),
                 record(b"GNU.sparse.name", b"holes"), record(b"GNU.sparse.realsize", b"999999"))
    many = file(b"holes", b"99999999999\n0\n1\n".ljust(BLOCK, b"\0"))
    yield "pax-sparse-map", sparse + many + END, entry("holes")

    yield "climbing-name", file(b"../escape") + END, entry("../escape")
    yield "climbing-inside", file(b"a/../../escape") + END, entry("escape")
    climbing = pax(record(b"path", b"a/../../escape"))
    yield "climbing-pax", climbing + file(b"x") + END, entry("escape")
    yield "climbing-long", gnu(b"L", b"../" * 50 + b"escape") + file(b"x") + END, entry("escape")
    yield "climbing-link", header(b"l", kind=b"1", link=b"../../../etc/passwd") + END, entry("l")
    yield "absolute-link", header(b"l", kind=b"1", link=b"/etc/passwd") + END, entry("l")
    out = header(b"out", kind=b"2", link=b"/etc")
    through = header(b"l", kind=b"1", link=b"out/passwd")
    yield "link-through-link", out + through + END, entry("l", 512)
    yield "link-to-nothing", header(b"l", kind=b"1", link=b"no/such") + END, entry("l")
    yield "link-to-itself", header(b"l", kind=b"1", link=b"l") + END, entry("l")
    yield "root-as-link", header(b"./", kind=b"2", link=b"/etc") + END, entry(r"\./") + ".*root"
    yield "device-0-0", header(b"hide", kind=b"3") + END, entry("hide")
    yield "device-too-large", header(b"dev", kind=b"3", devices=(0o7777777, 1)) + END, entry("dev")
    for name in (b".wh.", b".wh..", b".wh..."):
        path = b"d/" + name
        yield f"whiteout{name.decode()}", file(path, b"") + END, entry(path.decode())

    deep = b"d/" * 10000 + b"file"
    yield "deep-pax", pax(record(b"path", deep)) + file(b"x") + END, entry("d/d")
    yield "deep-gnu", gnu(b"L", deep) + file(b"x") + END, entry("d/d")
    yield "name-256", gnu(b"L", b"n" * 256) + file(b"x") + END, entry("nnn")
    yield "path-4096", pax(record(b"path", b"p/" * 2047 + b"pp")) + file(b"x") + END, entry("p/p")
    yield "target-4096", (pax(record(b"linkpath", b"t" * 4096))
                          + header(b"link", kind=b"2", link=b"t") + END), entry("link")
    yield "name-empty", file(b"") + END, entry("")
    xattr = record(b"SCHILY.xattr.user.large", b"v" * 65537)
    yield "xattr-65537", pax(xattr) + file(b"x") + END, entry("x")
    xattr = record(b"SCHILY.xattr.user." + b"n" * 251, b"v")
    yield "xattr-name-256", pax(xattr) + file(b"x") + END, entry("x")


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    base = header(b"etc/", kind=b"5") + file(b"etc/hostname") + END
    base_id = oci_layout.digest_of(base)
    cases = []

    def write(name, wanted, stored, diff_id, digest=None, size=None):
        directory = out / name
        (directory / "blobs/sha256").mkdir(parents=True)
        layers = [(oci_layout.write_blob(directory, base), base_id)]
        if stored is not None:
            blob = oci_layout.write_blob(directory, stored)
            if digest:
                written = directory / "blobs/sha256" / blob["digest"][7:]
                written.rename(directory / "blobs/sha256" / digest[7:])
                blob["digest"] = digest
            layers.append(({**blob, "size": blob["size"] if size is None else size}, diff_id))
            cases.append(f"{name}\t{wanted}\n")
        oci_layout.write_layout(directory, layers)

    write("good", "", None, None)
    for name, archive, wanted in tar_cases():
        write(name, LAYER + wanted, archive, oci_layout.digest_of(archive))

    archive = file(b"a/first") + file(b"a/second", bytes(range(256)) * 100) + END
    diff_id, packed = oci_layout.digest_of(archive), gzip(archive)
    for cut in (0, 1, 5, 10, 11, len(packed) // 2, len(packed) - 8, len(packed) - 1):
        write(f"gzip-{cut}", LAYER + IN_GZIP, packed[:cut], diff_id)
    # The blob is shorter or longer than its descriptor says, or another of the same length. Some of
    # that is known when the image is opened, before a layer is.
    anywhere = r"^veneer: driver load: .*"
    digest, size = oci_layout.digest_of(packed), len(packed)
    for cut in (0, 1, size // 2, size - 1):
        write(f"blob-cut-{cut}", anywhere, packed[:cut], diff_id, digest, size)
    write("blob-longer", anywhere, packed + b"\0", diff_id, digest, size)
    write("blob-size-large", anywhere, packed, diff_id, digest, 1 << 62)
    write("blob-other", LAYER + ".*digest", gzip(archive + END), diff_id, digest)
    write("diff-id", LAYER + ".*digest", packed, oci_layout.digest_of(b"other"))
    write("diff-id-plain", LAYER + ".*digest", archive, oci_layout.digest_of(b"other"))
    write("gzip-then-garbage", LAYER + IN_GZIP, packed + b"garbage", diff_id)
    write("gzip-crc", LAYER + IN_GZIP, packed[:-8] + b"\0\0\0\0" + packed[-4:], diff_id)
    # A gigabyte of zeros as the data of one PAX header; gzip members in a row are one stream.
    zeros = gzip(header(b"PaxHeaders/x", kind=b"x", size=1 << 30)) + gzip(bytes(1 << 24)) * 64
    write("pax-gigabyte", LAYER + '.*PaxHeaders/x.*offset 0\\b', zeros, diff_id)

    (out / "cases").write_text("".join(cases))


main()
