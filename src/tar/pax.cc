#include "tar/pax.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/limits.h"
#include "tar/number.h"
#include "tar/sparse.h"

namespace veneer::tar {
namespace {

constexpr std::string_view kXattrPrefix = "SCHILY.xattr.";
constexpr std::string_view kSparsePrefix = "GNU.sparse.";

void check_no_nul(std::string_view text, std::string_view what) {
  if (text.contains('\0')) fail(Code::corrupt, "the {} has a NUL byte", what);
}

std::optional<std::string_view> text_or_none(std::string_view value, std::string_view what) {
  check_no_nul(value, what);
  if (value.empty()) return {};
  return value;
}

std::optional<uint64_t> number_or_none(std::string_view value, std::string_view what) {
  if (value.empty()) return {};
  return parse_decimal(value, what);
}

std::optional<uint32_t> id_or_none(std::string_view value, std::string_view what) {
  if (value.empty()) return {};
  return narrow(parse_decimal(value, what), what);
}

}  // namespace

PaxRecord take_pax_record(std::string_view& text) {
  size_t length = 0;
  const auto [digits_end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  const auto digits = static_cast<size_t>(digits_end - text.data());
  if (error != std::errc() || length > text.size() || length < digits + 2)
    fail(Code::corrupt, "a PAX record has a wrong length");
  const std::string_view record = text.substr(digits, length - digits);
  const size_t equals = record.find('=');
  if (record.front() != ' ' || record.back() != '\n')
    fail(Code::corrupt, "a PAX record does not end where its length says");
  if (equals == std::string_view::npos || equals == 1)
    fail(Code::corrupt, "a PAX record has no key");
  text.remove_prefix(length);
  return {record.substr(1, equals - 1), record.substr(equals + 1, record.size() - equals - 2)};
}

void PaxFields::clear() {
  path.reset();
  link_target.reset();
  size.reset();
  uid.reset();
  gid.reset();
  modified.reset();
  xattrs.clear();
  if (!is_sparse) return;
  is_sparse = false;
  sparse = {};
}

bool PaxFields::apply(const PaxRecord& record) {
  const auto& [key, value] = record;
  if (key == "path") {
    path = text_or_none(value, "PAX path");
  } else if (key == "linkpath") {
    link_target = text_or_none(value, "PAX linkpath");
  } else if (key == "size") {
    size = number_or_none(value, "PAX size");
  } else if (key == "uid") {
    uid = id_or_none(value, "PAX uid");
  } else if (key == "gid") {
    gid = id_or_none(value, "PAX gid");
  } else if (key == "mtime") {
    modified = value.empty() ? std::nullopt : std::optional(parse_pax_time(value));
  } else if (key.starts_with(kXattrPrefix)) {
    add_xattr(key.substr(kXattrPrefix.size()), value);
  } else {
    return key.starts_with(kSparsePrefix) && apply_sparse(key.substr(kSparsePrefix.size()), value);
  }
  return true;
}

bool PaxFields::apply_sparse(std::string_view key, std::string_view value) {
  if (key == "offset") {
    if (sparse.open_offset) fail(Code::corrupt, "two offsets of a sparse file in a row");
    sparse.open_offset = parse_decimal(value, "GNU.sparse.offset");
  } else if (key == "numbytes") {
    if (!sparse.open_offset) fail(Code::corrupt, "the size of a sparse segment has no offset");
    add_segment(sparse.segments,
                {*sparse.open_offset, parse_decimal(value, "GNU.sparse.numbytes")});
    sparse.open_offset.reset();
    ++sparse.pairs;
  } else if (key == "major") {
    sparse.major = number_or_none(value, "GNU.sparse.major");
  } else if (key == "minor") {
    sparse.minor = number_or_none(value, "GNU.sparse.minor");
  } else if (key == "size") {
    sparse.size = number_or_none(value, "GNU.sparse.size");
  } else if (key == "realsize") {
    sparse.real_size = number_or_none(value, "GNU.sparse.realsize");
  } else if (key == "numblocks") {
    sparse.blocks = number_or_none(value, "GNU.sparse.numblocks");
  } else if (key == "name") {
    sparse.name = text_or_none(value, "GNU.sparse.name");
  } else if (key == "map") {
    sparse.map = text_or_none(value, "GNU.sparse.map");
  } else {
    return false;
  }
  is_sparse = true;
  return true;
}

void PaxFields::add_xattr(std::string_view name, std::string_view value) {
  check_no_nul(name, "name of an xattr");
  if (name.empty()) fail(Code::corrupt, "an xattr has no name");
  if (name.size() > limits::kXattrNameBytes)
    fail(Code::resource_exhausted, "the name of an xattr has {} bytes (the limit is {})",
         name.size(), limits::kXattrNameBytes);
  if (value.size() > limits::kXattrValueBytes)
    fail(Code::resource_exhausted, "the xattr {} has {} bytes (the limit is {})", name,
         value.size(), limits::kXattrValueBytes);
  xattrs.push_back({name, value, xattrs.size()});
}

void PaxFields::drop_duplicate_xattrs() {
  if (xattrs.size() < 2) return;
  std::ranges::sort(xattrs, [](const PaxXattr& a, const PaxXattr& b) {
    return a.name != b.name ? a.name < b.name : a.place > b.place;
  });
  const auto repeated = std::ranges::unique(xattrs, {}, &PaxXattr::name);
  xattrs.erase(repeated.begin(), repeated.end());
  std::ranges::sort(xattrs, {}, &PaxXattr::place);
}

void PaxGlobals::merge(std::string_view text) {
  PaxFields scratch;
  while (!text.empty()) {
    const PaxRecord record = take_pax_record(text);
    if (!scratch.apply(record)) continue;
    if (scratch.is_sparse) fail(Code::corrupt, "a global header has {}", record.key);
    auto found = values_.find(record.key);
    if (found == values_.end()) {
      found = values_.emplace(record.key, "").first;
      size_bytes_ += record.key.size();
    }
    size_bytes_ += record.value.size() - found->second.size();
    found->second = record.value;
    if (size_bytes_ > limits::kGlobalHeaderBytes)
      fail(Code::resource_exhausted, "the global headers have more than {} bytes",
           limits::kGlobalHeaderBytes);
  }
}

void PaxGlobals::apply_to(PaxFields& fields) const {
  for (const auto& [key, value] : values_) fields.apply({key, value});
}

}  // namespace veneer::tar
