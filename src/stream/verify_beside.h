// A VerifyingSource that leaves the digest to a thread of its own.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "stream/stream.h"

namespace veneer {

// As VerifyingSource, but the bytes given out are digested while the caller is at work on them, and
// the next() after waits for that: nothing is copied. A stream too long is refused one call later.
class VerifyingBesideSource : public Source {
 public:
  VerifyingBesideSource(Source& from, Digest expected, std::string what,
                        std::optional<uint64_t> expected_size = {});
  ~VerifyingBesideSource() override;
  Bytes next(Room room) override;

 private:
  class Verifier;
  Source& from_;
  std::unique_ptr<Verifier> verifier_;
};

}  // namespace veneer
