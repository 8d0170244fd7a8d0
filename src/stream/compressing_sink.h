// Compressed output: gzip (ISA-L) and zstd, for what Veneer writes itself.
#pragma once

#include <memory>

#include "stream/compress.h"
#include "stream/stream.h"

namespace veneer {

// Compresses what is written to it into `to` (borrowed): one gzip member without a name and a time,
// or one zstd frame with a checksum. The same bytes give the same output, in whatever pieces they
// come, with the same libraries on the same kind of processor. At most a few megabytes of memory.
class CompressingSink : public Sink {
 public:
  // `none` passes the bytes on; invalid_argument for xz and bzip2, which are for reading only.
  CompressingSink(Compression compression, Sink& to);
  ~CompressingSink() override;
  void write(Bytes bytes) override;
  // Writes the end. To be called once, and nothing after it: without it the output is cut off.
  void finish();

  class Encoder;  // one per format, in compressing_sink.cc

 private:
  void encode(bool is_last);

  Sink& to_;
  std::unique_ptr<Encoder> encoder_;
  std::vector<std::byte> pending_;
};

}  // namespace veneer
