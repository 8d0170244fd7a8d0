// Archives for tests, byte by byte: whatever one likes in any field. Shares nothing with the reader
// and the writer, so that it cannot share their mistakes.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tar/reader.h"

namespace veneer::tar::test {

inline Bytes bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

inline std::string octal(uint64_t value, size_t digits) {
  std::string text(digits, '0');
  for (size_t at = digits; at-- > 0; value /= 8) text[at] = static_cast<char>('0' + value % 8);
  return text;
}

// Two's complement in `size` bytes, marked as GNU does.
inline std::string base256(int64_t value, size_t size) {
  std::string text(size, value < 0 ? '\xff' : '\0');
  for (size_t at = size; at-- > size - 8; value >>= 8) text[at] = static_cast<char>(value & 0xff);
  text[0] = static_cast<char>(text[0] | '\x80');
  return text;
}

inline constexpr std::string_view kUstar{
    "ustar\0"
    "00",
    8};
inline constexpr std::string_view kOldGnu{"ustar  \0", 8};

// The fields of a header as texts; what is not given has a plain value.
struct Raw {
  std::string name = "f";
  char type = '0';
  std::string size = octal(0, 11);
  std::string mode = octal(0644, 7);
  std::string uid = octal(0, 7);
  std::string gid = octal(0, 7);
  std::string modified = octal(0, 11);
  std::string link_target = {};
  std::string magic = std::string(kUstar);
  std::string device_major = octal(0, 7);
  std::string device_minor = octal(0, 7);
  std::string prefix = {};  // and, in old GNU headers, all that is in its place
  bool has_signed_checksum = false;
  int checksum_error = 0;
};

inline std::string block(const Raw& raw) {
  std::string text(512, '\0');
  const auto put = [&text](size_t at, size_t size, std::string_view value) {
    EXPECT_LE(value.size(), size);
    std::ranges::copy(value, text.begin() + static_cast<ptrdiff_t>(at));
  };
  put(0, 100, raw.name);
  put(100, 8, raw.mode);
  put(108, 8, raw.uid);
  put(116, 8, raw.gid);
  put(124, 12, raw.size);
  put(136, 12, raw.modified);
  put(148, 8, "        ");
  text[156] = raw.type;
  put(157, 100, raw.link_target);
  put(257, 8, raw.magic);
  put(329, 8, raw.device_major);
  put(337, 8, raw.device_minor);
  put(345, 167, raw.prefix);
  int sum = raw.checksum_error;
  for (const char c : text)
    sum += raw.has_signed_checksum ? static_cast<signed char>(c) : static_cast<unsigned char>(c);
  put(148, 8, octal(static_cast<uint64_t>(sum), 6) + std::string("\0 ", 2));
  return text;
}

inline std::string padded(std::string text) {
  text.resize((text.size() + 511) / 512 * 512);
  return text;
}

inline std::string member(Raw raw, std::string_view data = {}) {
  if (!data.empty()) raw.size = octal(data.size(), 11);
  return block(raw) + padded(std::string(data));
}

inline std::string record(std::string_view key, std::string_view value) {
  std::string rest = " ";
  rest.append(key).append("=").append(value).append("\n");
  size_t length = rest.size();
  while (std::to_string(length).size() + rest.size() != length) ++length;
  return std::to_string(length) + rest;
}

// An extended header of any type: 'x', 'g', 'L' or 'K'.
inline std::string extended(char type, const std::string& text) {
  return member({.name = "extended", .type = type, .size = octal(text.size(), 11)}, text);
}
inline std::string pax(const std::string& records) {
  return extended('x', records);
}

inline const std::string kEnd(1024, '\0');

inline bool is_equal(const Entry& a, const Entry& b) {
  return a.type == b.type && a.path == b.path && a.link_target == b.link_target &&
         a.mode == b.mode && a.uid == b.uid && a.gid == b.gid && a.device_major == b.device_major &&
         a.device_minor == b.device_minor && a.modified == b.modified && a.xattrs == b.xattrs &&
         a.size == b.size && a.sparse == b.sparse && a.segments == b.segments &&
         a.header_offset == b.header_offset && a.data_offset == b.data_offset &&
         a.stored_size == b.stored_size;
}

// All that an archive holds.
struct Member {
  Entry entry;
  std::string stored;
  bool operator==(const Member& other) const {
    return is_equal(entry, other.entry) && stored == other.stored;
  }
  // With the holes filled.
  std::string content() const {
    if (!entry.sparse) return stored;
    std::string all(entry.size, '\0');
    size_t from = 0;
    for (const Segment& segment : entry.segments) {
      all.replace(segment.offset, segment.size, stored, from, segment.size);
      from += segment.size;
    }
    return all;
  }
};

struct Listing {
  std::vector<Member> members;
  std::optional<Code> code;  // of the error that ended it
  std::string error;
  uint64_t offset = 0;
};

inline Listing list(std::string_view archive, size_t piece_size = kChunkBytes) {
  Listing listing;
  MemorySource source(bytes_of(archive), piece_size);
  Reader reader(source);
  try {
    while (const Entry* entry = reader.next()) {
      Member& last = listing.members.emplace_back(*entry, "");
      while (const std::optional<Piece> piece = reader.read())
        last.stored.append(reinterpret_cast<const char*>(piece->bytes.data()), piece->bytes.size());
    }
    reader.drain();
  } catch (const Error& error) {
    listing.code = error.code();
    listing.error = error.message();
  }
  listing.offset = reader.offset();
  return listing;
}

// The one entry of an archive without errors.
inline Member only(std::string_view archive) {
  const Listing listing = list(archive);
  EXPECT_EQ(listing.error, "");
  EXPECT_EQ(listing.members.size(), 1u);
  return listing.members.empty() ? Member{} : listing.members.front();
}

// Expects an archive whose `good` first entries are all right, and then an error that says `what`.
struct Refusal {
  Code code = Code::corrupt;
  std::string what;
  size_t good = 0;
};
inline void expect_refused(std::string_view archive, const Refusal& refusal) {
  const Listing listing = list(archive);
  ASSERT_TRUE(listing.code) << "nothing was thrown, but wanted: " << refusal.what;
  EXPECT_EQ(*listing.code, refusal.code) << listing.error;
  EXPECT_NE(listing.error.find(refusal.what), std::string::npos) << listing.error;
  EXPECT_EQ(listing.members.size(), refusal.good) << listing.error;
}

}  // namespace veneer::tar::test
