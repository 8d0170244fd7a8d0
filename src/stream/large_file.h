// A new file that is written without filling the page cache with it.
#pragma once

#include <cstdint>

#include "stream/stream.h"

namespace veneer {

inline constexpr uint64_t kLargeFileCachedBytes = 64 << 20;

// Writes all of `from` to `file`, a new and empty one that is open for writing (borrowed); not
// synced. Its first cached_bytes (a multiple of 4096) stay in the page cache, for who reads the
// file next, and the kernel is told to write them out as they come. What follows goes to the disk
// past the cache (O_DIRECT, open(2)) where the file system can do that: it costs half as much, and
// a large file does not push out of memory what is in use there. From memory at a multiple of 4096
// that is done without a copy. Afterwards the descriptor reads and writes as before; no other one
// may write meanwhile. Throws SysError, and what `from` does.
void write_large_file(Source& from, int file, uint64_t cached_bytes = kLargeFileCachedBytes);

}  // namespace veneer
