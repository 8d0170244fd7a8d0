// Small files, made and written on threads of its own while others are being read.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <string_view>

#include "base/fd.h"
#include "base/path.h"
#include "stream/stream.h"

namespace veneer {

struct FileAttributes {
  uint32_t uid = 0;  // on disk
  uint32_t gid = 0;
  mode_t mode = 0;
  timespec modified{};
};

void set_file_attributes(int fd, const FileAttributes& attributes);

// Makes files of names that are free, and gives them their bodies and attributes. The caller waits
// with finish() before it looks at such a name, or does something to it.
//
// Files travel in batches, of which there are few: the memory is fixed, and so is the number of
// descriptors. Errors name the file's entry and its offset, and are thrown by a later call.
class FileWriter {
 public:
  static constexpr size_t kLargestBody = kChunkBytes / 4;

  struct File {
    std::shared_ptr<const UniqueFd> dir;
    PathView name;  // in it
    FileAttributes attributes;
    std::string_view entry_path;
    uint64_t header_offset = 0;
  };

  FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  // Waits for the batch at hand; what was not begun is dropped.
  ~FileWriter();

  // Returns the room for the body of `size` bytes, at most kLargestBody, which the caller fills
  // before the next call.
  Room add(File file, size_t size);
  // Waits until all files are there, and written. More may be added then.
  void finish();

 private:
  class Batches;
  std::unique_ptr<Batches> batches_;
};

}  // namespace veneer
