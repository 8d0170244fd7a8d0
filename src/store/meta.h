// The metadata of a store: <root>/store.db, the only truth about names. SQLite's one home.
//
// Reads see one state of the database for as long as their Transaction lives, and wait for nobody.
// Writers of all threads and processes come one after another (flock(2) on <root>/store.lock, so
// that they wait in the kernel and in order); a committed transaction is durable (WAL,
// synchronous=FULL), unless the store is volatile. docs/FORMAT.md has the schema.
//
// Errors of SQLite become io, corrupt (SQLITE_CORRUPT, SQLITE_NOTADB) or resource_exhausted
// (SQLITE_FULL); a database of a newer version is unsupported and not touched.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "store/snapshotter.h"

namespace veneer {

class Layout;

// A layer: one for each DiffID. Its directory is layers/sha256/<diff-id hex>, with layer.tar.
struct LayerRecord {
  int64_t id = 0;
  Digest diff_id;
  uint64_t tar_bytes = 0;
  uint64_t file_bytes = 0;        // of all regular files in the tar
  bool depends_on_lower = false;  // it may need a variant of its own over other lower layers
  // CRC-64 of the tar (stream/checksum.h), which is a fast check of it. Layers of schema 1 have
  // none.
  std::optional<uint64_t> checksum = {};
};

// What overlayfs merges of a layer: an index, or a directory, in the layer's directory. A layer
// that depends on what is below it has one for each different outcome.
enum class Form { packed, directory };
struct VariantRecord {
  int64_t id = 0;  // never used again
  int64_t layer = 0;
  Digest diff_id;    // of the layer
  std::string name;  // "layer.erofs", "layer.<hex>.erofs", "fs", "fs.<hex>"
  Form form = Form::packed;
  std::optional<Digest> digest;  // of an index
  Usage usage;                   // tar and index, or the directory
};

struct SnapshotRecord {
  int64_t id = 0;     // never used again; also the name of its directory
  std::string space;  // whose it is: keys are unique in a space
  SnapshotInfo info;
  std::optional<int64_t> parent;
  // A committed snapshot whose content is a layer, or an active one that will be (staged). Others
  // have snapshots/<id>/fs.
  std::optional<VariantRecord> variant;
  std::optional<Usage> usage;  // of committed ones
};

struct ImageRecord {
  int64_t id = 0;
  Digest config;               // what Docker calls the image id; its bytes are a blob
  std::optional<int64_t> top;  // the committed snapshot of the last layer; none without layers
  Time added;
  std::vector<std::string> names;  // ImageName::str(), sorted
};

struct ContainerRecord {
  std::string id;  // 64 hex digits
  std::string name;
  Digest image;  // ImageRecord::config; it cannot be removed meanwhile
  int64_t snapshot = 0;
  Time created;
};

class Meta {
 public:
  // Opens, or makes, the database. `is_volatile`: nothing is synced.
  Meta(const Layout& layout, bool is_volatile);
  ~Meta();

  class Transaction;
  Transaction read();
  // Waits for other writers.
  Transaction write();

  // 16 hex digits, made with the database: tells stores apart that were at the same path.
  const std::string& identity() const;

 private:
  friend class Transaction;
  class Connection;
  struct State;
  std::unique_ptr<State> state_;
};

// A view of the database, or a change of it. Rolled back at the end of its life unless committed.
// One thread at a time. maybe_, list_, has_, is_, snapshot() and chain() work in both kinds, the
// rest is for writers. What others refer to cannot be removed (failed_precondition): parents,
// snapshots of images and containers, images of containers. To remove what is not there is no
// error.
class Meta::Transaction {
 public:
  Transaction(Transaction&&) noexcept;
  ~Transaction();
  // The commit point. Failpoints "meta.commit" before and "meta.committed" after it, and at each
  // write and sync of SQLite between. An error of the sync leaves it open which side is on disk:
  // rolled back for all who have the database open, and perhaps there for the next to open it.
  void commit();

  // --- layers ---
  std::optional<LayerRecord> maybe_layer(const Digest& diff_id);
  std::vector<LayerRecord> list_layers();  // by id
  std::vector<VariantRecord> list_variants(int64_t layer);
  std::optional<VariantRecord> maybe_variant(int64_t layer, std::string_view name);
  int64_t add_layer(const LayerRecord& layer);  // already_exists
  // The DiffID of a compressed layer that add_layer_blob() was told of: by who has read it whole,
  // as nobody else's word is good enough. It is forgotten with the layer.
  std::optional<Digest> maybe_diff_id(const Digest& blob);
  void add_layer_blob(const Digest& diff_id, const Digest& blob);  // no error if it is there
  int64_t add_variant(const VariantRecord& variant);               // already_exists
  // Layers that no snapshot has any more. Their rows and their variants' are removed and returned,
  // for the caller to unmount and discard after the commit.
  struct Unused {
    std::vector<LayerRecord> layers;
    std::vector<VariantRecord> variants;  // of these layers
  };
  Unused remove_unused_layers();
  // The same without removing.
  Unused list_unused_layers();

  // --- snapshots ---
  std::optional<SnapshotRecord> maybe_snapshot(std::string_view space, std::string_view key);
  SnapshotRecord snapshot(int64_t id);  // not_found is our bug or corruption: corrupt
  // Up to `limit` of those with an id above `after`, by id; of one space, or of all ("").
  std::vector<SnapshotRecord> list_snapshots(std::string_view space, int64_t after, size_t limit);
  // Visits all of them, by id; of one space, or of all (""). Those that `visit` adds may be missed.
  void for_each_snapshot(std::string_view space,
                         const std::function<void(const SnapshotRecord&)>& visit);
  // The snapshot and those below it, topmost first, without their labels. resource_exhausted if
  // more of them than limits::kSnapshotDepth are committed.
  std::vector<SnapshotRecord> chain(int64_t id);
  // The same, as far as a mount needs to know it: a container asks for its mounts again and again.
  struct Content {
    int64_t snapshot = 0;
    std::optional<VariantRecord> variant;
  };
  std::vector<Content> list_contents(int64_t id);
  bool has_children(int64_t id);
  // Gives it an id. already_exists.
  int64_t add_snapshot(const SnapshotRecord& snapshot);
  // Writes key, kind, parent, variant, usage, times and labels of the row with this id.
  void update_snapshot(const SnapshotRecord& snapshot);
  void remove_snapshot(int64_t id);

  // --- images and containers ---
  std::optional<ImageRecord> maybe_image(const Digest& config);
  std::optional<ImageRecord> maybe_image_by_name(std::string_view name);
  std::vector<ImageRecord> list_images();       // newest first
  int64_t add_image(const ImageRecord& image);  // without its names; already_exists
  // Moves the name here if another image has it.
  void set_image_name(std::string_view name, int64_t image);
  void remove_image_name(std::string_view name);
  void remove_image(int64_t id);  // with its names
  bool is_image_top(int64_t snapshot);

  std::optional<ContainerRecord> maybe_container(std::string_view id);
  std::optional<ContainerRecord> maybe_container_by_name(std::string_view name);
  std::vector<ContainerRecord> list_containers();  // newest first
  size_t count_containers(int64_t image);
  // Up to `limit` ids that begin with these hex digits, in order.
  std::vector<std::string> list_container_ids(std::string_view prefix, size_t limit);
  void add_container(const ContainerRecord& container);  // already_exists (id or name)
  void remove_container(std::string_view id);

  // --- blobs ---
  // Bytes of blobs/sha256/<hex>.
  std::optional<uint64_t> maybe_blob(const Digest& digest);
  std::vector<Digest> list_blobs();
  void add_blob(const Digest& digest, uint64_t size_bytes);  // no error if it is there
  void remove_blob(const Digest& digest);

  // --- lost rows, for store/relink: what refers to what is not there ---
  // The snapshots of an image, topmost first, as far as their rows say. Of the last one the row
  // may have been lost, and of each one's variant.
  struct Link {
    int64_t snapshot = 0;
    std::optional<int64_t> variant;
  };
  std::vector<Link> list_links(const ImageRecord& image);
  // An image whose row was lost: who says that it was there.
  struct LostImage {
    int64_t id = 0;
    std::vector<std::string> names;  // sorted
    std::vector<std::string> tops;   // names of the snapshots that its containers stand on
  };
  std::vector<LostImage> list_lost_images();
  // Makes a committed snapshot what `snapshot` says of its parent, variant and usage. If the row of
  // this space and name was lost, it is made anew, with this id unless it is 0. If it was made
  // anew before, what referred to the id now refers to the new one; and so do others that had the
  // same variant, if that was lost. Returns the id that it has now.
  int64_t restore_snapshot(const SnapshotRecord& snapshot);
  // Makes the row of an image, with this id, if it was lost, and sets its `top`.
  void restore_image(const ImageRecord& image);
  // Active snapshots of containers, over the containers' images.
  struct LostSnapshot {
    int64_t id = 0;
    std::string container;  // its name
  };
  std::vector<LostSnapshot> list_lost_snapshots();
  void restore_container_snapshot(int64_t id);

 private:
  friend class Meta;
  struct Impl;
  explicit Transaction(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace veneer
