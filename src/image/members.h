// The files that an image is made of, wherever they lie: in a directory or in a tar.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "stream/stream.h"

namespace veneer {

// The normal form of a member's name: "./a//b" is "a/b". Nothing for absolute names, names that
// climb out of the archive with "..", and those with a NUL.
std::optional<std::string> maybe_member_name(std::string_view text);

// The bytes of one member. Its errors say the member's name.
class MemberSource : public Source {
 public:
  // Borrows `fd`.
  MemberSource(std::string name, int fd, uint64_t offset, uint64_t size)
      : name_(std::move(name)), size_(size), range_(fd, offset, size) {}
  MemberSource(std::string name, UniqueFd fd, uint64_t size)
      : name_(std::move(name)), fd_(std::move(fd)), size_(size), range_(fd_.get(), 0, size) {}
  uint64_t size_bytes() const { return size_; }
  Bytes next(Room room) override;

 private:
  std::string name_;
  UniqueFd fd_;
  uint64_t size_;
  FileRangeSource range_;
};

enum class Links { refuse, follow };

// Read-only; several threads may use one object.
class Members {
 public:
  virtual ~Members() = default;
  // Nothing if there is none of that (normal) name. Throws corrupt for what is not a regular file
  // with all its bytes in one place; a link counts as that if it is to be followed and leads, in
  // one step, to one inside the archive. Links in directories are as good as absent.
  virtual std::unique_ptr<MemberSource> maybe_open(const std::string& name,
                                                   Links links = Links::refuse) const = 0;
  // Throws corrupt, naming the member, if there is none.
  std::unique_ptr<MemberSource> open(const std::string& name, Links links = Links::refuse) const;
  // A document, whole. Throws resource_exhausted beyond kJsonBytes.
  std::string read(const std::string& name) const;
};

class DirectoryMembers : public Members {
 public:
  explicit DirectoryMembers(UniqueFd dir) : dir_(std::move(dir)) {}
  std::unique_ptr<MemberSource> maybe_open(const std::string& name, Links links) const override;

 private:
  UniqueFd dir_;
};

}  // namespace veneer
