#include "tar/writer.h"

#include <gtest/gtest.h>

#include <limits>

#include "tar/test_archive.h"

namespace veneer::tar::test {
namespace {

Entry make(EntryType type, std::string path) {
  Entry entry;
  entry.type = type;
  entry.path = std::move(path);
  entry.mode = 0644;
  entry.modified.seconds = 1700000000;
  return entry;
}

std::string written(const Entry& entry, std::string_view data = {}) {
  StringSink sink;
  Writer writer(sink);
  writer.add(entry);
  writer.write(bytes_of(data));
  writer.finish();
  return sink.text();
}

// By the reader.
Member round(const Entry& entry, std::string_view data = {}) {
  return only(written(entry, data));
}

Code code_of(const std::function<void()>& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return Code::io;
}

TEST(Writer, WritesTheseBytes) {
  Entry file = make(EntryType::file, "dir/file");
  file.mode = 04755;
  file.uid = 1000;
  file.gid = 100;
  file.size = 6;
  file.modified.nanoseconds = 5;
  file.xattrs = {{"user.b", "2"}, {"security.x", "1"}};
  StringSink sink;
  Writer writer(sink);
  writer.add(make(EntryType::directory, "dir"));
  writer.add(file);
  writer.write(bytes_of("hel"));
  writer.write(bytes_of("lo\n"));
  Entry link = make(EntryType::symlink, "link");
  link.link_target = "dir/file";
  writer.add(link);
  writer.finish();

  const auto header = [](Raw raw) {
    raw.modified = raw.modified == octal(0, 11) ? octal(1700000000, 11) : raw.modified;
    return block(raw);
  };
  const std::string records =
      "29 SCHILY.xattr.security.x=1\n25 SCHILY.xattr.user.b=2\n"
      "30 mtime=1700000000.000000005\n";
  const std::string wanted =
      header({.name = "dir/", .type = '5'}) +
      block({.name = "././@PaxHeader", .type = 'x', .size = octal(84, 11), .mode = octal(0, 7)}) +
      padded(records) +
      header({.name = "dir/file",
              .size = octal(6, 11),
              .mode = octal(04755, 7),
              .uid = octal(1000, 7),
              .gid = octal(100, 7)}) +
      padded("hello\n") + header({.name = "link", .type = '2', .link_target = "dir/file"}) + kEnd;
  ASSERT_EQ(records.size(), 84u);
  EXPECT_TRUE(sink.text() == wanted);
  EXPECT_EQ(Sha256::of(sink.text()).hex(),
            "f9817839b07d6f7c9df4fef577e05b2a6fd8d1b32cd429a622ec19a1e2d06a3f");
}

TEST(Writer, RoundTripsEveryType) {
  for (const EntryType type :
       {EntryType::hard_link, EntryType::symlink, EntryType::char_device, EntryType::block_device,
        EntryType::directory, EntryType::fifo, EntryType::file}) {
    Entry entry = make(type, type == EntryType::directory ? "d/x/" : "d/x");
    entry.mode = 07777;
    entry.uid = 12;
    entry.gid = 34;
    if (type == EntryType::hard_link || type == EntryType::symlink) entry.link_target = "../t";
    if (type == EntryType::char_device || type == EntryType::block_device) {
      entry.device_major = 4095;
      entry.device_minor = 1048575;
    }
    Member back = round(entry);
    back.entry.data_offset = 0;
    EXPECT_TRUE(is_equal(back.entry, entry)) << static_cast<int>(type);
  }
}

TEST(Writer, NeedsPaxOnlyWhereUstarEnds) {
  const auto blocks = [](const Entry& entry) { return written(entry).size() / 512 - 2; };
  const auto both = [&blocks](const Entry& fits, const Entry& does_not) {
    EXPECT_EQ(blocks(fits), 1u);
    EXPECT_EQ(blocks(does_not), 3u);
    for (const Entry* entry : {&fits, &does_not}) {
      const Member back = round(*entry);
      EXPECT_EQ(back.entry.path, entry->path);
      EXPECT_EQ(back.entry.link_target, entry->link_target);
      EXPECT_EQ(back.entry.uid, entry->uid);
      EXPECT_EQ(back.entry.gid, entry->gid);
      EXPECT_EQ(back.entry.modified, entry->modified);
    }
  };
  const auto named = [](const std::string& path) { return make(EntryType::fifo, path); };
  const std::string name(100, 'n');
  const std::string prefix(155, 'p');
  both(named(name), named(name + "n"));
  both(named(prefix + "/" + name), named(prefix + "p/" + name));
  both(named(prefix + "/" + name), named(prefix + "/" + name + "n"));
  both(named("p/" + name), named(prefix + "p/" + name.substr(1)));
  both(named("/p/" + name), named("p" + name));
  both(named("a//" + name.substr(1)), named("/" + name));
  both(make(EntryType::directory, name.substr(1) + "/"), make(EntryType::directory, name + "/"));
  both(make(EntryType::directory, "p/" + name.substr(1) + "/"),
       make(EntryType::directory, "p/" + name + "/"));

  const auto with = [](const std::function<void(Entry&)>& change) {
    Entry entry = make(EntryType::symlink, "x");
    entry.link_target = "t";
    change(entry);
    return entry;
  };
  const auto target = [&with](size_t size) {
    return with([size](Entry& entry) { entry.link_target.assign(size, 't'); });
  };
  both(target(100), target(101));
  const auto uid = [&with](uint32_t value) { return with([=](Entry& e) { e.uid = value; }); };
  both(uid(2097151), uid(2097152));
  const auto gid = [&with](uint32_t value) { return with([=](Entry& e) { e.gid = value; }); };
  both(gid(2097151), gid(0xffffffff));
  const auto time = [&with](int64_t seconds, uint32_t nanoseconds) {
    return with([=](Entry& e) { e.modified = {seconds, nanoseconds}; });
  };
  both(time(0, 0), time(-1, 0));
  both(time(8589934591, 0), time(8589934592, 0));
  both(time(0, 0), time(0, 1));
  both(time(0, 0), time(std::numeric_limits<int64_t>::min(), 999'999'999));
}

TEST(Writer, WritesSizesOfEightGibibytesAsPax) {
  for (const uint64_t size : {uint64_t{8589934591}, uint64_t{8589934592}}) {
    StringSink sink;
    Writer writer(sink);
    Entry entry = make(EntryType::file, "big");
    entry.size = size;
    writer.add(entry);
    MemorySource source(bytes_of(sink.text()));
    Reader reader(source);
    EXPECT_EQ(reader.next()->size, size);
    EXPECT_EQ(sink.text().size(), size == 8589934591 ? 512u : 1536u);
  }
}

TEST(Writer, RecordsCountTheirOwnLength) {
  for (size_t size = 1; size < 1100; ++size) {
    Entry entry = make(EntryType::fifo, "x");
    entry.xattrs = {{"user.x", std::string(size, 'v')}};
    const Member back = round(entry);
    ASSERT_EQ(back.entry.xattrs, entry.xattrs) << size;
  }
}

TEST(Writer, SortsXattrsAndKeepsTheirBytes) {
  Entry entry = make(EntryType::file, "x");
  entry.xattrs = {{"user.z", ""}, {"security.capability", std::string("\0\1\n=", 4)}};
  EXPECT_EQ(round(entry).entry.xattrs, (std::vector<Xattr>{entry.xattrs[1], entry.xattrs[0]}));
}

TEST(Writer, IsDeterministic) {
  Entry entry = make(EntryType::file, std::string(200, 'n'));
  entry.xattrs = {{"user.b", "1"}, {"user.a", "2"}};
  entry.size = 3;
  const std::string one = written(entry, "abc");
  std::swap(entry.xattrs[0], entry.xattrs[1]);
  entry.header_offset = 99;
  entry.stored_size = 7;
  entry.sparse = true;
  entry.segments = {{1, 2}};
  EXPECT_EQ(written(entry, "abc"), one);
}

TEST(Writer, WantsExactlyTheSize) {
  Entry entry = make(EntryType::file, "x");
  entry.size = 3;
  StringSink sink;
  Writer writer(sink);
  writer.add(entry);
  EXPECT_EQ(code_of([&] { writer.finish(); }), Code::failed_precondition);
  EXPECT_EQ(code_of([&] { writer.add(entry); }), Code::failed_precondition);
  writer.write(bytes_of("ab"));
  EXPECT_EQ(code_of([&] { writer.write(bytes_of("cd")); }), Code::failed_precondition);
  writer.write(bytes_of("c"));
  writer.write({});
  EXPECT_EQ(code_of([&] { writer.write(bytes_of("d")); }), Code::failed_precondition);
  writer.finish();
  EXPECT_EQ(only(sink.text()).stored, "abc");
}

TEST(Writer, RefusesWhatNoArchiveCanSay) {
  const auto refused = [](EntryType type, const std::function<void(Entry&)>& change) {
    Entry entry = make(type, "x");
    if (type == EntryType::symlink) entry.link_target = "t";
    change(entry);
    EXPECT_EQ(code_of([&] { (void)written(entry); }), Code::invalid_argument);
  };
  refused(EntryType::file, [](Entry& entry) { entry.path.clear(); });
  refused(EntryType::file, [](Entry& entry) { entry.path += '\0'; });
  refused(EntryType::file, [](Entry& entry) { entry.path += '/'; });
  refused(EntryType::symlink, [](Entry& entry) { entry.link_target.clear(); });
  refused(EntryType::symlink, [](Entry& entry) { entry.link_target += '\0'; });
  refused(EntryType::file, [](Entry& entry) { entry.xattrs = {{"user.a=b", "1"}}; });
  refused(EntryType::file, [](Entry& entry) { entry.xattrs = {{"", "1"}}; });
  refused(EntryType::char_device, [](Entry& entry) { entry.device_major = 2097152; });
}

}  // namespace
}  // namespace veneer::tar::test
