#include "stream/verify.h"

#include "base/error.h"

namespace veneer {

Bytes VerifyingSource::next(Room room) {
  if (verified_) return {};
  const Bytes bytes = from_.next(room);
  count_ += bytes.size();
  if (expected_size_ && (bytes.empty() ? count_ != *expected_size_ : count_ > *expected_size_)) {
    fail(Code::corrupt, "{}: {} {} bytes, not {}", what_, bytes.empty() ? "has" : "has at least",
         count_, *expected_size_);
  }
  sha_.update(bytes);
  if (!bytes.empty()) return bytes;
  const Digest digest = sha_.finish();
  if (digest != expected_) {
    fail(Code::corrupt, "{}: the digest is {}, not {}", what_, digest.str(), expected_.str());
  }
  verified_ = true;
  return {};
}

}  // namespace veneer
