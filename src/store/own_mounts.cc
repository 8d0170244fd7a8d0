#include "store/own_mounts.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/error.h"

namespace veneer {

namespace {

constexpr std::string_view kBindOptions[] = {"bind", "rbind", "ro", "rw"};
constexpr std::string_view kUpperOption = "upperdir=";
constexpr std::string_view kLowerOption = "lowerdir=";

// Undoes what overlayfs and mount(8) want escaped, and splits at each `separator` that was not.
// Nothing if the last backslash escapes nothing.
std::optional<std::vector<std::string>> split_paths(std::string_view text, char separator) {
  std::vector<std::string> paths(1);
  bool is_escaped = false;
  for (const char c : text) {
    if (is_escaped || (c != '\\' && c != separator)) {
      paths.back() += c;
      is_escaped = false;
    } else if (c == '\\') {
      is_escaped = true;
    } else {
      paths.emplace_back();
    }
  }
  if (is_escaped) return std::nullopt;
  return paths;
}

std::optional<MountPaths> read_overlay(const Mount& mount) {
  MountPaths paths;
  for (const std::string& option : mount.options) {
    if (option.starts_with(kUpperOption)) {
      // No list: a colon in the path is not escaped, and a comma is.
      auto upper = split_paths(std::string_view(option).substr(kUpperOption.size()), ',');
      if (!upper || upper->size() != 1 || upper->front().empty() || !paths.upper.empty())
        return std::nullopt;
      paths.upper = std::move(upper->front());
    } else if (option.starts_with(kLowerOption)) {
      auto lower = split_paths(std::string_view(option).substr(kLowerOption.size()), ':');
      if (!lower || !paths.lower.empty()) return std::nullopt;
      paths.lower = std::move(*lower);
    }
  }
  if (paths.upper.empty() && paths.lower.empty()) return std::nullopt;
  return paths;
}

std::optional<int64_t> read_number(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number <= 0) return std::nullopt;
  return number;
}

// The number in "<before><number><after>", written in the only way that we write it.
std::optional<int64_t> number_between(std::string_view path, std::string_view before,
                                      std::string_view after) {
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) ||
      !path.ends_with(after))
    return std::nullopt;
  path.remove_prefix(before.size());
  path.remove_suffix(after.size());
  const std::optional<int64_t> number = read_number(path);
  if (number && std::to_string(*number) != path) return std::nullopt;
  return number;
}

std::optional<int64_t> snapshot_of_path(const Layout& layout, std::string_view path) {
  return number_between(path, layout.path() + "/snapshots/",
                        fmt::format("/{}", kUpperName.c_str()));
}

class LowerSearch {
 public:
  LowerSearch(Store& store, Meta::Transaction& transaction, std::vector<std::string> lower)
      : store_(store), transaction_(transaction), lower_(std::move(lower)) {
    // The second of a single layer.
    if (lower_.size() == 2 && lower_.back() == store_.lowers().empty_path()) lower_.pop_back();
  }

  std::optional<SnapshotRecord> find(std::string_view space) {
    if (const auto id = snapshot_of_path(store_.layout(), lower_.front())) {
      auto snapshot = maybe_snapshot_at(transaction_, space, *id);
      if (snapshot && matches(*snapshot)) return snapshot;
      return std::nullopt;
    }
    const auto variant = number_between(lower_.front(), store_.lowers().directory() + "/", "");
    return variant ? find_variant(space, *variant) : std::nullopt;
  }

 private:
  bool matches(const SnapshotRecord& snapshot) {
    return snapshot.info.kind != Kind::view &&
           store_.lower_paths(transaction_, snapshot.id) == lower_;
  }

  std::optional<SnapshotRecord> find_variant(std::string_view space, int64_t variant) {
    std::optional<SnapshotRecord> found;
    transaction_.for_each_snapshot(space, [&](const SnapshotRecord& snapshot) {
      if (!found && snapshot.variant && snapshot.variant->id == variant && matches(snapshot))
        found = snapshot;
    });
    return found;
  }

  Store& store_;
  Meta::Transaction& transaction_;
  std::vector<std::string> lower_;
};

}  // namespace

std::optional<MountPaths> read_mount(const Mount& mount) {
  if (mount.type == "overlay") return read_overlay(mount);
  const bool is_bind = mount.type == "bind" && !mount.source.empty() &&
                       std::ranges::all_of(mount.options, [](const std::string& option) {
                         return std::ranges::find(kBindOptions, option) != std::end(kBindOptions);
                       });
  if (!is_bind) return std::nullopt;
  return MountPaths{.bind = mount.source, .upper = {}, .lower = {}};
}

std::optional<SnapshotRecord> maybe_snapshot_at(Meta::Transaction& transaction,
                                                std::string_view space, int64_t id) {
  auto page = transaction.list_snapshots(space, id - 1, 1);
  if (page.empty() || page.front().id != id) return std::nullopt;
  return std::move(page.front());
}

std::optional<SnapshotRecord> find_mounted(Store& store, Meta::Transaction& transaction,
                                           std::string_view space, const Mount& mount) {
  std::optional<MountPaths> paths = read_mount(mount);
  if (!paths) return std::nullopt;
  const std::string& own = paths->bind.empty() ? paths->upper : paths->bind;
  if (own.empty()) return LowerSearch(store, transaction, std::move(paths->lower)).find(space);
  const auto id = snapshot_of_path(store.layout(), own);
  return id ? maybe_snapshot_at(transaction, space, *id) : std::nullopt;
}

}  // namespace veneer
