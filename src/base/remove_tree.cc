#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "base/at.h"
#include "base/error.h"

namespace veneer {

namespace {

// A tree may be deeper than there are descriptors or stack: a container can nest directories
// without end. Below this depth a directory is moved up beside the others at the top first.
constexpr int kMaxDepth = 64;

class TreeRemover {
 public:
  explicit TreeRemover(int top) : top_(top) {}

  void remove_children_of(int dir, int depth) {
    DirReader reader(dir);
    while (const std::optional<DirEntry> entry = reader.next()) remove(dir, *entry, depth);
  }

 private:
  void remove(int dir, const DirEntry& entry, int depth) {
    const PathView name = entry.path();
    const bool is_dir =
        entry.type() == DT_UNKNOWN ? S_ISDIR(stat_at(dir, name).st_mode) : entry.type() == DT_DIR;
    if (!is_dir) return unlink_at(dir, name);
    if (depth == kMaxDepth) return lift(dir, name);
    {
      const UniqueFd child = open_same_mount(dir, name);
      remove_children_of(child.get(), depth + 1);
    }
    remove_dir_at(dir, name);
  }

  void lift(int dir, PathView name) {
    for (;; ++lifted_) {
      const RelPath target = RelPath::parse_name(fmt::format(".lifted-{}", lifted_), "name");
      if (exists_at(top_, target)) continue;
      rename_at(dir, name, top_, target);
      return;
    }
  }

  int top_;
  uint64_t lifted_ = 0;
};

}  // namespace

void remove_children(int dir) {
  TreeRemover remover(dir);
  // What was lifted to the top while it was read may be missed by the reader: go again until it is
  // empty.
  for (;;) {
    remover.remove_children_of(dir, 0);
    if (!DirReader(dir).next()) return;
  }
}

bool remove_tree_at(int dir, PathView path) {
  const std::optional<struct stat> st = maybe_stat_at(dir, path);
  if (!st) return false;
  if (S_ISDIR(st->st_mode)) {
    {
      const UniqueFd tree = open_same_mount(dir, path);
      remove_children(tree.get());
    }
    remove_dir_at(dir, path);
  } else {
    unlink_at(dir, path);
  }
  return true;
}

}  // namespace veneer
