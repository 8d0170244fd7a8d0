// Reads the tar archives that layers are: every dialect, nothing else, everything bounded.
//
// Sources: POSIX.1-2017 pax (ustar and the extended header), GNU tar manual "Basic Tar Format" and
// "Storing Sparse Files", libarchive tar(5).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "base/limits.h"
#include "stream/stream.h"
#include "tar/entry.h"

namespace veneer::tar {

// A piece of a file's content: `bytes` belong at `offset` of the file.
struct Piece {
  uint64_t offset = 0;
  Bytes bytes;
};

// Pull parser over a Source. Understands v7, ustar, PAX (local and global headers), GNU long names
// and links, base-256 numbers, and sparse files as old GNU (type S), PAX 0.0, 0.1 and 1.0.
//
// Rules that parsers have got wrong (contracts of the layer format):
//  - a PAX size overrides the header's for every type, and for skipping (CVE-2025-62518);
//  - a malformed PAX record, number or checksum is an error, never skipped;
//  - typeflag NUL is a file; a '0' entry whose name ends in a slash is a directory; unknown types
//    are errors ('7' is a file; sockets do not exist in tar);
//  - hard links, links, directories and devices have no data, except where PAX says a size: those
//    bytes are skipped (hard links from `pax -o linkdata`);
//  - names, link targets, extended headers, sparse maps and entry counts have the limits of
//    base/limits.h (resource_exhausted names the limit);
//  - an archive may end without end blocks, at a member boundary (empty archives included); two
//    zero blocks end it, and what follows is drained, not parsed; one zero block before something
//    else is an error;
//  - what readers are known to disagree about is an error: two extended headers of one type for one
//    entry, GNU and PAX names that differ, a file with a directory's name and data, sparse maps in
//    global headers or of two versions;
//  - an empty PAX value gives the header's value back, also over a global header's; an xattr,
//    though, may be empty. LIBARCHIVE.xattr.* are ignored: they repeat SCHILY.xattr.*.
//
// All errors are `corrupt` (or resource_exhausted), and say the entry's name as far as known and
// the offset of its header in the uncompressed stream: entry "usr/bin/x" at offset 5120: ...
class Reader {
 public:
  // Tests lower the limit on the number of entries.
  explicit Reader(Source& from, uint64_t most_entries = limits::kLayerEntries);
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // The next entry, or nullptr at the end. Unread data of the one before is skipped. The entry is
  // valid until the next call. Global header fields are already merged in.
  const Entry* next();

  // The next piece of the current file's content, in ascending offsets; nothing when all stored
  // bytes were given out. Holes are not reported. Valid until the next call of anything here.
  std::optional<Piece> read();

  // After next() has returned nullptr: reads the stream to its end, so that a digest below sees the
  // bytes after the end blocks too.
  void drain();

  // After next() has returned nullptr: whether two zero blocks have ended the archive, and not only
  // the stream.
  bool has_end_marker() const;

  // Bytes of the stream consumed so far.
  uint64_t offset() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace veneer::tar
