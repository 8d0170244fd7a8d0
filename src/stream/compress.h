// Compressed streams: gzip (ISA-L), zstd, xz, bzip2 and plain, told apart by their first bytes.
//
// Formats: RFC 1952 (gzip), RFC 8878 (zstd), the .xz file format 1.1, bzip2's own. Names, labels
// and media types are not looked at: they lie.
#pragma once

#include <memory>
#include <string_view>

#include "stream/stream.h"

namespace veneer {

enum class Compression { none, gzip, zstd, xz, bzip2 };

std::string_view to_string(Compression compression);

// Looks at the first bytes of a stream (6 are enough; fewer are fine). Anything that is not one of
// the four is `none`.
Compression sniff_compression(Bytes start);

// The decompressed stream of `from`, which is borrowed. Sniffs with the first call of next().
//  - gzip: several members in a row are one stream; header CRCs, data CRCs and sizes are checked.
//  - zstd: several frames, skippable frames; checksums where there are. Windows up to 128 MiB
//    (what `zstd --long=27` makes, and the most that zstd takes without asking).
//  - xz: several streams and stream padding; 128 MiB of memory at most, which is a dictionary of
//    96 MiB (`xz -9` makes 64).
//  - bzip2: several streams.
// Errors: corrupt for damaged data, an end in the middle, or bytes after the end that are no
// further member, be they zeros (with the offset in the compressed stream); resource_exhausted for
// the memory limits.
class DecompressingSource : public Source {
 public:
  explicit DecompressingSource(Source& from);
  ~DecompressingSource() override;
  Bytes next(Room room) override;
  // Known after the first call of next().
  Compression compression() const;

  class Decoder;  // one per format, in compress.cc

 private:
  class Input;
  // Fills `room`, or less at the end.
  size_t decode(Room room);

  std::unique_ptr<Input> input_;
  std::unique_ptr<Decoder> decoder_;
  Compression compression_ = Compression::none;
  bool sniffed_ = false;
};

}  // namespace veneer
