// The tar reader on any bytes: it throws corrupt or resource_exhausted, or gives entries that keep
// what tar/entry.h promises, that do not depend on how the stream is cut, and that the writer can
// write so that the reader gives them back.
#include <fmt/core.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/limits.h"
#include "tar/reader.h"
#include "tar/writer.h"

namespace {

using veneer::Bytes;
using veneer::tar::Entry;
using veneer::tar::EntryType;
using veneer::tar::Segment;

// What would be written dense, at most.
constexpr uint64_t kMostDense = 1 << 20;

struct Member {
  Entry entry;
  std::string stored;
};

struct Listing {
  std::vector<Member> members;
  std::string error;
};

bool operator==(const Entry& a, const Entry& b) {
  return a.type == b.type && a.path == b.path && a.link_target == b.link_target &&
         a.mode == b.mode && a.uid == b.uid && a.gid == b.gid && a.device_major == b.device_major &&
         a.device_minor == b.device_minor && a.modified == b.modified && a.xattrs == b.xattrs &&
         a.size == b.size && a.sparse == b.sparse && a.segments == b.segments &&
         a.header_offset == b.header_offset && a.data_offset == b.data_offset &&
         a.stored_size == b.stored_size;
}

void check_entry(const Entry& entry, uint64_t archive_offset) {
  const veneer::tar::Timestamp& time = entry.modified;
  VENEER_CHECK(!entry.path.empty() && entry.path.size() <= veneer::limits::kPathBytes);
  VENEER_CHECK(!entry.path.contains('\0') && !entry.link_target.contains('\0'));
  VENEER_CHECK(entry.link_target.size() <= veneer::limits::kLinkTargetBytes);
  VENEER_CHECK(entry.mode <= 07777 && time.nanoseconds < 1'000'000'000);
  VENEER_CHECK(entry.data_offset % 512 == 0 && entry.header_offset % 512 == 0);
  VENEER_CHECK(entry.header_offset < entry.data_offset && entry.data_offset == archive_offset);
  VENEER_CHECK(entry.size <= veneer::limits::kFileBytes);
  VENEER_CHECK(entry.stored_size <= veneer::limits::kLayerBytes - entry.data_offset);
  VENEER_CHECK(entry.segments.size() <= veneer::limits::kSparseSegments);
  const bool is_file = entry.type == EntryType::file;
  VENEER_CHECK(is_file || (entry.size == 0 && entry.stored_size == 0 && !entry.sparse));
  VENEER_CHECK(!is_file || !entry.path.ends_with('/'));
  VENEER_CHECK(entry.sparse || (entry.segments.empty() && entry.size == entry.stored_size));
  if (!entry.sparse) return;
  uint64_t end = 0;
  uint64_t sum = 0;
  for (const Segment& segment : entry.segments) {
    VENEER_CHECK(segment.size > 0 && segment.offset >= end);
    end = segment.offset + segment.size;
    sum += segment.size;
  }
  VENEER_CHECK(end <= entry.size && sum == entry.stored_size);
}

// Every other file is skipped when `skips`, which must not change what follows.
std::string read_stored(veneer::tar::Reader& reader, const Entry& entry) {
  std::string stored;
  uint64_t end = 0;
  size_t segment = 0;
  while (const auto piece = reader.read()) {
    VENEER_CHECK(!piece->bytes.empty() && piece->offset >= end);
    end = piece->offset + piece->bytes.size();
    VENEER_CHECK(end <= entry.size);
    if (entry.sparse) {
      const auto end_of = [&] {
        return entry.segments[segment].offset + entry.segments[segment].size;
      };
      while (end_of() <= piece->offset) ++segment;
      VENEER_CHECK(piece->offset >= entry.segments[segment].offset && end <= end_of());
    }
    stored.append(reinterpret_cast<const char*>(piece->bytes.data()), piece->bytes.size());
  }
  VENEER_CHECK(stored.size() == entry.stored_size);
  return stored;
}

enum class Content { read, skipped };

Listing list(Bytes archive, size_t piece, Content content) {
  Listing listing;
  veneer::MemorySource source(archive, piece);
  veneer::tar::Reader reader(source);
  try {
    uint64_t end = 0;
    while (const Entry* entry = reader.next()) {
      VENEER_CHECK(entry->header_offset >= end);
      check_entry(*entry, reader.offset());
      end = entry->data_offset + entry->stored_size;
      listing.members.push_back({*entry, ""});
      if (content == Content::read) listing.members.back().stored = read_stored(reader, *entry);
    }
    reader.drain();
    VENEER_CHECK(reader.offset() == archive.size());
  } catch (const veneer::Error& error) {
    VENEER_CHECK(error.code() == veneer::Code::corrupt ||
                 error.code() == veneer::Code::resource_exhausted);
    listing.error = error.message();
  }
  return listing;
}

void check_equal(const Listing& a, const Listing& b, Content content) {
  VENEER_CHECK(a.error == b.error && a.members.size() == b.members.size());
  for (size_t i = 0; i < a.members.size(); ++i) {
    VENEER_CHECK(a.members[i].entry == b.members[i].entry);
    VENEER_CHECK(content == Content::skipped || a.members[i].stored == b.members[i].stored);
  }
}

// As the writer writes it: dense, its xattrs sorted, and nothing of the archive it came from.
Member written_form(const Member& member) {
  Member dense{member.entry, member.stored};
  Entry& entry = dense.entry;
  if (entry.type == EntryType::directory && !entry.path.ends_with('/')) entry.path += '/';
  std::ranges::sort(entry.xattrs);
  if (entry.sparse) {
    dense.stored.assign(entry.size, '\0');
    size_t from = 0;
    for (const Segment& segment : entry.segments) {
      dense.stored.replace(segment.offset, segment.size, member.stored, from, segment.size);
      from += segment.size;
    }
  }
  entry.sparse = false;
  entry.segments.clear();
  entry.stored_size = entry.size;
  return dense;
}

bool is_writable(const Member& member) {
  return std::max(member.entry.device_major, member.entry.device_minor) <= 07777777 &&
         member.entry.size <= kMostDense && member.stored.size() == member.entry.stored_size;
}

void check_round_trip(const Listing& listing, size_t piece) {
  veneer::StringSink sink;
  veneer::tar::Writer writer(sink);
  std::vector<Member> written;
  for (const Member& member : listing.members) {
    if (!is_writable(member)) continue;
    written.push_back(written_form(member));
    // A directory's slash may be one byte too many.
    if (written.back().entry.path.size() > veneer::limits::kPathBytes) {
      written.pop_back();
      continue;
    }
    writer.add(written.back().entry);
    writer.write(std::as_bytes(std::span(written.back().stored)));
  }
  writer.finish();
  const Listing again = list(std::as_bytes(std::span(sink.text())), piece, Content::read);
  VENEER_CHECK(again.error.empty() && again.members.size() == written.size());
  for (size_t i = 0; i < written.size(); ++i) {
    Entry& entry = written[i].entry;
    entry.header_offset = again.members[i].entry.header_offset;
    entry.data_offset = again.members[i].entry.data_offset;
    VENEER_CHECK(entry == again.members[i].entry);
    VENEER_CHECK(written[i].stored == again.members[i].stored);
  }
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): libFuzzer's names.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Bytes archive = std::as_bytes(std::span(data, size));
  const size_t piece = 1 + (size > 0 ? data[size - 1] * size_t{7} : 0);
  const Listing whole = list(archive, veneer::kChunkBytes, Content::read);
  check_equal(whole, list(archive, piece, Content::read), Content::read);
  // A cut-off file is noticed earlier when its content is read.
  if (whole.error.empty())
    check_equal(whole, list(archive, 512, Content::skipped), Content::skipped);
  check_round_trip(whole, piece);
  return 0;
}
// NOLINTEND(readability-identifier-naming)
