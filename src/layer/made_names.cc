#include "layer/made_names.h"

#include <algorithm>

namespace veneer {

void MadeNames::mark(std::string_view path, Mark mark) {
  if (const auto found = marks_.find(path); found != marks_.end()) {
    found->second = std::max(found->second, mark);
    return;
  }
  auto* text = static_cast<char*>(arena_.allocate(path.size() + 1, 1));
  std::ranges::copy(path, text);
  marks_.emplace(std::string_view(text, path.size()), mark);
}

void MadeNames::mark_parents(std::string_view path) {
  for (size_t slash = path.rfind('/'); slash != std::string_view::npos; slash = path.rfind('/')) {
    path = path.substr(0, slash);
    // All above a marked directory is marked too.
    if (find(path) != Mark::none) return;
    mark(path, Mark::implied);
  }
}

MadeNames::Mark MadeNames::find(std::string_view path) const {
  const auto found = marks_.find(path);
  return found == marks_.end() ? Mark::none : found->second;
}

}  // namespace veneer
