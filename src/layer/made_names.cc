#include "layer/made_names.h"

#include <algorithm>
#include <utility>

namespace veneer {

MadeNames::Mark MadeNames::mark(std::string_view path, Mark mark) {
  const auto make = [&](const auto& construct) {
    auto* text = static_cast<char*>(arena_.allocate(path.size() + 1, 1));
    std::ranges::copy(path, text);
    construct(std::string_view(text, path.size()), Mark::none);
  };
  Mark& stored = marks_.lazy_emplace(path, make)->second;
  return std::exchange(stored, std::max(stored, mark));
}

void MadeNames::mark_parents(std::string_view path) {
  for (size_t slash = path.rfind('/'); slash != std::string_view::npos; slash = path.rfind('/')) {
    path = path.substr(0, slash);
    // All above a marked directory is marked too.
    if (mark(path, Mark::implied) != Mark::none) return;
  }
}

MadeNames::Mark MadeNames::find(std::string_view path) const {
  const auto found = marks_.find(path);
  return found == marks_.end() ? Mark::none : found->second;
}

}  // namespace veneer
