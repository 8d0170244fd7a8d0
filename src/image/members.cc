#include "image/members.h"

#include "base/at.h"
#include "base/error.h"
#include "base/limits.h"
#include "image/context.h"
#include "image/select.h"

namespace veneer {

std::optional<std::string> maybe_member_name(std::string_view text) {
  if (text.starts_with('/') || text.find('\0') != std::string_view::npos) return {};
  RelPath path;
  if (!path.assign_clamped(text)) return {};
  return path.str();
}

Bytes MemberSource::next(Room room) {
  try {
    return range_.next(room);
  } catch (Error& error) {
    error.add_context(shown(name_));
    throw;
  }
}

std::unique_ptr<MemberSource> Members::open(const std::string& name, Links links) const {
  auto member = maybe_open(name, links);
  if (!member) fail(Code::corrupt, "{} is missing", shown(name));
  return member;
}

std::string Members::read(const std::string& name) const {
  const auto member = this->open(name);
  return read_all(*member, limits::kJsonBytes, shown(name));
}

std::unique_ptr<MemberSource> DirectoryMembers::maybe_open(const std::string& name, Links) const {
  // Not blocking, so that a FIFO in an image's place is refused and not waited for.
  auto fd = maybe_resolve_beneath(dir_.get(), RelPath::parse(name), O_RDONLY | O_NONBLOCK);
  if (!fd) return nullptr;
  const struct stat st = stat_fd(fd->get());
  if (!S_ISREG(st.st_mode)) fail(Code::corrupt, "{} is not a regular file", shown(name));
  return std::make_unique<MemberSource>(name, std::move(*fd), static_cast<uint64_t>(st.st_size));
}

}  // namespace veneer
