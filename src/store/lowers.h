// The lower directories of a store, at short paths: each index mounted once, shared by everything
// above it.
//
// Variant n is at <run>/<name>/<n>: a mount of its index, or a symbolic link to its directory. The
// name is that of the store: 12 hex digits of its identity and of the place of its root, so that a
// copy of a store, which has the same identity, has a directory of its own.
// That is gone after a reboot, as the mounts are, and made again on first use. The mount outlives
// the process, and is found again by the next one.
#pragma once

#include <string>
#include <string_view>

#include "base/fd.h"
#include "store/layout.h"
#include "store/meta.h"

namespace veneer {

class Lowers {
 public:
  // Makes <run>/<name> (0700).
  Lowers(const Layout& layout, const std::string& run, std::string_view identity);

  // The path of the variant as a lower directory, mounted now if it was not. Several threads and
  // processes may ask at once (flock(2) on <run>/<name>/lock while one mounts).
  // Throws what mount_erofs() does, and corrupt if its files are not there.
  std::string path(const VariantRecord& variant);
  // An empty directory, the second lower one of a single layer.
  std::string empty_path();
  // The same directory opened: a file has one device and inode number, whoever opens it.
  UniqueFd open(const VariantRecord& variant);
  // Lets go of the mount or link, if there is one; what is busy is detached.
  void release(int64_t variant);

  const std::string& directory() const { return path_; }

 private:
  const Layout& layout_;
  std::string path_;
  UniqueFd dir_;
};

}  // namespace veneer
