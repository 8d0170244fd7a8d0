// The snapshotter: the store's interface, with the words and rules of containerd's
// (core/snapshots/snapshotter.go).
//
// A snapshot is active (writable), a view (read-only), or committed (a layer over its parent).
// Active ones and views are known by a key, committed ones by a name; both are one namespace.
// A parent is always the name of a committed snapshot, "" is none.
//
// All calls may come from any thread and any process. Each is one transaction: after an error or a
// crash it is wholly done or not at all.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mount/mount.h"
#include "store/time.h"

namespace veneer {

enum class Kind { view, active, committed };

// "view", "active", "committed".
std::string_view to_string(Kind kind);

using Labels = std::map<std::string, std::string>;

struct SnapshotInfo {
  std::string name;  // or key
  std::string parent;
  Kind kind = Kind::active;
  Time created;
  Time updated;
  Labels labels;
};

// Without the parents. What lies on disk: blocks of 512 bytes, inodes counted once.
struct Usage {
  uint64_t size_bytes = 0;
  uint64_t inodes = 0;
  bool operator==(const Usage&) const = default;
};

struct CommitOptions {
  Labels labels;  // all that the committed snapshot has; none are inherited
  // Names the parent of a snapshot that was prepared without one (rebase).
  std::optional<std::string> parent;
};

class Snapshotter {
 public:
  virtual ~Snapshotter() = default;

  // not_found.
  virtual SnapshotInfo stat(std::string_view key) = 0;
  // Replaces labels: all of them if `fields` is empty or names "labels", else those that
  // "labels.<key>" names (one that `info` lacks is removed). Only labels may be changed: other
  // fields are invalid_argument. Returns what is stored. not_found.
  virtual SnapshotInfo update(const SnapshotInfo& info, const std::vector<std::string>& fields) = 0;
  // Known for committed snapshots; active ones are walked, their own directory only. not_found.
  virtual Usage usage(std::string_view key) = 0;
  // How to mount an active snapshot or a view: the same each time. Makes sure that its lower
  // layers are there to be mounted. not_found; failed_precondition for a committed one.
  virtual std::vector<Mount> mounts(std::string_view key) = 0;
  // already_exists (the key), not_found (the parent), invalid_argument (the parent is not
  // committed; the key is empty or over limits::kSnapshotKeyBytes; a label is over
  // limits::kLabelBytes).
  virtual std::vector<Mount> prepare(std::string_view key, std::string_view parent,
                                     const Labels& labels) = 0;
  virtual std::vector<Mount> view(std::string_view key, std::string_view parent,
                                  const Labels& labels) = 0;
  // `key` goes, `name` comes. not_found (key; a parent of `options`), already_exists (name),
  // failed_precondition (a view or a committed one; a parent of `options` that is not committed),
  // invalid_argument (a parent of `options` that is not the one it has).
  virtual void commit(std::string_view name, std::string_view key,
                      const CommitOptions& options) = 0;
  // Metadata and a rename; the data goes later (cleanup()). not_found; failed_precondition for one
  // that has children.
  virtual void remove(std::string_view key) = 0;
  // Calls `visit` for each snapshot that one of the filters (store/filter.h) takes, in the order of
  // their making; for all without filters. What changes meanwhile may or may not be seen.
  virtual void walk(const std::vector<std::string>& filters,
                    const std::function<void(const SnapshotInfo&)>& visit) = 0;
  // Deletes what was removed, and waits for others that do.
  virtual void cleanup() = 0;
};

}  // namespace veneer
