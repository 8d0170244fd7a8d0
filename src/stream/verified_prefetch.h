// A PrefetchSource that vouches for what passed through it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "stream/prefetch.h"

namespace veneer {

// As a VerifyingSource over a PrefetchSource, with the digest on a thread of its own, which may lag
// behind: the end waits for it.
class VerifiedPrefetchSource : public Source {
 public:
  VerifiedPrefetchSource(Source& from, Digest expected, std::string what,
                         std::optional<uint64_t> expected_size = {},
                         size_t chunks = Prefetch::kChunks);
  Bytes next(Room room) override;

 private:
  Prefetch prefetch_;
  PrefetchThread verifier_;
};

}  // namespace veneer
