#include "erofs/xattrs.h"

#include <algorithm>
#include <array>
#include <functional>
#include <iterator>

#include "base/error.h"
#include "base/limits.h"
#include "erofs/format.h"

namespace veneer::erofs {
namespace {

struct NameSpace {
  std::string_view prefix;
  uint8_t index;
  bool is_whole_name;
};
constexpr std::array<NameSpace, 5> kNameSpaces{{
    {"user.", 1, false},
    {"system.posix_acl_access", 2, true},
    {"system.posix_acl_default", 3, true},
    {"trusted.", 4, false},
    {"security.", 6, false},
}};

const NameSpace& name_space_of(std::string_view name) {
  for (const NameSpace& space : kNameSpaces) {
    const bool fits = space.is_whole_name
                          ? name == space.prefix
                          : name.starts_with(space.prefix) && name.size() > space.prefix.size();
    if (fits) return space;
  }
  fail(Code::invalid_argument, "xattr {}: not a name that EROFS can hold", name);
}

template <typename T>
void append_struct(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string encode(const Xattr& xattr) {
  const NameSpace& space = name_space_of(xattr.name);
  const std::string_view name = std::string_view(xattr.name).substr(space.prefix.size());
  std::string bytes;
  append_struct(bytes, XattrEntry{.name_size = static_cast<uint8_t>(name.size()),
                                  .name_index = space.index,
                                  .value_size = static_cast<uint16_t>(xattr.value.size())});
  bytes.append(name).append(xattr.value);
  bytes.resize(round_up(bytes.size(), 4));
  return bytes;
}

// Attributes larger than a block are shared even by one: metadata stays dense.
bool is_worth_sharing(uint64_t size, uint64_t uses) {
  return size > kBlockBytes || size * uses > size + sizeof(uint32_t) * uses;
}

}  // namespace

uint32_t XattrTable::intern_one(const Xattr& xattr) {
  if (xattr.name.size() > limits::kXattrNameBytes)
    fail(Code::resource_exhausted, "an xattr's name of {} bytes", xattr.name.size());
  if (xattr.name.find('\0') != std::string::npos)
    fail(Code::invalid_argument, "an xattr's name with a NUL");
  if (xattr.value.size() > limits::kXattrValueBytes)
    fail(Code::resource_exhausted, "xattr {}: a value of {} bytes", xattr.name, xattr.value.size());
  if (xattr.value.size() > kMaxXattrValue)
    fail(Code::unsupported, "xattr {}: a value of {} bytes", xattr.name, xattr.value.size());
  const auto id = static_cast<uint32_t>(attributes_.size());
  const auto [found, is_new] = attribute_ids_.try_emplace(encode(xattr), id);
  if (is_new) attributes_.push_back({.encoded = &found->first});
  return found->second;
}

XattrSetId XattrTable::intern(std::span<const Xattr> xattrs) {
  if (xattrs.empty()) return kNoXattrs;
  std::vector<const Xattr*> sorted;
  size_t names_size = 0;
  for (const Xattr& xattr : xattrs) {
    sorted.push_back(&xattr);
    names_size += xattr.name.size() + 1;
  }
  if (names_size > limits::kXattrListBytes)
    fail(Code::resource_exhausted, "{} bytes of xattr names on one file", names_size);
  const auto name_of = [](const Xattr* xattr) { return std::string_view(xattr->name); };
  std::ranges::sort(sorted, {}, name_of);
  if (const auto twin = std::ranges::adjacent_find(sorted, {}, name_of); twin != sorted.end())
    fail(Code::invalid_argument, "xattr {} twice on one file", (*twin)->name);

  std::vector<uint32_t> ids;
  for (const Xattr* xattr : sorted) ids.push_back(intern_one(*xattr));
  // The large ones first: they must be among the 255 that a set can share.
  const auto encoded_size = [this](uint32_t id) { return attributes_[id].encoded->size(); };
  const auto is_large = [&](uint32_t id) { return encoded_size(id) > kBlockBytes; };
  std::vector<uint32_t> set;
  std::ranges::copy_if(ids, std::back_inserter(set), is_large);
  std::ranges::copy_if(ids, std::back_inserter(set), std::not_fn(is_large));
  uint64_t size = sizeof(XattrHeader);
  for (size_t i = 0; i < set.size(); ++i) {
    const bool is_shared = i < kMaxSharedXattrs && is_large(set[i]);
    size += is_shared ? sizeof(uint32_t) : encoded_size(set[i]);
  }
  if (size > kMaxXattrBytes) fail(Code::unsupported, "{} bytes of xattrs on one file", size);

  const std::string key(reinterpret_cast<const char*>(set.data()), set.size() * sizeof set[0]);
  const auto id = static_cast<XattrSetId>(sets_.size());
  const auto [found, is_new] = set_ids_.try_emplace(key, id);
  if (is_new) {
    sets_.push_back({.first = static_cast<uint32_t>(members_.size()),
                     .count = static_cast<uint32_t>(set.size())});
    members_.insert(members_.end(), set.begin(), set.end());
  }
  return found->second;
}

void XattrTable::place(std::span<const uint32_t> uses) {
  for (Attribute& attribute : attributes_) attribute.uses = 0;
  for (size_t id = 0; id < sets_.size(); ++id)
    for (const uint32_t member : members(sets_[id])) attributes_[member].uses += uses[id];

  shared_size_ = 0;
  for (Attribute& attribute : attributes_) {
    const bool is_shared =
        attribute.uses > 0 && is_worth_sharing(attribute.encoded->size(), attribute.uses);
    attribute.shared_at = is_shared ? static_cast<uint32_t>(shared_size_ / 4) : kInline;
    if (is_shared) shared_size_ += attribute.encoded->size();
  }
  std::string bytes;
  for (size_t id = 0; id < sets_.size(); ++id) {
    bytes.clear();
    append_inline(static_cast<XattrSetId>(id), bytes);
    sets_[id].inline_size = static_cast<uint32_t>(bytes.size());
  }
}

void XattrTable::append_inline(XattrSetId id, std::string& bytes) const {
  if (id == kNoXattrs) return;
  XattrHeader header;
  std::string references;
  std::string beside;
  for (const uint32_t member : members(sets_[id])) {
    const Attribute& attribute = attributes_[member];
    if (attribute.shared_at != kInline && header.shared_count < kMaxSharedXattrs) {
      append_struct(references, attribute.shared_at);
      ++header.shared_count;
    } else {
      beside += *attribute.encoded;
    }
  }
  append_struct(bytes, header);
  bytes += references;
  bytes += beside;
}

}  // namespace veneer::erofs
