#include "graphdriver/naive_diff.h"

#include <optional>

namespace veneer {

// The two views of a comparison, and what they borrow.
struct NaiveDiffDriver::Views {
  std::vector<UniqueFd> now_layers;
  std::vector<UniqueFd> before_layers;
  View now;
  std::optional<View> before;
};

// No lock is held while the trees are read and a sink waits: the same layer may be got and put, and
// what changes under the reader is an error, not a torn entry.
NaiveDiffDriver::Views NaiveDiffDriver::open_views(std::string_view id,
                                                   std::string_view parent) const {
  Views views;
  views.now.marks = Marks::trusted;  // as the driver mounts: user.overlay.* is the container's own
  views.now_layers = open_view(id);
  for (const UniqueFd& layer : views.now_layers) views.now.layers.push_back(layer.get());
  if (parent.empty()) return views;
  views.before_layers = open_view(parent);
  views.before.emplace(View{.layers = {}, .marks = Marks::trusted});
  for (const UniqueFd& layer : views.before_layers) views.before->layers.push_back(layer.get());
  return views;
}

void NaiveDiffDriver::diff(std::string_view id, std::string_view parent, Sink& to) {
  const Views views = open_views(id, parent);
  write_diff(views.now, views.before, {.id_maps = id_maps_, .epoch = {}}, to);
}

std::vector<Change> NaiveDiffDriver::changes(std::string_view id, std::string_view parent) {
  const Views views = open_views(id, parent);
  return list_changes(views.now, views.before);
}

uint64_t NaiveDiffDriver::diff_size(std::string_view id, std::string_view parent) {
  const Views views = open_views(id, parent);
  return veneer::diff_size(views.now, views.before);
}

}  // namespace veneer
