// Trees in a test: a scratch directory, and one line that says everything about each entry.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/at.h"

namespace veneer::test {

// A directory on a real file system, removed with what is in it and what is mounted there.
// VENEER_SCRATCH says where; /var/tmp else.
class Scratch {
 public:
  Scratch();
  Scratch(const Scratch&) = delete;
  ~Scratch();
  int dir() const { return dir_.get(); }
  const std::string& path() const { return path_; }
  // Makes a directory in it and opens it.
  UniqueFd make(const std::string& name);
  // Where something is mounted below it; and nothing is afterwards.
  std::vector<std::string> mounts() const;
  void unmount_all() const;

 private:
  std::string path_;
  UniqueFd dir_;
};

struct Describe {
  bool times = true;
  bool directory_times = true;
  bool hard_links = true;
  bool overlay_xattrs = false;  // trusted.overlay.*, which overlayfs leaves in uppers
};

// Path ("." for the top) -> type, mode, owner, time, size and content, link target or device,
// xattrs and the first name of its hard-link group.
std::map<std::string, std::string> describe_tree(int dir, const Describe& what = {});

// chattr(1) +i or -i: what cannot be removed, by root either.
void set_immutable(int dir, PathView path, bool is_immutable);

// The names only, sorted, joined by blanks: "d d/new f". Directories without their slash.
std::string names_of(int dir);

}  // namespace veneer::test
