// The reader on what GNU tar and Python's tarfile write, and those on what the writer writes.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <set>

#include "tar/test_archive.h"
#include "tar/writer.h"

namespace veneer::tar::test {
namespace {

// The standard output of a shell command, which must succeed.
std::string run(const std::string& command) {
  std::FILE* pipe = ::popen(("LC_ALL=C TZ=UTC; export LC_ALL TZ; " + command).c_str(), "re");
  VENEER_CHECK(pipe != nullptr);
  std::string output;
  std::array<char, 65536> buffer{};
  while (const size_t size = std::fread(buffer.data(), 1, buffer.size(), pipe))
    output.append(buffer.data(), size);
  EXPECT_EQ(::pclose(pipe), 0) << command;
  return output;
}

class Tools : public testing::Test {
 protected:
  Tools() {
    path_ = "/var/tmp/veneer-tar-" + random_name();
    dir_ = open_or_make_root(path_, 0700).fd;
  }
  ~Tools() override {
    const UniqueFd parent = open_root("/var/tmp");
    remove_tree_at(parent.get(), RelPath::parse(path_.substr(path_.rfind('/') + 1)));
  }

  std::string in_dir(const std::string& command) const {
    return run("cd " + path_ + " && { " + command + "; }");
  }
  void write(const std::string& name, std::string_view text) const {
    write_file_at(dir_.get(), RelPath::parse(name), text, 0600);
  }

  // Expects that each entry says what its file is. `has_nanoseconds` of the format.
  void expect_as_on_disk(const Listing& listing, bool has_nanoseconds) const {
    EXPECT_EQ(listing.error, "");
    std::set<ino_t> seen;
    for (const auto& [entry, stored] : listing.members) {
      SCOPED_TRACE(entry.path);
      const RelPath path = RelPath::clamp(entry.path);
      const struct stat st = stat_at(dir_.get(), path);
      const bool is_repeated = !S_ISDIR(st.st_mode) && !seen.insert(st.st_ino).second;
      EXPECT_EQ(entry.mode, st.st_mode & 07777);
      EXPECT_EQ(entry.uid, st.st_uid);
      EXPECT_EQ(entry.gid, st.st_gid);
      EXPECT_EQ(entry.modified.seconds, st.st_mtim.tv_sec);
      EXPECT_EQ(entry.modified.nanoseconds, has_nanoseconds ? st.st_mtim.tv_nsec : 0);
      if (is_repeated) {
        EXPECT_EQ(entry.type, EntryType::hard_link);
        EXPECT_EQ(stat_at(dir_.get(), RelPath::clamp(entry.link_target)).st_ino, st.st_ino);
      } else if (S_ISREG(st.st_mode)) {
        EXPECT_EQ(entry.type, EntryType::file);
        EXPECT_EQ(entry.size, static_cast<uint64_t>(st.st_size));
        EXPECT_TRUE((Member{entry, stored}.content()) == read_file_at(dir_.get(), path, 1 << 24));
      } else if (S_ISLNK(st.st_mode)) {
        EXPECT_EQ(entry.type, EntryType::symlink);
        EXPECT_EQ(entry.link_target, read_link_at(dir_.get(), path));
      } else {
        EXPECT_EQ(entry.type, S_ISDIR(st.st_mode) ? EntryType::directory : EntryType::fifo);
      }
    }
  }

  std::string path_;
  UniqueFd dir_;
};

// What every format can say.
constexpr const char* kShortTree = R"(
  mkdir -p t/dir/sub &&
  echo content > t/dir/file && chmod 4751 t/dir/file && touch -d @1600000000.123456789 t/dir/file &&
  : > t/empty && ln t/dir/file t/hard && ln -s dir/file t/link && ln -s nowhere t/dangling &&
  mkfifo t/fifo && chmod 1777 t/dir/sub && printf 'new\nline' > 't/odd " name' &&
  head -c 300000 /dev/zero | tr '\0' x > t/large && touch -d @0 t/empty &&
  touch -h -d @1234567890 t/link)";

constexpr const char* kLongTree = R"(
  l=$(printf '%0100d' 7) && mkdir -p t/$l/$l/$l && echo 1 > t/$l/$l/$l/$l$l &&
  echo 2 > t/${l}x && ln t/${l}x t/$l/hard && ln -s $l/$l/$l t/link && ln -s $l$l t/${l}link &&
  touch -d @-5.5 t/${l}x && touch -d @9000000000 t/link && touch -d @-1 t/$l)";

TEST_F(Tools, ReadsEveryFormatOfGnuTar) {
  in_dir(kShortTree);
  for (const std::string format : {"v7", "oldgnu", "gnu", "ustar", "posix"}) {
    SCOPED_TRACE(format);
    const Listing listing = list(in_dir("tar --sort=name --format=" + format + " -cf - " +
                                        (format == "v7" ? "--exclude=fifo " : "") + "t"));
    EXPECT_EQ(listing.members.size(), format == "v7" ? 10u : 11u);
    expect_as_on_disk(listing, format == "posix");
  }
}

TEST_F(Tools, ReadsLongNamesAndTimesOfGnuTar) {
  in_dir(kLongTree);
  for (const std::string format : {"oldgnu", "gnu", "posix"}) {
    SCOPED_TRACE(format);
    const Listing listing = list(in_dir("tar --sort=name --format=" + format + " -cf - t"));
    EXPECT_EQ(listing.members.size(), 9u);
    expect_as_on_disk(listing, format == "posix");
  }
}

TEST_F(Tools, ReadsSparseFilesOfGnuTar) {
  in_dir(
      "mkdir t && truncate -s 3M t/holes && truncate -s 1M t/hole && echo plain > t/plain &&"
      "for i in 1 3 4 7 9; do printf hello | dd of=t/holes bs=1 seek=$((i * 300001))"
      " conv=notrunc status=none || exit 1; done && "
      // More segments than an old GNU header and its first extension hold.
      "for i in $(seq 60); do printf \"$i\" | dd of=t/many bs=1 seek=$((i * 16384))"
      " conv=notrunc status=none || exit 1; done && truncate -s 2M t/many &&"
      "l=$(printf '%0120d' 7) && cp --sparse=always t/holes t/$l");
  for (const std::string how : {"oldgnu", "gnu", "posix --sparse-version=0.0",
                                "posix --sparse-version=0.1", "posix --sparse-version=1.0"}) {
    SCOPED_TRACE(how);
    const Listing listing = list(in_dir("tar -S --sort=name --format=" + how + " -cf - t"));
    EXPECT_EQ(listing.members.size(), 6u);
    expect_as_on_disk(listing, how.starts_with("posix"));
    size_t sparse = 0;
    for (const Member& file : listing.members) sparse += file.entry.sparse;
    EXPECT_EQ(sparse, 4u);
  }
}

TEST_F(Tools, ReadsXattrsOfGnuTar) {
  in_dir("echo x > f && setfattr -n user.b -v '\"two\nlines\"' f && setfattr -n user.empty f");
  const Member file = only(in_dir("tar --xattrs --format=posix -cf - f"));
  std::vector<Xattr> xattrs = file.entry.xattrs;
  std::ranges::sort(xattrs);
  EXPECT_EQ(xattrs, read_xattrs_at(dir_.get(), "f"));
  EXPECT_EQ(xattrs.size(), 2u);
}

// --- Python ----------------------------------------------------------------------------------

// One line for everything that an entry says, the same as kDescribe prints.
std::string describe(const Member& member) {
  const Entry& entry = member.entry;
  std::string line = fmt::format(
      "{} {} [{}] {:o} {}:{} {}:{} {}.{:09} {} [{}]", static_cast<int>(entry.type), entry.path,
      entry.link_target, entry.mode, entry.uid, entry.gid, entry.device_major, entry.device_minor,
      entry.modified.seconds, entry.modified.nanoseconds, entry.size, member.content());
  for (const Xattr& xattr : entry.xattrs) line += fmt::format(" {}={}", xattr.name, xattr.value);
  return line + "\n";
}

std::string describe(const Listing& listing) {
  EXPECT_EQ(listing.error, "");
  std::string lines;
  for (const Member& member : listing.members) lines += describe(member);
  return lines;
}

constexpr const char* kDescribe = R"(
import tarfile, decimal, math
ORDER = [tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
         tarfile.DIRTYPE, tarfile.FIFOTYPE]
def describe(t, content):
    name = t.name + ("/" if t.isdir() else "")
    link = t.linkname if t.islnk() or t.issym() else ""
    major, minor = (t.devmajor, t.devminor) if t.isdev() and not t.isfifo() else (0, 0)
    time = decimal.Decimal(t.pax_headers.get("mtime", t.mtime))
    seconds = math.floor(time)
    line = "%d %s [%s] %o %d:%d %d:%d %d.%09d %d [%s]" % (
        ORDER.index(t.type), name, link, t.mode, t.uid, t.gid, major, minor, seconds,
        (time - seconds) * 10**9, t.size, content.decode())
    for key, value in t.pax_headers.items():
        if key.startswith("SCHILY.xattr."):
            line += " %s=%s" % (key[13:], value)
    return line
)";

constexpr const char* kMake = R"(
import io, sys
FORMAT = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
format = sys.argv[1]
lines = []
out = tarfile.open("made.tar", "w", format=FORMAT[format], pax_headers=(
    {"comment": "global"} if format == "pax" else None))
def add(name, type=tarfile.REGTYPE, content=b"", **fields):
    t = tarfile.TarInfo(name)
    t.type, t.size, t.mtime = type, len(content), 1600000000
    for key, value in fields.items():
        setattr(t, key, value)
    lines.append(describe(t, content))
    out.addfile(t, io.BytesIO(content))
add("dir", tarfile.DIRTYPE, mode=0o1777)
add("dir/file", content=b"content" * 100, mode=0o4751, uid=1000, gid=2000)
add("hard", tarfile.LNKTYPE, linkname="dir/file")
add("link", tarfile.SYMTYPE, linkname="../" * 30 + "x")
add("char", tarfile.CHRTYPE, devmajor=259, devminor=70000)
add("block", tarfile.BLKTYPE, devmajor=8, devminor=1)
add("fifo", tarfile.FIFOTYPE, mtime=0)
add("p" * 120 + "/" + "n" * 90, mode=0)
add("umläut/ключ", content="ü".encode())
if format != "ustar":
    add("n" * 200, content=b"long")
    add("dir/" * 90 + "x", tarfile.DIRTYPE)
    add("longlink", tarfile.SYMTYPE, linkname="l" * 1000)
    add("m" * 150, tarfile.LNKTYPE, linkname="n" * 200)
    add("ids", uid=2**32 - 1, gid=3000000)
    add("future", mtime=2**34)
    add("past", mtime=-100000)
if format == "pax":
    add("exact", pax_headers={"mtime": "1600000000.123456789"})
    add("before", pax_headers={"mtime": "-1.25"})
    add("xattr", content=b"x", pax_headers={"SCHILY.xattr.user.a": "1", "SCHILY.xattr.user.b": ""})
    add("n" * 120, pax_headers={"SCHILY.xattr.user.a": "line\nline"})
out.close()
print("\n".join(lines))
)";

TEST_F(Tools, ReadsEveryFormatOfPython) {
  write("make.py", std::string(kDescribe) + kMake);
  for (const std::string format : {"ustar", "gnu", "pax"}) {
    SCOPED_TRACE(format);
    const std::string wanted = in_dir("PYTHONUTF8=1 python3 make.py " + format);
    const Listing listing = list(in_dir("cat made.tar"));
    EXPECT_EQ(listing.members.size(), format == "ustar" ? 9u : format == "gnu" ? 16u : 20u);
    EXPECT_EQ(describe(listing), wanted);
  }
}

// --- the writer ------------------------------------------------------------------------------

Entry make(EntryType type, std::string path) {
  Entry entry;
  entry.type = type;
  entry.path = std::move(path);
  entry.mode = 0640;
  entry.uid = 1000;
  entry.gid = 100;
  entry.modified.seconds = 1700000000;
  return entry;
}

// Written with what each type has, and ids and times that need PAX.
std::string written_sample() {
  StringSink sink;
  Writer writer(sink);
  writer.add(make(EntryType::directory, "dir/"));
  Entry file = make(EntryType::file, "dir/file");
  file.mode = 04755;
  file.size = 8;
  file.modified.nanoseconds = 123456789;
  writer.add(file);
  writer.write(bytes_of("content\n"));
  Entry large = make(EntryType::file, std::string(150, 'n'));
  large.uid = 3000000;
  large.size = 1000;
  large.xattrs = {{"user.b", "1"}, {"user.a", "2"}};
  writer.add(large);
  writer.write(bytes_of(std::string(1000, 'l')));
  for (const EntryType type : {EntryType::hard_link, EntryType::symlink}) {
    Entry link = make(type, type == EntryType::symlink ? "symlink" : "hard");
    link.link_target = type == EntryType::symlink ? std::string(120, 't') : "dir/file";
    writer.add(link);
  }
  for (const EntryType type : {EntryType::char_device, EntryType::block_device}) {
    Entry device = make(type, type == EntryType::char_device ? "char" : "block");
    device.device_major = 259;
    device.device_minor = 70000;
    writer.add(device);
  }
  Entry fifo = make(EntryType::fifo, std::string(130, 'p') + "/" + std::string(99, 'f'));
  fifo.modified.seconds = -5;
  writer.add(fifo);
  writer.finish();
  return sink.text();
}

TEST_F(Tools, PythonReadsWhatTheWriterWrites) {
  const std::string archive = written_sample();
  write("ours.tar", archive);
  write("read.py", std::string(kDescribe) + R"(
archive = tarfile.open("ours.tar")
for t in archive:
    print(describe(t, archive.extractfile(t).read() if t.isreg() else b""))
)");
  EXPECT_EQ(in_dir("python3 read.py"), describe(list(archive)));
}

TEST_F(Tools, GnuTarReadsWhatTheWriterWrites) {
  write("ours.tar", written_sample());
  const std::string wanted =
      "drw-r----- 1000/100 0 2023-11-14 22:13:20 dir/\n"
      "-rwsr-xr-x 1000/100 8 2023-11-14 22:13:20.123456789 dir/file\n"
      "-rw-r----- 3000000/100 1000 2023-11-14 22:13:20 " +
      std::string(150, 'n') +
      "\n"
      "hrw-r----- 1000/100 0 2023-11-14 22:13:20 hard link to dir/file\n"
      "lrw-r----- 1000/100 0 2023-11-14 22:13:20 symlink -> " +
      std::string(120, 't') +
      "\n"
      "crw-r----- 1000/100 259,70000 2023-11-14 22:13:20 char\n"
      "brw-r----- 1000/100 259,70000 2023-11-14 22:13:20 block\n"
      "prw-r----- 1000/100 0 1969-12-31 23:59:55 " +
      std::string(130, 'p') + "/" + std::string(99, 'f') + "\n";
  EXPECT_EQ(in_dir("tar --numeric-owner --full-time -tvf ours.tar | tr -s ' '"), wanted);
  EXPECT_EQ(in_dir("tar -xOf ours.tar"), "content\n" + std::string(1000, 'l'));
  EXPECT_EQ(
      in_dir("tar --xattrs --xattrs-include='*' --no-same-owner -xf ours.tar --wildcards 'nnn*'"
             " && getfattr --only-values -n user.a nnn*"),
      "2");
}

}  // namespace
}  // namespace veneer::tar::test
