// Writes tar archives deterministically: the same entries give the same bytes.
//
// ustar where it can say everything, a PAX header before it where it cannot (long or non-splitting
// names, ids above 2097151, sizes above 8 GiB, times with nanoseconds or before 1970, xattrs).
// Records inside a PAX header are sorted by key. uname and gname are empty.
#pragma once

#include <string>

#include "stream/stream.h"
#include "tar/entry.h"

namespace veneer::tar {

class Writer {
 public:
  explicit Writer(Sink& to) : to_(to) {}

  // Writes the headers of `entry`. Paths are written as they are (a directory gets its trailing
  // slash if it lacks it). Offsets and segments are ignored: files are written dense. Of `modified`
  // the nanoseconds are written too if not zero. Throws invalid_argument for what no archive can
  // say: empty names, NULs, a file's name that ends in a slash, an "=" in an xattr's name, device
  // numbers above 2097151.
  void add(const Entry& entry);
  // The content of the file added last, in as many pieces as one likes.
  void write(Bytes bytes);
  // The end blocks. The last file must have got exactly its `size` bytes by now (and before each
  // further add()); anything else throws failed_precondition.
  void finish();

 private:
  void write_pax_header();
  void write_padding(size_t size);

  Sink& to_;
  std::string path_;
  std::string pax_;  // the records of the current entry
  std::vector<const Xattr*> xattrs_;
  uint64_t left_ = 0;     // of the current file's data
  uint64_t padding_ = 0;  // after it
};

}  // namespace veneer::tar
