#include "stream/verified_prefetch.h"

#include <utility>

#include "stream/verify.h"

namespace veneer {

namespace {

// The fewer, the more often two threads wake each other.
constexpr size_t kChunksAtOnce = 4;

}  // namespace

VerifiedPrefetchSource::VerifiedPrefetchSource(Source& from, Digest expected, std::string what,
                                               std::optional<uint64_t> expected_size, size_t chunks)
    : prefetch_(from, {{}, {.chunks_at_once = kChunksAtOnce}}, chunks),
      verifier_(prefetch_, 1, [expected, what = std::move(what), expected_size](Source& source) {
        VerifyingSource verified(source, expected, what, expected_size);
        drain(verified);
      }) {}

Bytes VerifiedPrefetchSource::next(Room) {
  const Bytes bytes = prefetch_.next(0);
  if (bytes.empty()) verifier_.finish();
  return bytes;
}

}  // namespace veneer
