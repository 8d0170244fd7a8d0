#include "stream/compress.h"

#include <bzlib.h>
#include <isa-l/igzip_lib.h>
#include <lzma.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/limits.h"

namespace veneer {

namespace {

constexpr size_t kMagicBytes = 6;
constexpr std::string_view kGzipMagic = "\x1f\x8b\x08";  // with the method, deflate
constexpr std::string_view kZstdMagic = "\x28\xb5\x2f\xfd";
constexpr std::string_view kXzMagic(
    "\xfd"
    "7zXZ\0",
    kMagicBytes);
// The counters of ISA-L and bzip2 have 32 bits.
constexpr size_t kStepBytes = 1 << 30;

bool is_skippable_zstd_frame(std::string_view start) {
  return start.size() >= 4 && start[0] >= 0x50 && start[0] <= 0x5f &&
         start.substr(1, 3) == "\x2a\x4d\x18";
}

bool is_bzip2(std::string_view start) {
  if (start.size() < kMagicBytes || !start.starts_with("BZh")) return false;
  if (start[3] < '1' || start[3] > '9') return false;
  const std::string_view block = start.substr(4, 2);  // of a block (pi), or of the end (sqrt pi)
  return block == "\x31\x41" || block == "\x17\x72";
}

// The libraries take input through pointers that they do not write through, but are not const.
template <typename Byte>
Byte* input_pointer(Bytes bytes) {
  return const_cast<Byte*>(reinterpret_cast<const Byte*>(bytes.data()));
}

}  // namespace

std::string_view to_string(Compression compression) {
  switch (compression) {
    case Compression::none:
      return "plain";
    case Compression::gzip:
      return "gzip";
    case Compression::zstd:
      return "zstd";
    case Compression::xz:
      return "xz";
    case Compression::bzip2:
      return "bzip2";
  }
  return "unknown";
}

Compression sniff_compression(Bytes start) {
  const std::string_view text(reinterpret_cast<const char*>(start.data()), start.size());
  if (text.starts_with(kGzipMagic)) return Compression::gzip;
  if (text.starts_with(kZstdMagic)) return Compression::zstd;
  if (is_skippable_zstd_frame(text)) return Compression::zstd;
  if (text.starts_with(kXzMagic)) return Compression::xz;
  if (is_bzip2(text)) return Compression::bzip2;
  return Compression::none;
}

// What one call of a decoder did. A decoder whose input is not a whole number of members, or that
// still has output, is not `complete`.
struct Step {
  size_t used = 0;
  size_t made = 0;
  bool complete = false;
  const char* wrong = nullptr;  // what is wrong with the input, if anything
  Code code = Code::corrupt;    // of that
};

class DecompressingSource::Decoder {
 public:
  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  virtual ~Decoder() = default;
  // Decodes some of `in` into `out`, which is never empty. An empty `in` says that the input has
  // ended. Only then may a step do nothing, when there is no more to be made.
  virtual Step step(Bytes in, Room out) = 0;
};

namespace {

class GzipDecoder : public DecompressingSource::Decoder {
 public:
  GzipDecoder() {
    isal_inflate_init(&state_);
    state_.crc_flag = ISAL_GZIP_NO_HDR_VER;  // CRC and ISIZE are compared
  }

  Step step(Bytes in, Room out) override {
    if (state_.block_state == ISAL_BLOCK_FINISH) {
      if (in.empty()) return {.complete = true};
      isal_inflate_reset(&state_);
      in_header_ = true;
    }
    state_.next_in = input_pointer<uint8_t>(in);
    state_.avail_in = static_cast<uint32_t>(in.size());
    state_.next_out = reinterpret_cast<uint8_t*>(out.data());
    state_.avail_out = static_cast<uint32_t>(out.size());
    const int result = in_header_ ? read_header() : isal_inflate(&state_);
    // By the pointer, because ISA-L 2.30 leaves avail_in at less than nothing after some errors.
    return {.used = static_cast<size_t>(state_.next_in - input_pointer<uint8_t>(in)),
            .made = out.size() - state_.avail_out,
            .complete = state_.block_state == ISAL_BLOCK_FINISH,
            .wrong = result < 0 ? reason(result) : nullptr};
  }

 private:
  // isal_inflate() could do this, but 2.30 loses the CRC of a header that comes in two pieces.
  int read_header() {
    const int result = isal_read_gzip_header(&state_, &header_);
    in_header_ = result != ISAL_DECOMP_OK;
    return result;
  }

  static const char* reason(int result) {
    switch (result) {
      case ISAL_INVALID_WRAPPER:
        return "no gzip header";
      case ISAL_UNSUPPORTED_METHOD:
        return "not deflate";
      case ISAL_INCORRECT_CHECKSUM:
        return "checksum or size is wrong";
      case ISAL_INVALID_LOOKBACK:
        return "a match begins before the data";
      default:
        return "invalid deflate data";
    }
  }

  inflate_state state_{};
  isal_gzip_header header_{};
  bool in_header_ = true;
};

class ZstdDecoder : public DecompressingSource::Decoder {
 public:
  ZstdDecoder() : context_(ZSTD_createDCtx()) {
    if (!context_) fail(Code::resource_exhausted, "no memory for a zstd decoder");
    const size_t result =
        ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, limits::kZstdWindowLog);
    VENEER_CHECK(!ZSTD_isError(result));
  }

  Step step(Bytes in, Room out) override {
    ZSTD_inBuffer from{.src = in.data(), .size = in.size(), .pos = 0};
    ZSTD_outBuffer to{.dst = out.data(), .size = out.size(), .pos = 0};
    const size_t result = ZSTD_decompressStream(context_.get(), &to, &from);
    // After a frame, a call without input asks for the next one, and there need be none.
    if (from.pos > 0 || to.pos > 0) complete_ = result == 0;
    Step step{.used = from.pos, .made = to.pos, .complete = complete_};
    if (ZSTD_isError(result)) {
      step.wrong = ZSTD_getErrorName(result);
      step.code = code(ZSTD_getErrorCode(result));
    }
    return step;
  }

 private:
  static Code code(ZSTD_ErrorCode error) {
    switch (error) {
      case ZSTD_error_frameParameter_windowTooLarge:
      case ZSTD_error_memory_allocation:
        return Code::resource_exhausted;
      default:
        return Code::corrupt;
    }
  }

  std::unique_ptr<ZSTD_DCtx, decltype([](ZSTD_DCtx* c) { ZSTD_freeDCtx(c); })> context_;
  bool complete_ = false;
};

class XzDecoder : public DecompressingSource::Decoder {
 public:
  XzDecoder() {
    const uint32_t flags = LZMA_CONCATENATED | LZMA_TELL_UNSUPPORTED_CHECK;
    if (lzma_stream_decoder(&stream_, limits::kXzMemoryBytes, flags) != LZMA_OK)
      fail(Code::resource_exhausted, "no memory for an xz decoder");
  }
  ~XzDecoder() override { lzma_end(&stream_); }

  Step step(Bytes in, Room out) override {
    stream_.next_in = input_pointer<uint8_t>(in);
    stream_.avail_in = in.size();
    stream_.next_out = reinterpret_cast<uint8_t*>(out.data());
    stream_.avail_out = out.size();
    const lzma_ret result = lzma_code(&stream_, in.empty() ? LZMA_FINISH : LZMA_RUN);
    return {.used = in.size() - stream_.avail_in,
            .made = out.size() - stream_.avail_out,
            .complete = result == LZMA_STREAM_END,
            .wrong = reason(result),
            .code = code(result)};
  }

 private:
  static const char* reason(lzma_ret result) {
    switch (result) {
      case LZMA_OK:
      case LZMA_STREAM_END:
      case LZMA_BUF_ERROR:
        return nullptr;  // the last: nothing done, which the caller sees
      case LZMA_FORMAT_ERROR:
        return "no xz header";
      case LZMA_MEMLIMIT_ERROR:
        return "the dictionary is too large";
      case LZMA_MEM_ERROR:
        return "out of memory";
      case LZMA_OPTIONS_ERROR:
        return "unknown filters or options";
      case LZMA_UNSUPPORTED_CHECK:
        return "an unknown kind of check";
      default:
        return "invalid xz data";
    }
  }

  static Code code(lzma_ret result) {
    return result == LZMA_MEMLIMIT_ERROR || result == LZMA_MEM_ERROR ? Code::resource_exhausted
                                                                     : Code::corrupt;
  }

  lzma_stream stream_ = LZMA_STREAM_INIT;
};

class Bzip2Decoder : public DecompressingSource::Decoder {
 public:
  Bzip2Decoder() { start(); }
  ~Bzip2Decoder() override { BZ2_bzDecompressEnd(&stream_); }

  Step step(Bytes in, Room out) override {
    if (complete_) {
      if (in.empty()) return {.complete = true};
      BZ2_bzDecompressEnd(&stream_);
      start();
    }
    stream_.next_in = input_pointer<char>(in);
    stream_.avail_in = static_cast<unsigned>(in.size());
    stream_.next_out = reinterpret_cast<char*>(out.data());
    stream_.avail_out = static_cast<unsigned>(out.size());
    const int result = BZ2_bzDecompress(&stream_);
    complete_ = result == BZ_STREAM_END;
    return {.used = in.size() - stream_.avail_in,
            .made = out.size() - stream_.avail_out,
            .complete = complete_,
            .wrong = reason(result),
            .code = result == BZ_MEM_ERROR ? Code::resource_exhausted : Code::corrupt};
  }

 private:
  void start() {
    stream_ = {};
    complete_ = false;
    if (BZ2_bzDecompressInit(&stream_, 0, 0) != BZ_OK)
      fail(Code::resource_exhausted, "no memory for a bzip2 decoder");
  }

  static const char* reason(int result) {
    switch (result) {
      case BZ_OK:
      case BZ_STREAM_END:
        return nullptr;
      case BZ_DATA_ERROR_MAGIC:
        return "no bzip2 header";
      case BZ_MEM_ERROR:
        return "out of memory";
      default:
        return "invalid bzip2 data";
    }
  }

  bz_stream stream_{};
  bool complete_ = false;
};

std::unique_ptr<DecompressingSource::Decoder> make_decoder(Compression compression) {
  switch (compression) {
    case Compression::none:
      break;
    case Compression::gzip:
      return std::make_unique<GzipDecoder>();
    case Compression::zstd:
      return std::make_unique<ZstdDecoder>();
    case Compression::xz:
      return std::make_unique<XzDecoder>();
    case Compression::bzip2:
      return std::make_unique<Bzip2Decoder>();
  }
  return nullptr;
}

}  // namespace

// The compressed stream: its start, which sniffing has taken off, and then what comes from below.
class DecompressingSource::Input {
 public:
  explicit Input(Source& from) : from_(from), room_(kChunkBytes) {}

  // The first bytes, which next() will give out again. To be called once, before all else.
  Bytes start() {
    rest_ = from_.next(room_);
    // As a rule it is a piece of which nothing has to be taken off.
    if (rest_.size() >= start_.size()) return rest_.first(start_.size());
    size_t size = 0;
    while (size < start_.size()) {
      if (rest_.empty()) rest_ = from_.next(room_);
      if (rest_.empty()) break;
      const size_t part = std::min(start_.size() - size, rest_.size());
      std::memcpy(start_.data() + size, rest_.data(), part);
      rest_ = rest_.subspan(part);
      size += part;
    }
    unread_start_ = Bytes(start_).first(size);
    return unread_start_;
  }

  // The next piece, as Source::next().
  Bytes next(Room room) {
    if (!unread_start_.empty()) return std::exchange(unread_start_, {});
    if (!rest_.empty()) return std::exchange(rest_, {});
    return from_.next(room);
  }

  // The bytes from offset() on, as far as they are at hand. None only at the end.
  Bytes peek() {
    if (chunk_.empty()) chunk_ = next(room_);
    return chunk_.first(std::min(chunk_.size(), kStepBytes));
  }
  void consume(size_t size) {
    chunk_ = chunk_.subspan(size);
    offset_ += size;
  }
  uint64_t offset() const { return offset_; }

 private:
  Source& from_;
  std::vector<std::byte> room_;
  std::array<std::byte, kMagicBytes> start_{};
  Bytes unread_start_;
  Bytes rest_;
  Bytes chunk_;
  uint64_t offset_ = 0;
};

DecompressingSource::DecompressingSource(Source& from) : input_(std::make_unique<Input>(from)) {}

DecompressingSource::~DecompressingSource() = default;

Compression DecompressingSource::compression() const {
  return compression_;
}

Bytes DecompressingSource::next(Room room) {
  if (!std::exchange(sniffed_, true)) {
    compression_ = sniff_compression(input_->start());
    decoder_ = make_decoder(compression_);
  }
  if (!decoder_) return input_->next(room);
  return room.first(decode(room.first(std::min(room.size(), kStepBytes))));
}

size_t DecompressingSource::decode(Room room) {
  size_t made = 0;
  while (made < room.size()) {
    const Bytes in = input_->peek();
    const Step step = decoder_->step(in, room.subspan(made));
    input_->consume(step.used);
    made += step.made;
    if (step.wrong) {
      fail(step.code, "{} stream, at byte {}: {}", to_string(compression_), input_->offset(),
           step.wrong);
    }
    if (step.used > 0 || step.made > 0) continue;
    if (!in.empty() || !step.complete) {
      fail(Code::corrupt, "{} stream {} at byte {}", to_string(compression_),
           in.empty() ? "is cut off" : "does not go on", input_->offset());
    }
    break;
  }
  return made;
}

}  // namespace veneer
