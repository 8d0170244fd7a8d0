// A tar as a map from member name to where its bytes are; only the headers are read.
#pragma once

#include <map>
#include <string>

#include "image/members.h"

namespace veneer {

class TarMembers : public Members {
 public:
  // Indexes the tar that is the whole of a regular file. What lies between headers is not read.
  static TarMembers of_file(UniqueFd file);
  // Copies the tar that `from` yields to `spool`, an empty file, while it indexes it; reads `from`
  // to its end. Both throw the errors of tar::Reader; resource_exhausted beyond kArchiveMembers.
  static TarMembers of_stream(Source& from, UniqueFd spool);

  std::unique_ptr<MemberSource> maybe_open(const std::string& name, Links links) const override;

 private:
  enum class Kind { file, link, other };
  struct Member {
    Kind kind = Kind::other;
    uint64_t offset = 0;
    uint64_t size = 0;
    std::string target;  // of links: the name of a member; empty if it leads out of the archive
  };
  class Scanner;

  explicit TarMembers(UniqueFd file) : file_(std::move(file)) {}

  UniqueFd file_;
  std::map<std::string, Member> members_;  // the last of duplicate names, as tar extracts them
};

}  // namespace veneer
