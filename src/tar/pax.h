// The records of PAX extended headers: "length key=value\n", and what they say of one entry.
//
// Source: POSIX.1-2017 pax, "pax Header File Format"; GNU tar manual "PAX Format, Versions 0.0 to
// 1.0" for GNU.sparse.*. Records are texts of the header they came in and live as long as it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tar/entry.h"

namespace veneer::tar {

struct PaxRecord {
  std::string_view key;
  std::string_view value;
};

// Takes the first record off `text`, which is not empty. Throws corrupt unless the length is exact.
PaxRecord take_pax_record(std::string_view& text);

// GNU.sparse.*
struct PaxSparse {
  std::optional<uint64_t> major;
  std::optional<uint64_t> minor;
  std::optional<uint64_t> size;       // of versions 0.0 and 0.1
  std::optional<uint64_t> real_size;  // of version 1.0
  std::optional<uint64_t> blocks;
  std::optional<std::string_view> name;
  std::optional<std::string_view> map;  // of version 0.1
  // The offset and numbytes records of version 0.0: how many pairs, those that are not empty, and
  // an offset that waits for its numbytes.
  uint64_t pairs = 0;
  std::vector<Segment> segments;
  std::optional<uint64_t> open_offset;
};

struct PaxXattr {
  std::string_view name;
  std::string_view value;
  size_t place = 0;
};

// What extended headers say; what they do not say is the header's.
struct PaxFields {
  std::optional<std::string_view> path;
  std::optional<std::string_view> link_target;
  std::optional<uint64_t> size;
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  std::optional<Timestamp> modified;
  std::vector<PaxXattr> xattrs;  // with duplicates, until drop_duplicate_xattrs()
  bool is_sparse = false;
  PaxSparse sparse;

  void clear();
  // A later record of a key replaces an earlier one; an empty value means the header's again, but
  // for xattrs, which may be empty. False for keys that say nothing about an entry here. Throws
  // corrupt for bad values, resource_exhausted for an xattr beyond the limits.
  bool apply(const PaxRecord& record);
  // Keeps the last of each name, in order.
  void drop_duplicate_xattrs();

 private:
  bool apply_sparse(std::string_view key, std::string_view value);
  void add_xattr(std::string_view name, std::string_view value);
};

// The records of global headers, which hold for all entries after them until they are replaced.
class PaxGlobals {
 public:
  // Takes the records of one more header. Throws corrupt for bad ones (GNU.sparse.* among them),
  // resource_exhausted when all that hold exceed limits::kGlobalHeaderBytes.
  void merge(std::string_view text);
  bool empty() const { return values_.empty(); }
  void apply_to(PaxFields& fields) const;

 private:
  std::map<std::string, std::string, std::less<>> values_;
  size_t size_bytes_ = 0;
};

}  // namespace veneer::tar
