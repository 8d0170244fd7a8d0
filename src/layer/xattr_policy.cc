#include "layer/xattr_policy.h"

#include <endian.h>
#include <linux/capability.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace veneer {

namespace {

constexpr std::string_view kEscape = "overlay.";
constexpr std::array<std::string_view, 2> kOverlayPrefixes{"trusted.overlay.", "user.overlay."};
constexpr std::string_view kCapability = "security.capability";
constexpr std::string_view kAclPrefix = "system.posix_acl_";
constexpr std::array<std::string_view, 4> kKept{
    kCapability, "security.ima", "system.posix_acl_access", "system.posix_acl_default"};

// The length of the prefix by which overlayfs knows its own, or 0.
size_t overlay_prefix(std::string_view name) {
  for (const std::string_view prefix : kOverlayPrefixes)
    if (name.starts_with(prefix)) return prefix.size();
  return 0;
}

bool is_kept(std::string_view name) {
  return name.starts_with("user.") || std::ranges::find(kKept, name) != kKept.end();
}

uint32_t get_le32(const std::string& value, size_t offset) {
  uint32_t number = 0;
  std::memcpy(&number, value.data() + offset, sizeof(number));
  return le32toh(number);
}

void put_le32(std::string& value, size_t offset, uint32_t number) {
  number = htole32(number);
  std::memcpy(value.data() + offset, &number, sizeof(number));
}

// struct posix_acl_xattr_header, then entries of a tag, permissions and an id.
template <typename MapUid, typename MapGid>
void map_acl(std::string& value, MapUid map_uid, MapGid map_gid) {
  constexpr size_t kHeader = sizeof(posix_acl_xattr_header);
  constexpr size_t kEntry = sizeof(posix_acl_xattr_entry);
  if (value.size() < kHeader || (value.size() - kHeader) % kEntry != 0 ||
      get_le32(value, 0) != POSIX_ACL_XATTR_VERSION)
    return;
  for (size_t at = kHeader; at < value.size(); at += kEntry) {
    const uint32_t tag = get_le32(value, at) & 0xffff;
    const size_t id_at = at + offsetof(posix_acl_xattr_entry, e_id);
    if (tag == ACL_USER) put_le32(value, id_at, map_uid(get_le32(value, id_at)));
    if (tag == ACL_GROUP) put_le32(value, id_at, map_gid(get_le32(value, id_at)));
  }
}

void set_capability_version(std::string& value, uint32_t version) {
  put_le32(value, 0, (get_le32(value, 0) & VFS_CAP_FLAGS_MASK) | version);
}

bool is_capability(const std::string& value, uint32_t version, size_t size) {
  return value.size() == size && (get_le32(value, 0) & VFS_CAP_REVISION_MASK) == version;
}

}  // namespace

std::optional<std::string> xattr_name_to_tar(std::string_view name) {
  if (const size_t prefix = overlay_prefix(name)) {
    if (!name.substr(prefix).starts_with(kEscape)) return std::nullopt;
    return std::string(name).erase(prefix, kEscape.size());
  }
  if (!is_kept(name)) return std::nullopt;
  return std::string(name);
}

std::optional<std::string> xattr_name_to_store(std::string_view name) {
  if (const size_t prefix = overlay_prefix(name)) return std::string(name).insert(prefix, kEscape);
  if (!is_kept(name)) return std::nullopt;
  return std::string(name);
}

bool is_layer_xattr(std::string_view name) {
  const size_t prefix = overlay_prefix(name);
  return prefix != 0 ? name.substr(prefix).starts_with(kEscape) : is_kept(name);
}

std::optional<std::string_view> overlay_key(std::string_view name) {
  const size_t prefix = overlay_prefix(name);
  if (prefix == 0 || name.substr(prefix).starts_with(kEscape)) return std::nullopt;
  return name.substr(prefix);
}

std::string xattr_value_to_tar(std::string_view name, std::string value, const IdMaps& maps) {
  if (name.starts_with(kAclPrefix)) {
    map_acl(
        value, [&](uint32_t id) { return maps.uids.to_container(id); },
        [&](uint32_t id) { return maps.gids.to_container(id); });
  } else if (name == kCapability && !maps.uids.is_identity() &&
             is_capability(value, VFS_CAP_REVISION_3, XATTR_CAPS_SZ_3) &&
             get_le32(value, XATTR_CAPS_SZ_2) == maps.uids.to_host(0)) {
    value.resize(XATTR_CAPS_SZ_2);
    set_capability_version(value, VFS_CAP_REVISION_2);
  }
  return value;
}

std::string xattr_value_to_store(std::string_view name, std::string value, const IdMaps& maps) {
  if (name.starts_with(kAclPrefix)) {
    map_acl(
        value, [&](uint32_t id) { return maps.uids.to_host(id); },
        [&](uint32_t id) { return maps.gids.to_host(id); });
  } else if (name == kCapability && !maps.uids.is_identity() &&
             is_capability(value, VFS_CAP_REVISION_2, XATTR_CAPS_SZ_2)) {
    value.resize(XATTR_CAPS_SZ_3);
    put_le32(value, XATTR_CAPS_SZ_2, maps.uids.to_host(0));
    set_capability_version(value, VFS_CAP_REVISION_3);
  }
  return value;
}

}  // namespace veneer
