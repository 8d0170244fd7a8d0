// A Source that vouches for what passed through it.
#pragma once

#include <optional>
#include <string>

#include "stream/stream.h"

namespace veneer {

// Passes the bytes of `from` (borrowed) on and digests them. At the end of the stream it compares
// digest and, where one is expected, size, and throws corrupt, naming `what`, instead of returning
// the end: a consumer that reads to the end before it commits cannot commit anything else. A stream
// longer than expected is refused as soon as it is.
class VerifyingSource : public Source {
 public:
  VerifyingSource(Source& from, Digest expected, std::string what,
                  std::optional<uint64_t> expected_size = {})
      : from_(from), expected_(expected), expected_size_(expected_size), what_(std::move(what)) {}
  Bytes next(Room room) override;

 private:
  Source& from_;
  Digest expected_;
  std::optional<uint64_t> expected_size_;
  std::string what_;
  Sha256 sha_;
  uint64_t count_ = 0;
  bool verified_ = false;
};

}  // namespace veneer
