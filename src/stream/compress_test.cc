#include "stream/compress.h"

#include <bzlib.h>
#include <gtest/gtest.h>
#include <isa-l/igzip_lib.h>
#include <lzma.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/limits.h"

namespace veneer {

void PrintTo(Compression compression, std::ostream* out) {
  *out << to_string(compression);
}

namespace {

Bytes bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string unhex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  return bytes;
}

// What comes out, or the error.
struct Outcome {
  std::string text;
  std::optional<Error> error;
  Compression compression = Compression::none;
};

Outcome decode(std::string_view compressed, size_t piece = kChunkBytes) {
  MemorySource memory(bytes_of(compressed), piece);
  DecompressingSource source(memory);
  Outcome outcome;
  try {
    std::vector<std::byte> room(kChunkBytes);
    for (Bytes got = source.next(room); !got.empty(); got = source.next(room))
      outcome.text.append(reinterpret_cast<const char*>(got.data()), got.size());
    for (int i = 0; i < 40; ++i) EXPECT_TRUE(source.next(room).empty()) << "after the end";
  } catch (const Error& error) {
    outcome.error = error;
  }
  outcome.compression = source.compression();
  return outcome;
}

std::string message(const Outcome& outcome) {
  return outcome.error ? outcome.error->message() : "no error";
}

bool is_corrupt(const Outcome& outcome) {
  return outcome.error && outcome.error->code() == Code::corrupt;
}

// "hello, " and "layers\n", as the tools write them: gzip -n, zstd, xz -0, bzip2.
constexpr std::string_view kText = "hello, layers\n";

struct Sample {
  Compression compression;
  std::string first;
  std::string second;
  std::string both() const { return first + second; }
};

std::vector<Sample> samples() {
  return {
      {Compression::gzip, unhex("1f8b0800000000000003cb48cdc9c9d75100009956ea1107000000"),
       unhex("1f8b0800000000000003cb49ac4c2d2ae602008adf5a5907000000")},
      {Compression::zstd, unhex("28b52ffd045839000068656c6c6f2c20cfb93e73"),
       unhex("28b52ffd04583900006c61796572730a68824495")},
      {Compression::xz,
       unhex("fd377a585a000004e6d6b446020021010c0000008f98419c01000668656c6c6f2c2000"
             "00103183e0d4c9f83600011f07162eb8731fb6f37d010000000004595a"),
       unhex("fd377a585a000004e6d6b446020021010c0000008f98419c0100066c61796572730a00"
             "00c480e71a215dde4000011f07162eb8731fb6f37d010000000004595a")},
      {Compression::bzip2,
       unhex("425a6839314159265359756a1005000001910040040244a00021800c016b2e1c5dc914"
             "e14241d5a84014"),
       unhex("425a6839314159265359a136683b000001c1800010220418202000220d33421808cf81"
             "45dc914e1424284d9a0ec0")},
  };
}

std::string sample_text(const Sample& sample) {
  return std::string(to_string(sample.compression));
}

// --- compressors for what is too large to be written here --------------------------------------

std::string gzip(std::string_view text) {
  std::string out(text.size() * 2 + 1024, '\0');
  auto stream = std::make_unique<isal_zstream>();
  std::vector<uint8_t> level_buffer(ISAL_DEF_LVL1_DEFAULT);
  isal_deflate_init(stream.get());
  stream->level = 1;
  stream->level_buf = level_buffer.data();
  stream->level_buf_size = ISAL_DEF_LVL1_DEFAULT;
  stream->gzip_flag = IGZIP_GZIP;
  stream->end_of_stream = 1;
  stream->next_in = const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(text.data()));
  stream->avail_in = static_cast<uint32_t>(text.size());
  stream->next_out = reinterpret_cast<uint8_t*>(out.data());
  stream->avail_out = static_cast<uint32_t>(out.size());
  EXPECT_EQ(isal_deflate(stream.get()), COMP_OK);
  out.resize(stream->total_out);
  return out;
}

std::string zstd(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 1));
  return out;
}

std::string xz(std::string_view text) {
  std::string out(lzma_stream_buffer_bound(text.size()), '\0');
  size_t size = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(0, LZMA_CHECK_CRC64, nullptr,
                                    reinterpret_cast<const uint8_t*>(text.data()), text.size(),
                                    reinterpret_cast<uint8_t*>(out.data()), &size, out.size()),
            LZMA_OK);
  out.resize(size);
  return out;
}

std::string bzip2(std::string_view text) {
  std::string out(text.size() * 2 + 1024, '\0');
  auto size = static_cast<unsigned>(out.size());
  EXPECT_EQ(BZ2_bzBuffToBuffCompress(out.data(), &size, const_cast<char*>(text.data()),
                                     static_cast<unsigned>(text.size()), 1, 0, 0),
            BZ_OK);
  out.resize(size);
  return out;
}

// Words with long repeats and stretches of noise, which become stored blocks.
std::string large_text(size_t size) {
  std::mt19937 random(7);
  std::string text;
  while (text.size() < size) {
    const auto kind = random() % 4;
    if (kind == 0 && text.size() > 60'000) {
      text += text.substr(text.size() - 1 - random() % 60'000, random() % 3000);
    } else if (kind == 1) {
      for (size_t left = random() % 5000; left > 0; --left) text += static_cast<char>(random());
    } else {
      for (size_t left = random() % 300; left > 0; --left)
        text += fmt::format("usr/lib/{} ", random() % 100);
    }
  }
  text.resize(size);
  return text;
}

// --- all formats -------------------------------------------------------------------------------

TEST(SniffCompression, KnowsTheFourAndNothingElse) {
  for (const Sample& sample : samples()) {
    EXPECT_EQ(sniff_compression(bytes_of(sample.first)), sample.compression);
    EXPECT_EQ(sniff_compression(bytes_of(sample.first.substr(0, 6))), sample.compression);
    EXPECT_EQ(sniff_compression(bytes_of(sample.first.substr(0, 2))), Compression::none);
    EXPECT_EQ(sniff_compression(bytes_of(sample.first.substr(1))), Compression::none);
  }
  EXPECT_EQ(sniff_compression({}), Compression::none);
  EXPECT_EQ(sniff_compression(bytes_of(unhex("5f2a4d1800000000"))), Compression::zstd);
  EXPECT_EQ(sniff_compression(bytes_of(unhex("602a4d1800000000"))), Compression::none);
  EXPECT_EQ(sniff_compression(bytes_of(unhex("425a6839177245385090"))), Compression::bzip2);
  EXPECT_EQ(sniff_compression(bytes_of(unhex("1f8b07000000"))), Compression::none);
  EXPECT_EQ(sniff_compression(bytes_of("BZh9.txt")), Compression::none);
}

TEST(DecompressingSource, ReadsWhatTheToolsWriteWhateverThePieces) {
  for (const Sample& sample : samples()) {
    for (const size_t piece : {size_t{1}, size_t{2}, size_t{5}, size_t{7}, kChunkBytes}) {
      const Outcome outcome = decode(sample.both(), piece);
      EXPECT_EQ(outcome.text, kText) << sample_text(sample) << ": " << message(outcome);
      EXPECT_EQ(outcome.compression, sample.compression);
    }
  }
}

TEST(DecompressingSource, EveryPrefixIsCorruptOrAWholeNumberOfMembers) {
  for (const Sample& sample : samples()) {
    const std::string both = sample.both();
    for (const size_t piece : {size_t{1}, kChunkBytes}) {
      for (size_t size = 6; size < both.size(); ++size) {
        const Outcome outcome = decode(both.substr(0, size), piece);
        if (size == sample.first.size()) {
          EXPECT_EQ(outcome.text, "hello, ") << sample_text(sample) << ": " << message(outcome);
        } else {
          EXPECT_TRUE(is_corrupt(outcome)) << sample_text(sample) << " cut at " << size;
        }
      }
    }
  }
}

TEST(DecompressingSource, ACutStreamNamesThePlace) {
  for (const Sample& sample : samples()) {
    const size_t size = sample.first.size() - 1;
    const Outcome outcome = decode(sample.first.substr(0, size), 4);
    EXPECT_EQ(message(outcome),
              fmt::format("{} stream is cut off at byte {}", sample_text(sample), size));
  }
}

TEST(DecompressingSource, NoFlippedBitGoesUnnoticed) {
  for (const Sample& sample : samples()) {
    const std::string good = sample.both();
    for (size_t bit = 0; bit < good.size() * 8; ++bit) {
      std::string bad = good;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
      const Outcome outcome = decode(bad);
      if (outcome.error || outcome.compression != sample.compression) continue;
      // Times, names and padding may differ; data may not.
      EXPECT_EQ(outcome.text, kText) << sample_text(sample) << ", bit " << bit;
    }
  }
}

TEST(DecompressingSource, BytesAfterTheEndAreCorrupt) {
  const std::string tails[] = {std::string(1, '\0'), std::string(512, '\0'), "x",
                               std::string(3000, 'x'), "hello, layers: no member at all"};
  for (const Sample& sample : samples()) {
    for (const std::string& tail : tails) {
      if (sample.compression == Compression::xz && tail.size() == 512) continue;  // stream padding
      for (const size_t piece : {size_t{1}, kChunkBytes}) {
        const Outcome outcome = decode(sample.both() + tail, piece);
        EXPECT_TRUE(is_corrupt(outcome)) << sample_text(sample) << " and " << tail.size();
      }
    }
    for (const Sample& other : samples()) {
      if (other.compression == sample.compression) continue;
      EXPECT_TRUE(is_corrupt(decode(sample.first + other.second))) << sample_text(sample);
    }
  }
}

TEST(DecompressingSource, ErrorsNameTheFormatAndThePlace) {
  for (const Sample& sample : samples()) {
    const Outcome outcome = decode(sample.both() + std::string(100, 'x'));
    ASSERT_TRUE(outcome.error);
    const std::string start = sample_text(sample) + " stream, at byte ";
    ASSERT_TRUE(message(outcome).starts_with(start)) << message(outcome);
    const size_t place = std::stoul(message(outcome).substr(start.size()));
    EXPECT_GE(place, sample.both().size()) << message(outcome);
    EXPECT_LE(place, sample.both().size() + 12) << message(outcome);
  }
}

TEST(DecompressingSource, ReadsLargeStreamsOfSeveralMembers) {
  const std::string text = large_text(kChunkBytes + 56789);
  const std::string_view front = std::string_view(text).substr(0, 100'000);
  const std::string_view back = std::string_view(text).substr(100'000);
  const std::string streams[] = {gzip(front) + gzip({}) + gzip(back), zstd(front) + zstd(back),
                                 xz(front) + xz(back), bzip2(front) + bzip2(back)};
  for (const std::string& stream : streams) {
    for (const size_t piece : {size_t{1}, size_t{4093}, stream.size()}) {
      const Outcome outcome = decode(stream, piece);
      EXPECT_TRUE(outcome.text == text) << to_string(outcome.compression) << message(outcome);
    }
  }
}

TEST(DecompressingSource, FillsTheLentRoom) {
  const std::string text = large_text(2 * kChunkBytes);
  for (const std::string& stream : {gzip(text), zstd(text), xz(text), bzip2(text)}) {
    MemorySource memory(bytes_of(stream), 1000);
    DecompressingSource source(memory);
    std::vector<std::byte> room(kChunkBytes);
    for (int i = 0; i < 2; ++i) {
      const Bytes bytes = source.next(room);
      EXPECT_EQ(bytes.data(), room.data());
      EXPECT_EQ(bytes.size(), room.size());
    }
    EXPECT_TRUE(source.next(room).empty());
  }
}

TEST(DecompressingSource, PlainBytesPassAndAreNotCopied) {
  const std::string text = large_text(1000);
  for (const size_t piece : {size_t{1}, size_t{4}, size_t{6}, size_t{7}, size_t{1000}}) {
    const Outcome outcome = decode(text, piece);
    EXPECT_EQ(outcome.text, text);
    EXPECT_EQ(outcome.compression, Compression::none);
  }
  MemorySource memory(bytes_of(text), 100);
  DecompressingSource source(memory);
  std::vector<std::byte> room(kChunkBytes);
  const Bytes first = source.next(room);
  EXPECT_EQ(first.data(), bytes_of(text).data());
  EXPECT_EQ(first.size(), 100U);
  EXPECT_EQ(source.next(room).data(), bytes_of(text).data() + 100);
}

TEST(DecompressingSource, AShortOrEmptyStreamIsPlain) {
  EXPECT_EQ(decode("").text, "");
  for (const std::string_view text : {"", "x", "\x1f", "\x1f\x8b", "BZh91"}) {
    const Outcome outcome = decode(text, 1);
    EXPECT_EQ(outcome.text, text);
    EXPECT_FALSE(outcome.error);
    EXPECT_EQ(outcome.compression, Compression::none);
  }
}

TEST(DecompressingSource, AnErrorFromBelowComesThrough) {
  class Failing : public Source {
    Bytes next(Room) override { fail(Code::io, "no disk"); }
  } failing;
  DecompressingSource source(failing);
  std::vector<std::byte> room(kChunkBytes);
  EXPECT_THROW(source.next(room), Error);
}

// --- one format --------------------------------------------------------------------------------

TEST(Gzip, ChecksTheCrcAndTheSizeOfEveryMember) {
  const Sample sample = samples()[0];
  for (const size_t end : {sample.first.size(), sample.both().size()}) {
    for (size_t from_end = 1; from_end <= 8; ++from_end) {
      std::string bad = sample.both();
      bad[end - from_end] = static_cast<char>(bad[end - from_end] ^ 0x40);
      for (const size_t piece : {size_t{1}, kChunkBytes}) {
        const Outcome outcome = decode(bad, piece);
        EXPECT_TRUE(is_corrupt(outcome)) << "byte " << end - from_end;
        EXPECT_EQ(message(outcome),
                  fmt::format("gzip stream, at byte {}: checksum or size is wrong", end));
      }
    }
  }
}

// A member with every optional field (RFC 1952, 2.3): "abc" as extra field, a name, a comment, and
// a CRC of the header.
std::string gzip_with_header_fields(size_t name_size) {
  std::string header = unhex("1f8b081e000000000003");
  header += unhex("0300") + "abc" + std::string(name_size, 'n') + '\0' + "a comment" + '\0';
  const uint32_t crc =
      lzma_crc32(reinterpret_cast<const uint8_t*>(header.data()), header.size(), 0);
  header += static_cast<char>(crc & 0xff);
  header += static_cast<char>(crc >> 8 & 0xff);
  return header + samples()[0].first.substr(10);
}

TEST(Gzip, ReadsHeadersWithEveryFieldAndChecksTheirCrc) {
  for (const size_t name_size : {size_t{1}, size_t{300}, size_t{5000}}) {
    const std::string good = gzip_with_header_fields(name_size);
    const std::string plain = samples()[0].first;
    for (const size_t piece : {size_t{1}, size_t{13}, kChunkBytes}) {
      const Outcome outcome = decode(good + plain + good, piece);
      EXPECT_EQ(outcome.text, "hello, hello, hello, ") << name_size << ": " << message(outcome);
      for (const size_t place : {size_t{12}, size_t{15}, 15 + name_size + 3}) {
        std::string bad = good;
        ++bad[place];
        EXPECT_TRUE(is_corrupt(decode(bad, piece))) << "header byte " << place;
      }
    }
  }
}

TEST(Zstd, SkipsSkippableFramesWhereverTheyAre) {
  const Sample sample = samples()[1];
  const std::string skip = unhex("5a2a4d1805000000") + "extra";
  for (const size_t piece : {size_t{1}, kChunkBytes}) {
    const Outcome outcome = decode(skip + sample.first + skip + skip + sample.second + skip, piece);
    EXPECT_EQ(outcome.text, kText) << message(outcome);
    EXPECT_EQ(decode(skip, piece).text, "");
    EXPECT_FALSE(decode(skip, piece).error);
    for (size_t size = 1; size < skip.size(); ++size) {
      const Outcome cut = decode(sample.first + skip.substr(0, size), piece);
      EXPECT_TRUE(is_corrupt(cut)) << "a skippable frame cut at " << size;
    }
  }
}

TEST(Zstd, TakesTheWindowLimitAndRefusesMore) {
  // A frame's window is 2^(10 + the upper five bits), and the lower three are eighths more.
  const auto frame = [](int descriptor) {  // then one raw block, "x"
    return unhex(fmt::format("28b52ffd00{:02x}090000", descriptor)) + "x";
  };
  const std::string most = frame((limits::kZstdWindowLog - 10) << 3);
  const std::string more = frame((limits::kZstdWindowLog - 10) << 3 | 1);
  EXPECT_EQ(decode(most).text, "x") << message(decode(most));
  const Outcome refused = decode(more);
  ASSERT_TRUE(refused.error);
  EXPECT_EQ(refused.error->code(), Code::resource_exhausted) << message(refused);
}

TEST(Xz, TakesStreamPaddingOfWholeWords) {
  const Sample sample = samples()[2];
  for (const size_t padding : {size_t{4}, size_t{512}}) {
    const std::string zeros(padding, '\0');
    const Outcome outcome = decode(sample.first + zeros + sample.second + zeros);
    EXPECT_EQ(outcome.text, kText) << message(outcome);
  }
  for (size_t padding = 1; padding < 4; ++padding)
    EXPECT_TRUE(is_corrupt(decode(sample.both() + std::string(padding, '\0'))));
}

// The dictionary size is byte 16, under the CRC32 of bytes 12 to 19.
std::string xz_with_dictionary(uint8_t code) {
  std::string stream = samples()[2].first;
  stream[16] = static_cast<char>(code);
  const uint32_t crc = lzma_crc32(reinterpret_cast<const uint8_t*>(&stream[12]), 8, 0);
  for (size_t i = 0; i < 4; ++i) stream[20 + i] = static_cast<char>(crc >> (8 * i) & 0xff);
  return stream;
}

// Dictionaries are 2 or 3 times a power of two, and the decoder takes some memory besides: a
// dictionary of the limit's size is beyond it.
TEST(Xz, TakesTheLargestDictionaryBelowTheLimitAndRefusesTheNext) {
  const auto dictionary_bytes = [](uint8_t code) {
    return uint64_t{2 | (code & 1U)} << (code / 2 + 11);
  };
  uint8_t code = 0;
  while (dictionary_bytes(code) < limits::kXzMemoryBytes) ++code;
  ASSERT_EQ(dictionary_bytes(code), limits::kXzMemoryBytes);
  const Outcome most = decode(xz_with_dictionary(static_cast<uint8_t>(code - 1)));
  EXPECT_EQ(most.text, "hello, ") << message(most);
  const Outcome refused = decode(xz_with_dictionary(code));
  ASSERT_TRUE(refused.error);
  EXPECT_EQ(refused.error->code(), Code::resource_exhausted) << message(refused);
}

TEST(Bzip2, ReadsAnEmptyStream) {
  const std::string empty = unhex("425a683917724538509000000000");
  const Outcome outcome = decode(empty + samples()[3].both() + empty);
  EXPECT_EQ(outcome.text, kText) << message(outcome);
  EXPECT_EQ(decode(empty).compression, Compression::bzip2);
}

}  // namespace
}  // namespace veneer
