#include "layer/lower.h"

#include <algorithm>
#include <set>

#include "base/error.h"

namespace veneer {

struct LowerView::Place {
  MergedDir dir;
  Found found;
  RelPath leaf;  // "" for the root itself
};

std::optional<LowerView::Place> LowerView::walk(const RelPath& path) const {
  if (view_.layers.empty()) return std::nullopt;
  Place place;
  place.dir = reader_.root(place.found);
  std::string_view left = path.str();
  while (!left.empty()) {
    if (!place.leaf.empty()) {
      if (!S_ISDIR(place.found.st.st_mode)) return std::nullopt;
      place.dir = reader_.open_dir(place.dir, place.leaf, place.found);
    }
    const size_t slash = std::min(left.find('/'), left.size());
    place.leaf = RelPath::parse_name(left.substr(0, slash), "name");
    left.remove_prefix(std::min(slash + 1, left.size()));
    std::optional<Found> found = reader_.find(place.dir, place.leaf);
    if (!found) return std::nullopt;
    place.found = std::move(*found);
  }
  return place;
}

std::optional<LowerEntry> LowerView::find(const RelPath& path) const {
  std::optional<Place> place = walk(path);
  if (!place) return std::nullopt;
  reader_.read_attributes(place->dir, place->leaf, place->found);
  LowerEntry entry{.st = place->found.st, .link_target = {}, .xattrs = place->found.xattrs};
  if (S_ISLNK(entry.st.st_mode))
    entry.link_target = read_link_at(place->dir.parts[place->found.part].fd, place->leaf);
  return entry;
}

std::vector<std::string> LowerView::list_root() const {
  if (view_.layers.empty()) return {};
  Found found;
  const MergedDir root = reader_.root(found);
  std::set<std::string> names;
  for (const DirPart& part : root.parts)
    for (std::string& name : list_dir(part.fd)) names.insert(std::move(name));
  std::vector<std::string> there;
  for (const std::string& name : names)
    if (reader_.find(root, RelPath::parse_name(name, "name"))) there.push_back(name);
  return there;
}

UniqueFd LowerView::open_data(const RelPath& path) const {
  std::optional<Place> place = walk(path);
  if (!place) fail(Code::not_found, "{} is not in the lower layers", path.str());
  reader_.read_attributes(place->dir, place->leaf, place->found);
  return reader_.open_data(place->dir, place->leaf, place->found);
}

}  // namespace veneer
