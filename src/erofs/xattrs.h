// The extended attributes of an image: sets of them, each stored once.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/at.h"

namespace veneer::erofs {

using XattrSetId = uint32_t;
inline constexpr XattrSetId kNoXattrs = 0;

// An attribute lies beside its inode, or, if many inodes have it or it is large, once in a shared
// area, where they refer to it.
class XattrTable {
 public:
  // Names are whole ("user.x"), of the spaces user, trusted and security, or one of the two POSIX
  // ACLs. The overlay's names are not special. Throws invalid_argument for other names and for one
  // given twice, resource_exhausted beyond limits.h, and unsupported for what EROFS cannot hold: a
  // value of more than 65535 bytes, or more than 256 KiB of small ones in one set.
  XattrSetId intern(std::span<const Xattr> xattrs);

  // Decides what is shared; uses[id] is the number of inodes that have the set.
  void place(std::span<const uint32_t> uses);
  // After place(): what the image holds. The empty set has size 0.
  uint32_t inline_size(XattrSetId id) const { return sets_[id].inline_size; }
  void append_inline(XattrSetId id, std::string& bytes) const;
  uint64_t shared_size() const { return shared_size_; }
  // The parts of the shared area, in order.
  template <typename Put>
  void for_each_shared(const Put& put) const {
    for (const Attribute& attribute : attributes_)
      if (attribute.shared_at != kInline) put(std::string_view(*attribute.encoded));
  }
  size_t sets() const { return sets_.size(); }

 private:
  static constexpr uint32_t kInline = 0xffffffff;
  struct Attribute {
    const std::string* encoded;  // header, name, value and padding; a key of attribute_ids_
    uint64_t uses = 0;
    uint32_t shared_at = kInline;  // in units of four bytes
  };
  struct Set {
    uint32_t first = 0;  // in members_
    uint32_t count = 0;
    uint32_t inline_size = 0;
  };

  uint32_t intern_one(const Xattr& xattr);
  std::span<const uint32_t> members(const Set& set) const {
    return std::span(members_).subspan(set.first, set.count);
  }

  std::vector<Attribute> attributes_;
  std::unordered_map<std::string, uint32_t> attribute_ids_;
  std::vector<Set> sets_{Set{}};
  std::vector<uint32_t> members_;
  std::unordered_map<std::string, XattrSetId> set_ids_;  // by the bytes of the members
  uint64_t shared_size_ = 0;
};

}  // namespace veneer::erofs
