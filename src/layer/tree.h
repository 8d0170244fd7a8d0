// A layer as overlayfs wants it: its entries as a tree, with whiteouts and opaque directories.
//
// Built from the headers of a layer's tar, in memory, by the rules of layer/apply.h; written out as
// an index (layer/pack.h) or as a directory (layer/expand.h). It has what apply_layer() makes over
// the same lower layers, whatever the order of the entries.
//
// A tar may name "app/lib/x" and neither "app" nor "app/lib". In overlayfs the topmost directory
// decides owner, mode, times and xattrs, so such implied directories need those of the layers
// below, and where a lower layer has a symbolic link in their place, the entry goes where that
// leads. Without the layers below, the tree has 0755 root:root with time 0, and tells that it
// depends on them.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/hash/hash.h>
#include <absl/strings/string_view.h>
#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <memory_resource>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "base/path.h"
#include "layer/whiteout.h"
#include "tar/entry.h"

namespace veneer {

// A name of the layers below a layer, merged.
struct LowerEntry {
  struct stat st{};
  std::string link_target;    // of symbolic links
  std::vector<Xattr> xattrs;  // as a tar names them
};

class LowerNames {
 public:
  virtual ~LowerNames() = default;
  // What is at `path`; no link on the way is followed. Nothing if there is no such name.
  virtual std::optional<LowerEntry> find(const RelPath& path) const = 0;
  // The names in the root.
  virtual std::vector<std::string> list_root() const = 0;
};

struct TreeAttributes {
  uint32_t mode = 0;  // with the type's bits
  uint32_t uid = 0;
  uint32_t gid = 0;
  tar::Timestamp modified;
  uint32_t xattrs = 0;  // index for LayerTree::xattrs(); 0 has none
};

// An inode of the layer: what hard links share.
struct TreeInode {
  TreeAttributes attributes;
  uint64_t size = 0;
  uint64_t data_offset = 0;  // in the tar
  uint64_t stored_size = 0;
  uint32_t segments = 0;  // index for LayerTree::segments(), of sparse files; 0 has none
  dev_t device = 0;
  std::string_view link_target;
};

using InodeId = uint32_t;

// What a tree is written to. The names of a directory come sorted bytewise; views live as long as
// the tree.
class TreeWriter {
 public:
  virtual ~TreeWriter() = default;
  struct Directory {
    TreeAttributes attributes;
    bool opaque = false;         // hides what lower layers have in it
    bool has_whiteouts = false;  // among its own names
  };
  // The root comes first, with an empty name, and is left last.
  virtual void enter(std::string_view name, const Directory& directory) = 0;
  virtual void leave() = 0;
  virtual void add(std::string_view name, InodeId id, const TreeInode& inode) = 0;
  virtual void add_whiteout(std::string_view name) = 0;
  // A hard link to a file of the lower layers: only a directory can hold it, as a copy.
  virtual void add_lower_link(std::string_view name, const RelPath& target) = 0;
};

class LayerTree {
 public:
  // `lower` is borrowed; nullptr if the layers below are not known.
  explicit LayerTree(const LowerNames* lower = nullptr);
  LayerTree(const LayerTree&) = delete;
  LayerTree& operator=(const LayerTree&) = delete;

  // Adds the next entry of the tar. Throws what apply_layer() does for its entries; the caller says
  // which it was. Without the lower layers, hard links to what this layer does not have are kept.
  void add(const tar::Entry& entry);

  // The rest is for when all entries are there.

  // True if the tree may be another one over other lower layers.
  bool depends_on_lower() const;
  // True for hard links to what this layer does not have. Built without the lower layers, these may
  // be broken; the tree cannot be packed.
  bool has_lower_links() const { return !lower_links_.empty(); }
  // Makes a tree that was built without the lower layers the one that it is over `lower`. False if
  // that takes reading the tar again, with `lower` from the start: where a link of theirs leads
  // entries elsewhere, or this layer has hard links into them. The tree is of no use then.
  bool adopt_lower(const LowerNames& lower);
  // A digest of all that the lower layers contributed; nothing if that is what the tree is without
  // them.
  std::optional<Digest> lower_digest() const;

  void write(TreeWriter& writer) const;

  uint64_t file_bytes() const { return file_bytes_; }  // of all regular files in the tar
  const std::vector<Xattr>& xattrs(uint32_t index) const { return xattr_sets_[index]; }
  const std::vector<tar::Segment>& segments(uint32_t index) const { return segment_lists_[index]; }

 private:
  using NodeId = uint32_t;
  static constexpr NodeId kRoot = 0;
  static constexpr uint32_t kNone = UINT32_MAX;

  enum class Made : uint8_t {
    none,        // not by this layer; it may be whited out, or hold whiteouts
    implied,     // a directory that entries lie in
    entry,       // has an inode
    lower_link,  // a hard link to a file that this layer does not have
  };

  struct Node {
    NodeId parent = kNone;
    std::string_view name;
    NodeId first_child = kNone;
    NodeId next_sibling = kNone;
    uint32_t index = kNone;  // of an entry's inode, of a lower link's target
    uint32_t lower = kNone;  // index in lower_directories_ of what this directory merges with
    uint16_t depth = 0;
    Made made = Made::none;
    bool hidden = false;      // in the lower layers, by a whiteout or something else made here
    bool opaque = false;      // has an opaque mark
    bool is_dropped = false;  // not in the tree any more, with what is below it
  };
  // What follows from the nodes around one; see read_signs().
  struct Signs {
    bool is_covered = false;   // hidden in the lower layers, by itself or from above
    bool holds_marks = false;  // whiteouts or opaque marks, at whatever depth
  };
  struct LowerLink {
    RelPath path;
    std::string link_target;  // of symbolic links
  };
  struct NodeKey {
    NodeId parent;
    std::string_view name;
    bool operator==(const NodeKey&) const = default;
  };
  struct NodeKeyHash {
    size_t operator()(const NodeKey& key) const {
      // Names are hostile: it has a seed, but for std's view, to which Debian's Abseil gives none.
      return absl::HashOf(key.parent, absl::string_view(key.name.data(), key.name.size()));
    }
  };

  NodeId maybe_child(NodeId parent, std::string_view name) const;
  NodeId child(NodeId parent, std::string_view name);
  std::string_view keep(std::string_view text);
  RelPath path_to(NodeId node) const;
  bool is_directory(const Node& node) const;
  bool is_lower_hidden(NodeId node) const;

  NodeId resolve(std::string_view name);
  NodeId make_directory(std::string_view name);
  std::optional<NodeId> maybe_directory(std::string_view name);
  std::optional<std::string> link_at(NodeId node);
  std::optional<std::string> look_below(NodeId node);
  bool was_walked(NodeId node) const;
  bool has_walks(NodeId node) const;
  void forget_walks(NodeId node);
  void mark_hidden(NodeId node);
  void mark_opaque(NodeId node);
  void drop(NodeId node);
  void drop_children(NodeId node);

  void add_directory(NodeId node, const tar::Entry& entry);
  void add_mark(const TarName& name);
  void add_hard_link(NodeId node, const tar::Entry& entry);
  const char* link_problem(NodeId node, std::optional<NodeId> target) const;
  void add_lower_link(NodeId node, NodeId original, LowerLink link);
  void add_inode(NodeId node, const tar::Entry& entry);
  void drop_and_set(NodeId node, Made made, uint32_t index);
  uint32_t keep_inode(const tar::Entry& entry);
  uint32_t keep_xattrs(const tar::Entry& entry);
  uint32_t keep_xattr_set(std::vector<Xattr> xattrs);
  void hide_lower_root();

  std::vector<Signs> read_signs() const;
  bool is_implied(NodeId node, const Signs& signs) const;
  bool is_void(NodeId node, const Signs& signs) const;
  std::vector<NodeId> children_to_write(NodeId node, bool hidden,
                                        const std::vector<Signs>& all) const;
  void write_directory(NodeId node, bool lower_hidden, const std::vector<Signs>& signs,
                       TreeWriter& writer) const;
  TreeAttributes directory_attributes(const Node& node, bool lower_hidden) const;

  const LowerNames* lower_;
  std::pmr::monotonic_buffer_resource arena_{64 * 1024};
  std::vector<Node> nodes_;
  absl::flat_hash_map<NodeKey, NodeId, NodeKeyHash> children_;
  std::vector<TreeInode> inodes_;
  std::vector<TreeAttributes> lower_directories_;
  std::vector<LowerLink> lower_links_;
  std::map<std::vector<Xattr>, uint32_t> xattr_ids_;
  std::vector<std::vector<Xattr>> xattr_sets_{{}};
  std::vector<std::vector<tar::Segment>> segment_lists_{{}};
  std::string contributions_;     // of the lower layers, as they were met
  bool must_read_again_ = false;  // the lower layers cannot be adopted
  bool has_guessed_ = false;      // implied a directory without knowing the lower layers
  uint64_t file_bytes_ = 0;

  RelPath path_;  // of the entry at hand
  std::string parent_name_;
  NodeId parent_ = kNone;  // what parent_name_ led to
};

}  // namespace veneer
