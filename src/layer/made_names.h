// The names that a layer has made so far, while it is applied.
//
// A whiteout hides what lower layers have, never what its own layer makes, whichever comes first in
// the tar (image-spec layer.md, "Whiteouts"). So the applier must know which names are the layer's
// own.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/hash/hash.h>
#include <absl/strings/string_view.h>

#include <memory_resource>
#include <string_view>

namespace veneer {

class MadeNames {
 public:
  enum class Mark { none, implied, explicit_ };

  // `path` without symbolic links, relative to the root. An implied mark does not replace an
  // explicit one. Returns the mark that it had.
  Mark mark(std::string_view path, Mark mark);
  // Marks the directories above `path` as implied.
  void mark_parents(std::string_view path);
  Mark find(std::string_view path) const;

 private:
  struct Hash {
    size_t operator()(std::string_view path) const {
      // Names are hostile: it has a seed, but for std's view, to which Debian's Abseil gives none.
      return absl::HashOf(absl::string_view(path.data(), path.size()));
    }
  };

  // Names live as long as the layer is applied: one arena, no freeing.
  std::pmr::monotonic_buffer_resource arena_{64 * 1024};
  absl::flat_hash_map<std::string_view, Mark, Hash> marks_;
};

}  // namespace veneer
