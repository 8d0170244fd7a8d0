#include "layer/entry_rules.h"

#include <sys/sysmacros.h>

#include <algorithm>

#include "base/error.h"
#include "layer/whiteout.h"

namespace veneer {

using tar::EntryType;

namespace {
constexpr uint32_t kNoId = UINT32_MAX;  // chown(2): leaves the owner as it is
}

timespec to_timespec(const tar::Timestamp& time) {
  return {.tv_sec = time.seconds, .tv_nsec = static_cast<long>(time.nanoseconds)};
}

void assign_entry_path(RelPath& path, std::string_view name, std::string_view what) {
  if (!path.assign_clamped(name))
    fail(Code::invalid_argument, "{} \"{}\" climbs out of the layer with \"..\"", what, name);
}

bool is_aufs_metadata(const RelPath& path) {
  const std::string_view text = path.str();
  size_t at = 0;
  size_t end = 0;
  while ((at = text.find(kWhiteoutPrefix, end)) != text.npos) {
    end = std::min(text.find('/', at), text.size());
    if (at > 0 && text[at - 1] != '/') continue;
    const std::string_view name = text.substr(at, end - at);
    const bool is_last = end == text.size();
    if ((is_last && name == kOpaqueName) || (at == 0 && name == kAufsLinkDir)) continue;
    if (name.starts_with(kAufsPrefix)) return true;
    if (!is_last) fail(Code::corrupt, "an entry in \"{}\", which is a whiteout", name);
  }
  return false;
}

void check_entry_owner(const tar::Entry& entry) {
  if (entry.uid == kNoId || entry.gid == kNoId)
    fail(Code::invalid_argument, "owner {}:{}: the id {} means none to Linux", entry.uid, entry.gid,
         kNoId);
}

dev_t entry_device(const tar::Entry& entry) {
  if (entry.type != EntryType::char_device && entry.type != EntryType::block_device) return 0;
  if (entry.device_major >= 1U << 12 || entry.device_minor >= 1U << 20)
    fail(Code::invalid_argument, "device {}:{} does not exist on Linux", entry.device_major,
         entry.device_minor);
  if (entry.type == EntryType::char_device && entry.device_major == 0 && entry.device_minor == 0)
    fail(Code::invalid_argument, "a character device 0:0 would hide a file of a lower layer");
  return ::makedev(entry.device_major, entry.device_minor);
}

bool takes_user_xattrs(EntryType type) {
  return type == EntryType::file || type == EntryType::directory;
}

}  // namespace veneer
