// A store: one root directory, opened. What its parts share.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "layer/diff.h"
#include "store/layout.h"
#include "store/lowers.h"
#include "store/meta.h"
#include "store/snapshotter.h"

namespace veneer {

class OpenMark;

struct StoreOptions {
  std::string root;
  std::string run;
  // Nothing is synced: a power cut may lose or damage what was written since. A crash of the
  // process alone does not.
  bool is_volatile = false;
  // What crashes left in trash/ and staging/ is left to a TrashThread: a big tree would be waited
  // for.
  bool leaves_trash = false;
  // How new layers are kept; by default packed where the kernel can mount that from <root>.
  std::optional<Form> form;
};

// May be used by several threads, and many processes may have one root open.
class Store {
 public:
  // Makes the root if it is not there, and clears what crashes left: unlocked staging, directories
  // of layers and snapshots that no row knows (store/recover.h; only for the first of the processes
  // that have it open).
  explicit Store(const StoreOptions& options);
  ~Store();

  const StoreOptions& options() const { return options_; }
  const Layout& layout() const { return layout_; }
  Meta& meta() { return meta_; }
  Lowers& lowers() { return lowers_; }
  OpenMark& open_mark() { return *open_mark_; }

  // How new layers are kept here: as asked, or probed once. `why_not_packed` says what the kernel
  // lacks, "" if nothing.
  Form form();
  const std::string& why_not_packed();

  // The lower directories of a snapshot that is committed or a layer, topmost first: paths for a
  // mount, or opened and as a view for layer/diff and layer/tree. A layer that an image has twice
  // (as many have an empty one) is one path: overlayfs takes no directory twice (ELOOP), and the
  // lower one shows nothing that the upper one does not.
  std::vector<std::string> lower_paths(Meta::Transaction& transaction, int64_t snapshot);
  struct OpenedView {
    std::vector<UniqueFd> directories;
    View view;
  };
  OpenedView open_view(Meta::Transaction& transaction, std::optional<int64_t> snapshot);

  // Mounts a snapshot that is active or a view on snapshots/<id>/merged and returns the path; that
  // path again if it is mounted already. unmount(): false if it was not.
  std::string mount(std::string_view space, std::string_view key);
  bool unmount(std::string_view space, std::string_view key);

  // Writes what `snapshot` (of any kind) adds to its parent, as a layer tar; the very bytes that
  // were imported, if its content is a packed layer (the options say nothing to those).
  void write_layer(int64_t snapshot, Sink& to, const DiffOptions& options = {});
  // The same for what it adds to `before`, which need not be its parent; nullopt is nothing at all.
  void write_changes(int64_t snapshot, std::optional<int64_t> before, Sink& to,
                     const DiffOptions& options);

  // Removes what nothing refers to: rows of unused layers, then their mounts and files to trash.
  // Fast: nothing is deleted yet.
  void collect(Meta::Transaction transaction);

  // The directory of a snapshot whose row has gone, to trash, with what is mounted in it.
  void discard_snapshot(int64_t id);

 private:
  StoreOptions options_;
  Layout layout_;
  Meta meta_;
  Lowers lowers_;
  std::once_flag is_probed_;
  std::string why_not_packed_;
  std::unique_ptr<OpenMark> open_mark_;  // see recover.h
};

// The snapshotter over a store (store/local.h) for one space: it sees no snapshots of others, but
// shares the layers with them.
std::unique_ptr<Snapshotter> open_snapshotter(Store& store, std::string_view space);

}  // namespace veneer
