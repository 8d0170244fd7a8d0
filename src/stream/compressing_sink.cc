#include "stream/compressing_sink.h"

#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <algorithm>

#include "base/error.h"

namespace veneer {

class CompressingSink::Encoder {
 public:
  Encoder() : room_(kChunkBytes) {}
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  virtual ~Encoder() = default;
  // Takes all of `in`.
  virtual void encode(Bytes in, bool is_last, Sink& to) = 0;

 protected:
  std::vector<std::byte> room_;
};

namespace {

constexpr uint32_t kGzipLevel = 2;
constexpr int kZstdLevel = 3;

class GzipEncoder : public CompressingSink::Encoder {
 public:
  GzipEncoder() : buffer_(ISAL_DEF_LVL2_DEFAULT), stream_(std::make_unique<isal_zstream>()) {
    isal_deflate_init(stream_.get());
    stream_->level = kGzipLevel;
    stream_->level_buf = buffer_.data();
    stream_->level_buf_size = static_cast<uint32_t>(buffer_.size());
    stream_->gzip_flag = IGZIP_GZIP;
  }

  void encode(Bytes in, bool is_last, Sink& to) override {
    // ISA-L does not write through it.
    stream_->next_in = const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(in.data()));
    stream_->avail_in = static_cast<uint32_t>(in.size());
    stream_->end_of_stream = is_last ? 1 : 0;
    for (;;) {
      stream_->next_out = reinterpret_cast<uint8_t*>(room_.data());
      stream_->avail_out = static_cast<uint32_t>(room_.size());
      VENEER_CHECK(isal_deflate(stream_.get()) == COMP_OK);
      to.write(Bytes(room_).first(room_.size() - stream_->avail_out));
      const bool is_done = is_last ? stream_->internal_state.state == ZSTATE_END
                                   : stream_->avail_in == 0 && stream_->avail_out > 0;
      if (is_done) break;
    }
  }

 private:
  std::vector<uint8_t> buffer_;
  std::unique_ptr<isal_zstream> stream_;
};

class ZstdEncoder : public CompressingSink::Encoder {
 public:
  ZstdEncoder() : context_(ZSTD_createCCtx()) {
    if (!context_) fail(Code::resource_exhausted, "no memory for a zstd encoder");
    set(ZSTD_c_compressionLevel, kZstdLevel);
    set(ZSTD_c_checksumFlag, 1);
  }

  void encode(Bytes in, bool is_last, Sink& to) override {
    ZSTD_inBuffer from{.src = in.data(), .size = in.size(), .pos = 0};
    for (bool is_done = false; !is_done;) {
      ZSTD_outBuffer out{.dst = room_.data(), .size = room_.size(), .pos = 0};
      const size_t left =
          ZSTD_compressStream2(context_.get(), &out, &from, is_last ? ZSTD_e_end : ZSTD_e_continue);
      if (ZSTD_isError(left)) fail(Code::resource_exhausted, "zstd: {}", ZSTD_getErrorName(left));
      to.write(Bytes(room_).first(out.pos));
      is_done = is_last ? left == 0 : from.pos == from.size;
    }
  }

 private:
  void set(ZSTD_cParameter parameter, int value) {
    VENEER_CHECK(!ZSTD_isError(ZSTD_CCtx_setParameter(context_.get(), parameter, value)));
  }

  std::unique_ptr<ZSTD_CCtx, decltype([](ZSTD_CCtx* c) { ZSTD_freeCCtx(c); })> context_;
};

std::unique_ptr<CompressingSink::Encoder> make_encoder(Compression compression) {
  switch (compression) {
    case Compression::none:
      return nullptr;
    case Compression::gzip:
      return std::make_unique<GzipEncoder>();
    case Compression::zstd:
      return std::make_unique<ZstdEncoder>();
    case Compression::xz:
    case Compression::bzip2:
      break;
  }
  fail(Code::invalid_argument, "{} is for reading only", to_string(compression));
}

}  // namespace

CompressingSink::CompressingSink(Compression compression, Sink& to)
    : to_(to), encoder_(make_encoder(compression)) {
  pending_.reserve(kChunkBytes);
}

CompressingSink::~CompressingSink() = default;

// The encoders get pieces of one size, so that their output does not depend on the writer's.
void CompressingSink::write(Bytes bytes) {
  if (!encoder_) return to_.write(bytes);
  while (!bytes.empty()) {
    const size_t size = std::min(bytes.size(), kChunkBytes - pending_.size());
    pending_.insert(pending_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
    bytes = bytes.subspan(size);
    if (pending_.size() == kChunkBytes) encode(false);
  }
}

void CompressingSink::finish() {
  if (encoder_) encode(true);
}

void CompressingSink::encode(bool is_last) {
  encoder_->encode(pending_, is_last, to_);
  pending_.clear();
}

}  // namespace veneer
