// A strict reader of the EROFS images that Veneer writes, for tests: it shares no code with the
// writer. What it accepts is what docs/FORMAT.md says of an index, which is less than the format
// allows.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/at.h"

namespace veneer::test {

// A part of a file that is data: in the device, or in the image itself.
struct ErofsRun {
  uint64_t begin = 0;  // in the file
  uint64_t end = 0;
  bool in_device = false;
  uint64_t at = 0;
};

struct ErofsNode {
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t nlink = 0;
  int64_t mtime = 0;
  uint32_t mtime_nanoseconds = 0;
  uint64_t size = 0;
  uint32_t device = 0;        // in the kernel's 32-bit form
  std::vector<Xattr> xattrs;  // by name
  std::string target;         // of symbolic links
  std::vector<ErofsRun> runs;
};

struct ErofsListing {
  std::map<std::string, uint64_t> names;  // paths; the root's is ""
  std::map<uint64_t, ErofsNode> nodes;    // by nid
};

// Reads everything that the root leads to. Throws Error, corrupt, that says what is wrong: a field,
// a name out of order, a wrong link count, parts that overlap or lie outside the image or the
// device, bytes that belong to nothing and are not zero.
ErofsListing check_erofs(Bytes image, uint64_t device_size);

// Bytes of a file that are given, in order; the others are zero.
struct DataPart {
  uint64_t file_offset = 0;
  uint64_t device_offset = 0;
  uint64_t size = 0;
};

using ReadDevice = std::function<void(uint64_t offset, std::span<std::byte> buffer)>;

// Throws Error, corrupt, unless the file reads as `parts` say. Long runs are compared at both ends.
void check_erofs_data(const ErofsNode& node, Bytes image, std::span<const DataPart> parts,
                      const ReadDevice& read_device);

}  // namespace veneer::test
