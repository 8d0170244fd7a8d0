#include "rpc/extraction.h"

namespace veneer {

namespace {

constexpr std::string_view kExtractionKey = "extract";

const std::string* find_label(const Labels& labels, std::string_view key) {
  const auto found = labels.find(std::string(key));
  return found == labels.end() ? nullptr : &found->second;
}

}  // namespace

// A backend's keys are "<namespace>/<number>/<key>".
bool is_extraction(std::string_view key) {
  const size_t slash = key.find('/', key.find('/') + 1);
  return key.substr(slash == std::string_view::npos ? 0 : slash + 1).starts_with(kExtractionKey);
}

bool is_extracted_alone(std::string_view key, std::string_view parent, const Labels& labels) {
  if (!parent.empty()) return false;
  return find_label(labels, kParentChainId) != nullptr ||
         (find_label(labels, kSnapshotRef) != nullptr && is_extraction(key));
}

std::optional<std::string> maybe_extracted(Snapshotter& snapshotter, std::string_view parent,
                                           const Labels& labels) {
  const std::string* const wanted = find_label(labels, kSnapshotRef);
  if (wanted == nullptr || wanted->empty()) return std::nullopt;
  std::optional<std::string> found;
  const std::string has_reference = "kind==committed,labels.\"" + std::string(kSnapshotRef) + '"';
  snapshotter.walk({has_reference}, [&](const SnapshotInfo& info) {
    if (info.parent == parent && info.labels.at(std::string(kSnapshotRef)) == *wanted)
      found = info.name;
  });
  return found;
}

std::vector<Mount> extraction_mounts(std::string_view key, std::string_view parent,
                                     const Labels& labels, std::vector<Mount> mounts) {
  if (!is_extracted_alone(key, parent, labels) || mounts.size() != 1 || mounts[0].type != "bind")
    return mounts;
  return {{.type = "overlay", .source = "overlay", .options = {"upperdir=" + mounts[0].source}}};
}

}  // namespace veneer
