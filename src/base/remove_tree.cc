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

bool is_in_use(const Error& error) {
  const auto* system = dynamic_cast<const SysError*>(&error);
  return system ? system->error_number() == EBUSY : error.code() == Code::failed_precondition;
}

class TreeRemover {
 public:
  explicit TreeRemover(const DetachMount& detach) : detach_(detach) {}

  void remove_tree(int dir, PathView name) {
    past_mounts(dir, name, [&] {
      remove_children(open_same_mount(dir, name).get());
      remove_dir_at(dir, name);
    });
  }

  void remove_file(int dir, PathView name) {
    past_mounts(dir, name, [&] { unlink_at(dir, name); });
  }

  void remove_children(int top) {
    top_ = top;
    // What was lifted to the top while it was read may be missed by the reader: go again until it
    // is empty.
    for (;;) {
      remove_children_of(top, 0);
      if (!DirReader(top).next()) return;
    }
  }

 private:
  // What is mounted on goes after its mounts.
  template <typename Act>
  void past_mounts(int dir, PathView name, const Act& act) {
    for (;;) {
      try {
        return act();
      } catch (const Error& error) {
        if (!detach_ || !is_in_use(error) || !detach_(dir, name)) throw;
      }
    }
  }

  void remove_children_of(int dir, int depth) {
    DirReader reader(dir);
    while (const std::optional<DirEntry> entry = reader.next()) remove(dir, *entry, depth);
  }

  void remove(int dir, const DirEntry& entry, int depth) {
    const PathView name = entry.path();
    const bool is_dir =
        entry.type() == DT_UNKNOWN ? S_ISDIR(stat_at(dir, name).st_mode) : entry.type() == DT_DIR;
    if (!is_dir) return remove_file(dir, name);
    past_mounts(dir, name, [&] {
      if (depth >= kMaxDepth && lift(dir, name)) return;
      remove_children_of(open_same_mount(dir, name).get(), depth + 1);
      remove_dir_at(dir, name);
    });
  }

  bool lift(int dir, PathView name) {
    for (;; ++lifted_) {
      const RelPath target = RelPath::parse_name(fmt::format(".lifted-{}", lifted_), "name");
      if (exists_at(top_, target)) continue;
      try {
        rename_at(dir, name, top_, target);
        return true;
      } catch (const SysError& error) {
        if (error.error_number() == EXDEV) return false;  // overlayfs without redirect_dir
        throw;
      }
    }
  }

  const DetachMount& detach_;
  int top_ = -1;
  uint64_t lifted_ = 0;
};

}  // namespace

void remove_children(int dir) {
  const DetachMount none;
  TreeRemover(none).remove_children(dir);
}

bool remove_tree_at(int dir, PathView path, const DetachMount& detach) {
  const std::optional<struct stat> st = maybe_stat_at(dir, path);
  if (!st) return false;
  TreeRemover remover(detach);
  if (S_ISDIR(st->st_mode)) {
    remover.remove_tree(dir, path);
  } else {
    remover.remove_file(dir, path);
  }
  return true;
}

}  // namespace veneer
