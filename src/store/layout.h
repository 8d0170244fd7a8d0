// The directories of a store, and the names in them: made and read here and nowhere else.
// docs/FORMAT.md describes them. The one place of absolute paths, which overlayfs and people need.
#pragma once

#include <cstdint>
#include <string>

#include "base/at.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/path.h"

namespace veneer {

class Layout {
 public:
  // Opens <root>, and makes it (0700) with its directories if they are not there.
  explicit Layout(const std::string& root);

  int root() const { return root_.get(); }
  int layers() const { return layers_.get(); }        // layers/sha256
  int snapshots() const { return snapshots_.get(); }  // snapshots
  int blobs() const { return blobs_.get(); }          // blobs/sha256
  int staging() const { return staging_.get(); }      // staging
  int trash() const { return trash_.get(); }          // trash

  // Of the file system that all of them are on; see mount/mount.h.
  bool is_journal_in_order() const { return is_journal_in_order_; }

  // Absolute and resolved.
  const std::string& path() const { return path_; }
  std::string snapshot_path(int64_t id) const;  // <root>/snapshots/<id>
  std::string layer_path(const Digest& diff_id) const;

  static RelPath snapshot_name(int64_t id);          // "<id>"
  static RelPath digest_name(const Digest& digest);  // "<hex>"

  // Opened: snapshots/<id>, and its fs. corrupt if they are not there.
  UniqueFd open_snapshot(int64_t id) const;
  UniqueFd open_upper(int64_t id) const;

  // Moves `name` out of `dir` to a fresh name in trash. The deletion comes later.
  void discard(int dir, const RelPath& name) const;

 private:
  std::string path_;
  UniqueFd root_;
  UniqueFd layers_;
  UniqueFd snapshots_;
  UniqueFd blobs_;
  UniqueFd staging_;
  UniqueFd trash_;
  bool is_journal_in_order_ = false;
};

// The parts of a snapshot's directory.
inline constexpr PathView kUpperName = "fs";
inline constexpr PathView kWorkName = "work";
inline constexpr PathView kMergedName = "merged";

// A directory below staging/ while its process makes something: locked with flock(2) as long as it
// lives, so that others can tell it from what a crash left. Emptied and removed with the object,
// unless published.
class StagingDir {
 public:
  explicit StagingDir(const Layout& layout);
  StagingDir(StagingDir&&) noexcept;
  ~StagingDir();

  int fd() const { return dir_.get(); }
  // Renames the directory to `name` in `dir`, where nothing may be, and makes that durable, and the
  // names in it, if it shall be so now. After an error it is where it was. The lock goes with the
  // object.
  enum class Durable { now, later };
  void publish(int dir, const RelPath& name, Durable durable = Durable::now);

 private:
  const Layout& layout_;
  RelPath name_;
  UniqueFd dir_;
  bool is_published_ = false;
};

// What empty_trash() would delete now, below the root, and why.
struct Leftover {
  std::string path;
  std::string_view reason;
};
std::vector<Leftover> list_leftovers(const Layout& layout);

// Deletes what is in trash/, and in staging/ what no process holds; what is mounted on the merged/
// of a snapshot there is detached. Several may do so at once: each tree is one's alone. Goes on
// after an error with the rest, and throws the first at the end.
// A tree in trash/ that another one is deleting is left to it, or waited for.
enum class DeletedByOthers { left, awaited };
void empty_trash(const Layout& layout, DeletedByOthers others = DeletedByOthers::left);

}  // namespace veneer
