#include "tar/sparse.h"

#include "base/error.h"
#include "base/limits.h"
#include "tar/number.h"

namespace veneer::tar {

void add_segment(std::vector<Segment>& segments, const Segment& segment) {
  if (segment.size == 0) return;
  if (segment.size > limits::kFileBytes || segment.offset > limits::kFileBytes)
    fail(Code::resource_exhausted, "a sparse segment beyond {} bytes", limits::kFileBytes);
  if (!segments.empty() && segment.offset < segments.back().offset + segments.back().size)
    fail(Code::corrupt, "the segments of a sparse file are not in order");
  if (segments.size() == limits::kSparseSegments)
    fail(Code::resource_exhausted, "a sparse file of more than {} segments",
         limits::kSparseSegments);
  segments.push_back(segment);
}

void check_segments(const std::vector<Segment>& segments, const SparseSizes& sizes) {
  if (!segments.empty() && segments.back().offset + segments.back().size > sizes.size)
    fail(Code::corrupt, "a segment of a sparse file ends after its size, {}", sizes.size);
  uint64_t stored_size = 0;
  for (const Segment& segment : segments) stored_size += segment.size;
  if (stored_size != sizes.stored_size)
    fail(Code::corrupt, "a sparse file's segments have {} bytes, its data {}", stored_size,
         sizes.stored_size);
}

bool add_old_gnu_map(std::string_view field, std::vector<Segment>& segments) {
  constexpr size_t kNumberBytes = 12;
  for (; !field.empty(); field.remove_prefix(2 * kNumberBytes)) {
    const std::string_view offset = field.substr(0, kNumberBytes);
    const std::string_view size = field.substr(kNumberBytes, kNumberBytes);
    if (size.front() == '\0') return false;
    add_segment(segments, {parse_unsigned_field(offset, "offset of a sparse segment"),
                           parse_unsigned_field(size, "size of a sparse segment")});
  }
  return true;
}

void add_listed_map(std::string_view list, uint64_t count, std::vector<Segment>& segments) {
  const auto take_number = [&list] {
    const std::string_view text = list.substr(0, list.find(','));
    const bool is_last = text.size() == list.size();
    list.remove_prefix(is_last ? text.size() : text.size() + 1);
    return parse_decimal(text, "number in GNU.sparse.map");
  };
  if (list.ends_with(',')) fail(Code::corrupt, "GNU.sparse.map ends in a comma");
  uint64_t pairs = 0;
  for (; !list.empty(); ++pairs) {
    const uint64_t offset = take_number();
    add_segment(segments, {offset, take_number()});
  }
  if (pairs != count) fail(Code::corrupt, "GNU.sparse.map has {} segments, not {}", pairs, count);
}

bool SparseMapParser::take(std::string_view block, std::vector<Segment>& segments) {
  for (const char c : block) {
    if (is_complete()) break;
    if (c == '\n' && number_) {
      take_number(*number_, segments);
      number_.reset();
    } else if (c >= '0' && c <= '9' && number_.value_or(0) <= limits::kFileBytes) {
      number_ = number_.value_or(0) * 10 + static_cast<uint64_t>(c - '0');
    } else {
      fail(Code::corrupt, "the map of a sparse file is not of numbers and lines");
    }
  }
  return is_complete();
}

void SparseMapParser::take_number(uint64_t number, std::vector<Segment>& segments) {
  if (!count_) {
    count_ = number;
  } else if (!offset_) {
    offset_ = number;
  } else {
    add_segment(segments, {*offset_, number});
    offset_.reset();
    --*count_;
  }
}

}  // namespace veneer::tar
