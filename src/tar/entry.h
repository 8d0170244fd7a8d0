// One entry of a layer's tar archive, whatever dialect it was written in.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/at.h"

namespace veneer::tar {

enum class EntryType { file, hard_link, symlink, char_device, block_device, directory, fifo };

struct Timestamp {
  int64_t seconds = 0;
  uint32_t nanoseconds = 0;  // below 1e9; added to seconds, also for times before 1970
  bool operator==(const Timestamp&) const = default;
};

// Where a run of stored bytes belongs in a sparse file. What no segment covers reads as zeros.
struct Segment {
  uint64_t offset = 0;
  uint64_t size = 0;
  bool operator==(const Segment&) const = default;
};

struct Entry {
  EntryType type = EntryType::file;
  // As in the archive (not normalised; no NUL; may be absolute, hold ".." or end in a slash).
  std::string path;
  // Of hard links (a path like the above) and symbolic links (verbatim).
  std::string link_target;
  uint32_t mode = 0;  // 07777 bits only
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
  Timestamp modified;
  // All xattrs that the archive names (SCHILY.xattr.*), in its order, the last of duplicates.
  std::vector<Xattr> xattrs;

  uint64_t size = 0;  // of files: what stat will say. Otherwise 0.
  // Sparse files only: ascending, not overlapping, not adjacent to nothing (no empty ones), inside
  // `size`; their sizes add up to stored_size.
  bool sparse = false;
  std::vector<Segment> segments;

  // Offsets in the (uncompressed) archive.
  uint64_t header_offset = 0;  // of the first block of this entry, extended headers included
  uint64_t data_offset = 0;    // of the first stored byte of its data: a multiple of 512, except
                               // for PAX 1.0 sparse files, whose map lies before (still 512)
  uint64_t stored_size = 0;    // bytes of data there, without padding
};

}  // namespace veneer::tar
