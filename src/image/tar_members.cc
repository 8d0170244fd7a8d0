#include "image/tar_members.h"

#include <algorithm>

#include "base/error.h"
#include "base/limits.h"
#include "image/select.h"
#include "tar/reader.h"

namespace veneer {

namespace {

// A tar file for a reader that only wants headers: of the bytes that it is known to skip it gets
// their number, not their values.
class HeaderSource : public Source {
 public:
  explicit HeaderSource(int fd) : fd_(fd), size_(static_cast<uint64_t>(stat_fd(fd).st_size)) {}
  void ignore_until(uint64_t offset) { ignored_end_ = std::min(offset, size_); }

  Bytes next(Room room) override {
    size_t count = 0;
    if (at_ < ignored_end_)
      count = static_cast<size_t>(std::min<uint64_t>(room.size(), ignored_end_ - at_));
    else
      count = read_some_at(fd_, room, at_);
    at_ += count;
    return room.first(count);
  }

 private:
  int fd_;
  uint64_t size_;
  uint64_t at_ = 0;
  uint64_t ignored_end_ = 0;
};

// Writes what passes to a file.
class SpoolSource : public Source {
 public:
  SpoolSource(Source& from, int fd) : from_(from), fd_(fd) {}
  Bytes next(Room room) override {
    const Bytes bytes = from_.next(room);
    write_all(fd_, bytes);
    return bytes;
  }

 private:
  Source& from_;
  int fd_;
};

}  // namespace

class TarMembers::Scanner {
 public:
  explicit Scanner(Source& from) : reader_(from, limits::kArchiveMembers) {}

  // Calls `seen` with every entry.
  template <typename Seen>
  void scan(std::map<std::string, Member>& members, Seen seen) {
    while (const tar::Entry* entry = reader_.next()) {
      seen(*entry);
      if (entry->type == tar::EntryType::directory) continue;
      // Nothing can refer to a name that leads out, so such a member is as good as absent.
      auto name = maybe_member_name(entry->path);
      if (!name) continue;
      members.insert_or_assign(std::move(*name), member_of(*entry));
    }
  }
  void drain() { reader_.drain(); }

 private:
  static Member member_of(const tar::Entry& entry) {
    Member member{
        .kind = Kind::other, .offset = entry.data_offset, .size = entry.stored_size, .target = {}};
    if (entry.type == tar::EntryType::file && !entry.sparse) member.kind = Kind::file;
    if (entry.type == tar::EntryType::symlink) {
      member.kind = Kind::link;
      // Relative to the directory of the link, unless the target is absolute and refused.
      const std::string& target = entry.link_target;
      if (!target.starts_with('/'))
        member.target = maybe_member_name(entry.path + "/../" + target).value_or("");
    }
    if (entry.type == tar::EntryType::hard_link) {
      member.kind = Kind::link;
      member.target = maybe_member_name(entry.link_target).value_or("");
    }
    return member;
  }

  tar::Reader reader_;
};

TarMembers TarMembers::of_file(UniqueFd file) {
  TarMembers tar(std::move(file));
  HeaderSource source(tar.file_.get());
  Scanner(source).scan(tar.members_, [&](const tar::Entry& entry) {
    source.ignore_until(entry.data_offset + entry.stored_size);
  });
  return tar;
}

TarMembers TarMembers::of_stream(Source& from, UniqueFd spool) {
  TarMembers tar(std::move(spool));
  SpoolSource source(from, tar.file_.get());
  Scanner scanner(source);
  scanner.scan(tar.members_, [](const tar::Entry&) {});
  scanner.drain();
  return tar;
}

std::unique_ptr<MemberSource> TarMembers::maybe_open(const std::string& name, Links links) const {
  auto found = members_.find(name);
  if (found == members_.end()) return nullptr;
  if (found->second.kind == Kind::link) {
    const std::string& target = found->second.target;
    if (links == Links::refuse) fail(Code::corrupt, "{} is a link, not a file", shown(name));
    if (target.empty()) fail(Code::corrupt, "{} links to outside of the archive", shown(name));
    found = members_.find(target);
    if (found == members_.end())
      fail(Code::corrupt, "{} links to {}, which is missing", shown(name), shown(target));
  }
  const Member& member = found->second;
  if (member.kind != Kind::file) fail(Code::corrupt, "{} is not a plain file", shown(found->first));
  return std::make_unique<MemberSource>(name, file_.get(), member.offset, member.size);
}

}  // namespace veneer
