#include "layer/file_writer.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/at.h"
#include "base/error.h"

namespace veneer {
namespace {

class FileWriterTest : public testing::Test {
 protected:
  FileWriterTest() {
    std::string name = "/var/tmp/veneer-file-writer-XXXXXX";
    path_ = ::mkdtemp(name.data());
    dir_ = std::make_shared<const UniqueFd>(open_root(path_));
  }
  ~FileWriterTest() override {
    remove_children(dir());
    (void)::rmdir(path_.c_str());
  }

  static RelPath name_of(size_t file) { return RelPath::parse(std::to_string(file)); }
  // Around all the limits of a batch.
  static std::string body_of(size_t file) {
    const size_t size = file % 50 == 0 ? FileWriter::kLargestBody : (file * 7919) % 5000;
    return std::string(size, static_cast<char>('a' + file % 26));
  }

  FileWriter::File describe(const RelPath& name, size_t file) const {
    return {.dir = dir_,
            .name = name,
            .attributes = {.uid = ::geteuid(),
                           .gid = ::getegid(),
                           .mode = 0640,
                           .modified = {.tv_sec = static_cast<time_t>(file), .tv_nsec = 5}},
            .entry_path = "dir/file",
            .header_offset = file * 512};
  }
  void add(FileWriter& writer, size_t file) {
    const std::string body = body_of(file);
    const RelPath name = name_of(file);
    std::ranges::copy(std::as_bytes(std::span(body)),
                      writer.add(describe(name, file), body.size()).begin());
  }

  // The writer makes files only, and replaces none.
  void add_taken(size_t file) const { write_file_at(dir(), name_of(file), "taken", 0600); }

  int dir() const { return dir_->get(); }

 private:
  std::string path_;
  std::shared_ptr<const UniqueFd> dir_;
};

TEST_F(FileWriterTest, EveryFileGetsItsBodyAndItsAttributes) {
  constexpr size_t kFiles = 500;
  FileWriter writer;
  for (size_t file = 0; file < kFiles; ++file) add(writer, file);
  writer.finish();
  for (size_t file = 0; file < kFiles; ++file) {
    EXPECT_EQ(read_file_at(dir(), name_of(file), kChunkBytes), body_of(file)) << file;
    const struct stat st = stat_at(dir(), name_of(file));
    EXPECT_EQ(st.st_mode, S_IFREG | 0640u) << file;
    EXPECT_EQ(st.st_mtim.tv_sec, static_cast<time_t>(file));
    EXPECT_EQ(st.st_mtim.tv_nsec, 5) << file;
  }
}

TEST_F(FileWriterTest, AfterFinishTheNameIsTheCallers) {
  FileWriter writer;
  writer.finish();
  add(writer, 1);
  writer.finish();
  link_at(dir(), "1", dir(), "linked");
  unlink_at(dir(), "1");
  writer.finish();
  add(writer, 2);
  writer.finish();
  EXPECT_EQ(list_dir(dir()), (std::vector<std::string>{"2", "linked"}));
  EXPECT_EQ(read_file_at(dir(), "linked", kChunkBytes), body_of(1));
}

TEST_F(FileWriterTest, AnErrorNamesTheEntryAndEndsTheWork) {
  add_taken(2);
  FileWriter writer;
  add(writer, 1);
  add(writer, 2);
  try {
    for (size_t file = 3; file < 1000; ++file) add(writer, file);
    FAIL() << "no call threw";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("entry \"dir/file\" at offset 1024"),
              std::string::npos)
        << error.what();
  }
}

TEST_F(FileWriterTest, FinishThrowsWhatNoCallBeforeCould) {
  add_taken(1);
  FileWriter writer;
  add(writer, 1);
  EXPECT_THROW(writer.finish(), SysError);
  EXPECT_THROW(writer.finish(), SysError);
}

TEST_F(FileWriterTest, WithoutFinishNothingIsWaitedFor) {
  FileWriter writer;
  for (size_t file = 0; file < 100; ++file) add(writer, file);
}

}  // namespace
}  // namespace veneer
