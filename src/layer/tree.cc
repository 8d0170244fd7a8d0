#include "layer/tree.h"

#include <algorithm>

#include "base/error.h"
#include "base/limits.h"
#include "layer/entry_rules.h"
#include "layer/whiteout.h"
#include "layer/xattr_policy.h"

namespace veneer {

using tar::EntryType;

namespace {

constexpr const char* kNotThere = "which is not there";
constexpr const char* kIsDirectory = "which is a directory";

uint32_t mode_of(const tar::Entry& entry) {
  switch (entry.type) {
    case EntryType::directory:
      return S_IFDIR | entry.mode;
    case EntryType::symlink:
      return S_IFLNK | 0777;
    case EntryType::fifo:
      return S_IFIFO | entry.mode;
    case EntryType::char_device:
      return S_IFCHR | entry.mode;
    case EntryType::block_device:
      return S_IFBLK | entry.mode;
    default:
      return S_IFREG | entry.mode;
  }
}

tar::Timestamp to_timestamp(const timespec& time) {
  return {.seconds = time.tv_sec, .nanoseconds = static_cast<uint32_t>(time.tv_nsec)};
}

}  // namespace

LayerTree::LayerTree(const LowerNames* lower) : lower_(lower) {
  nodes_.emplace_back().made = Made::implied;
  (void)look_below(kRoot);
}

// --- nodes ---

std::string_view LayerTree::keep(std::string_view text) {
  auto* copy = static_cast<char*>(arena_.allocate(text.size() + 1, 1));
  std::ranges::copy(text, copy);
  return {copy, text.size()};
}

LayerTree::NodeId LayerTree::maybe_child(NodeId parent, std::string_view name) const {
  const auto found = children_.find(NodeKey{parent, name});
  return found == children_.end() ? kNone : found->second;
}

LayerTree::NodeId LayerTree::child(NodeId parent, std::string_view name) {
  if (const NodeId found = maybe_child(parent, name); found != kNone) return found;
  if (nodes_.size() > limits::kLayerEntries)
    fail(Code::resource_exhausted, "more than {} names in one layer", limits::kLayerEntries);
  if (nodes_[parent].depth >= limits::kPathDepth)
    fail(Code::resource_exhausted, "more than {} directories deep", limits::kPathDepth);
  const auto id = static_cast<NodeId>(nodes_.size());
  const std::string_view kept = keep(name);
  Node& node = nodes_.emplace_back();
  node.parent = parent;
  node.name = kept;
  node.next_sibling = nodes_[parent].first_child;
  node.depth = static_cast<uint16_t>(nodes_[parent].depth + 1);
  nodes_[parent].first_child = id;
  children_.emplace(NodeKey{parent, kept}, id);
  return id;
}

RelPath LayerTree::path_to(NodeId node) const {
  std::vector<std::string_view> names;
  for (; node != kRoot; node = nodes_[node].parent) names.push_back(nodes_[node].name);
  RelPath path;
  for (auto name = names.rbegin(); name != names.rend(); ++name) path.push(*name);
  return path;
}

bool LayerTree::is_directory(const Node& node) const {
  if (node.made == Made::entry) return S_ISDIR(inodes_[node.index].attributes.mode);
  return node.made == Made::implied;
}

bool LayerTree::is_lower_hidden(NodeId node) const {
  if (nodes_[node].hidden) return true;
  while (node != kRoot) {
    node = nodes_[node].parent;
    if (nodes_[node].hidden || nodes_[node].opaque) return true;
  }
  return false;
}

// True if entries went, or marks were looked for, through what may be a link of the lower layers.
bool LayerTree::was_walked(NodeId id) const {
  const Node& node = nodes_[id];
  return node.made == Made::implied || (node.made == Made::none && node.first_child != kNone);
}

bool LayerTree::has_walks(NodeId id) const {
  const Node& node = nodes_[id];
  if (node.hidden) return false;
  if (was_walked(id)) return true;
  if (node.opaque) return false;
  for (NodeId at = node.first_child; at != kNone; at = nodes_[at].next_sibling)
    if (has_walks(at)) return true;
  return false;
}

// A node is about to be hidden in the lower layers, with all below it. Where they may have led
// entries elsewhere before, only reading again can tell. Each node is looked at once: after that it
// is hidden.
void LayerTree::forget_walks(NodeId node) {
  if (lower_ != nullptr || must_read_again_ || is_lower_hidden(node)) return;
  must_read_again_ = has_walks(node);
}

void LayerTree::mark_hidden(NodeId node) {
  parent_ = kNone;  // a link of the lower layers on the way to it may be gone now
  forget_walks(node);
  nodes_[node].hidden = true;
}

void LayerTree::mark_opaque(NodeId node) {
  if (nodes_[node].opaque) return;
  parent_ = kNone;
  if (!is_lower_hidden(node))
    for (NodeId at = nodes_[node].first_child; at != kNone; at = nodes_[at].next_sibling)
      forget_walks(at);
  nodes_[node].opaque = true;
  if (node == kRoot && lower_ != nullptr) hide_lower_root();
}

// Something else takes the place of all that the layer made here.
void LayerTree::drop(NodeId node) {
  forget_walks(node);
  drop_children(node);
  Node& dropped = nodes_[node];
  dropped.made = Made::none;
  dropped.index = kNone;
  dropped.lower = kNone;
  dropped.opaque = false;
  dropped.hidden = true;
  parent_ = kNone;
}

void LayerTree::drop_children(NodeId node) {
  for (NodeId at = nodes_[node].first_child; at != kNone; at = nodes_[at].next_sibling) {
    drop_children(at);
    nodes_[at].is_dropped = true;
    children_.erase(NodeKey{node, nodes_[at].name});
  }
  nodes_[node].first_child = kNone;
}

// --- walking ---

// Reads what the lower layers have in the place of a node, if that matters: its attributes, if it
// is a directory; the target, if it is a link.
std::optional<std::string> LayerTree::look_below(NodeId node) {
  if (lower_ == nullptr || nodes_[node].lower != kNone || is_lower_hidden(node))
    return std::nullopt;
  if (node != kRoot) {
    // What is not an entry was looked for before what is in it.
    const Node& parent = nodes_[nodes_[node].parent];
    if (parent.made != Made::entry && parent.lower == kNone) return std::nullopt;
  }
  const std::optional<LowerEntry> below = lower_->find(path_to(node));
  if (!below) return std::nullopt;
  if (S_ISLNK(below->st.st_mode)) return below->link_target;
  if (!S_ISDIR(below->st.st_mode)) return std::nullopt;
  nodes_[node].lower = static_cast<uint32_t>(lower_directories_.size());
  lower_directories_.push_back({.mode = below->st.st_mode,
                                .uid = below->st.st_uid,
                                .gid = below->st.st_gid,
                                .modified = to_timestamp(below->st.st_mtim),
                                .xattrs = keep_xattr_set(below->xattrs)});
  return std::nullopt;
}

// The target, if the node is a link, in this layer or where this layer has nothing.
std::optional<std::string> LayerTree::link_at(NodeId id) {
  const Node& node = nodes_[id];
  if (node.made == Made::entry && S_ISLNK(inodes_[node.index].attributes.mode))
    return std::string(inodes_[node.index].link_target);
  if (node.made == Made::lower_link && !lower_links_[node.index].link_target.empty())
    return lower_links_[node.index].link_target;
  if (node.made != Made::none) return std::nullopt;
  std::optional<std::string> target = look_below(id);
  if (target) contributions_ += fmt::format("link {} {}\n", path_to(id).str(), *target);
  return target;
}

// The node that `name` leads to when links are followed, whether a directory or not.
LayerTree::NodeId LayerTree::resolve(std::string_view name) {
  NodeId at = kRoot;
  std::string expanded;  // holds what is left of the name after a link
  for (int links = 0; !name.empty();) {
    const size_t slash = std::min(name.find('/'), name.size());
    const std::string_view component = name.substr(0, slash);
    name.remove_prefix(std::min(slash + 1, name.size()));
    if (component.empty() || component == ".") continue;
    if (component == "..") {
      // Nothing but this walk may ever show what is here.
      if (lower_ == nullptr && nodes_[at].made == Made::none && !is_lower_hidden(at))
        must_read_again_ = true;
      at = at == kRoot ? kRoot : nodes_[at].parent;
      continue;
    }
    if (component.size() > limits::kNameBytes)
      fail(Code::resource_exhausted, "a link leads to a name of {} bytes", component.size());
    const NodeId next = child(at, component);
    const std::optional<std::string> target = link_at(next);
    if (!target) {
      at = next;
      continue;
    }
    if (++links > kMaxLinks) fail(Code::corrupt, "too many symbolic links in the name");
    if (target->starts_with('/')) at = kRoot;
    expanded = *target + '/' + std::string(name);
    name = expanded;
  }
  return at;
}

LayerTree::NodeId LayerTree::make_directory(std::string_view name) {
  std::vector<NodeId> missing;
  NodeId directory = resolve(name);
  // All above a directory are directories too.
  for (; !is_directory(nodes_[directory]); directory = nodes_[directory].parent)
    missing.push_back(directory);
  if (lower_ == nullptr && !missing.empty()) has_guessed_ = true;
  for (auto at = missing.rbegin(); at != missing.rend(); ++at) {
    directory = child(directory, nodes_[*at].name);
    // A file in the way makes room; what was looked for in it goes too.
    if (nodes_[directory].made != Made::none) drop(directory);
    nodes_[directory].made = Made::implied;
  }
  return directory;
}

// A whiteout has nothing to hide where this layer has a file.
std::optional<LayerTree::NodeId> LayerTree::maybe_directory(std::string_view name) {
  const NodeId directory = resolve(name);
  for (NodeId at = directory; !is_directory(nodes_[at]); at = nodes_[at].parent)
    if (nodes_[at].made != Made::none) return std::nullopt;
  return directory;
}

// --- adding ---

void LayerTree::add(const tar::Entry& entry) {
  assign_entry_path(path_, entry.path, "the name");
  check_entry_owner(entry);
  if (path_.empty()) {
    if (entry.type != EntryType::directory)
      fail(Code::invalid_argument, "the root of a layer must be a directory");
    return add_directory(kRoot, entry);
  }
  if (is_aufs_metadata(path_)) return;
  const TarName name = parse_tar_name(path_.name());
  if (name.kind == TarNameKind::whiteout || name.kind == TarNameKind::opaque) return add_mark(name);
  if (parent_ == kNone || parent_name_ != path_.parent()) {
    parent_ = make_directory(path_.parent());
    parent_name_ = path_.parent();
  }
  const NodeId node = child(parent_, path_.name());
  if (entry.type == EntryType::directory) return add_directory(node, entry);
  if (entry.type == EntryType::hard_link) return add_hard_link(node, entry);
  add_inode(node, entry);
}

// Kept also where the lower layers have no such directory: one of this layer may yet come.
void LayerTree::add_mark(const TarName& name) {
  const std::optional<NodeId> parent = maybe_directory(path_.parent());
  if (!parent) return;
  if (name.kind == TarNameKind::opaque) {
    mark_opaque(*parent);
  } else {
    mark_hidden(child(*parent, name.target));
  }
}

void LayerTree::add_directory(NodeId node, const tar::Entry& entry) {
  // What is below it stays, and was perhaps led here.
  if (node != kRoot && lower_ == nullptr && was_walked(node) && !is_lower_hidden(node))
    must_read_again_ = true;
  if (nodes_[node].made != Made::none && !is_directory(nodes_[node])) drop(node);
  nodes_[node].made = Made::entry;
  nodes_[node].index = keep_inode(entry);
}

void LayerTree::add_inode(NodeId node, const tar::Entry& entry) {
  if (entry.type == EntryType::file) file_bytes_ += entry.size;
  drop_and_set(node, Made::entry, keep_inode(entry));
}

void LayerTree::add_hard_link(NodeId node, const tar::Entry& entry) {
  RelPath target;
  assign_entry_path(target, entry.link_target, "the link's target");
  std::optional<NodeId> found;
  if (!target.empty()) found = maybe_directory(target.parent());
  if (found) found = child(*found, target.name());
  if (const char* problem = link_problem(node, found)) {
    if (!has_guessed_ || target.empty())
      fail(Code::corrupt, "a hard link to \"{}\", {}", entry.link_target, problem);
    // The lower layers may have led one of the names elsewhere.
    must_read_again_ = true;
    return add_lower_link(node, node, {.path = target, .link_target = {}});
  }
  if (nodes_[*found].made != Made::none) {
    if (*found != node) drop_and_set(node, nodes_[*found].made, nodes_[*found].index);
    return;
  }
  LowerLink link{.path = path_to(*found), .link_target = {}};
  if (lower_ != nullptr) {
    const auto below = is_lower_hidden(*found) ? std::nullopt : lower_->find(link.path);
    if (!below) fail(Code::corrupt, "a hard link to \"{}\", {}", entry.link_target, kNotThere);
    if (S_ISDIR(below->st.st_mode))
      fail(Code::corrupt, "a hard link to \"{}\", {}", entry.link_target, kIsDirectory);
    link.link_target = below->link_target;
  }
  add_lower_link(node, *found, std::move(link));
}

// What is wrong with a hard link to what this layer made, or did not make; nullptr if nothing is.
const char* LayerTree::link_problem(NodeId node, std::optional<NodeId> target) const {
  if (!target) return kNotThere;
  if (is_directory(nodes_[*target])) return kIsDirectory;
  for (NodeId at = nodes_[*target].parent; at != kNone; at = nodes_[at].parent)
    if (at == node) return "in the place of a directory that holds it";
  return nullptr;
}

// The original becomes part of this layer too: both names must be one inode.
void LayerTree::add_lower_link(NodeId node, NodeId original, LowerLink link) {
  const auto index = static_cast<uint32_t>(lower_links_.size());
  lower_links_.push_back(std::move(link));
  if (original != node) drop_and_set(original, Made::lower_link, index);
  drop_and_set(node, Made::lower_link, index);
}

void LayerTree::drop_and_set(NodeId node, Made made, uint32_t index) {
  drop(node);
  nodes_[node].made = made;
  nodes_[node].index = index;
}

uint32_t LayerTree::keep_inode(const tar::Entry& entry) {
  TreeInode inode;
  inode.attributes = {.mode = mode_of(entry),
                      .uid = entry.uid,
                      .gid = entry.gid,
                      .modified = entry.modified,
                      .xattrs = keep_xattrs(entry)};
  inode.size = entry.size;
  inode.data_offset = entry.data_offset;
  inode.stored_size = entry.stored_size;
  inode.device = entry_device(entry);
  if (entry.type == EntryType::symlink) inode.link_target = keep(entry.link_target);
  if (entry.sparse) {
    inode.segments = static_cast<uint32_t>(segment_lists_.size());
    segment_lists_.push_back(entry.segments);
  }
  inodes_.push_back(inode);
  return static_cast<uint32_t>(inodes_.size() - 1);
}

uint32_t LayerTree::keep_xattrs(const tar::Entry& entry) {
  if (entry.xattrs.empty()) return 0;
  std::vector<Xattr> kept;
  for (const Xattr& xattr : entry.xattrs)
    if (xattr_name_to_store(xattr.name) &&
        (takes_user_xattrs(entry.type) || !xattr.name.starts_with("user.")))
      kept.push_back(xattr);
  return keep_xattr_set(std::move(kept));
}

uint32_t LayerTree::keep_xattr_set(std::vector<Xattr> xattrs) {
  if (xattrs.empty()) return 0;
  std::ranges::sort(xattrs);
  const auto [found, is_new] =
      xattr_ids_.try_emplace(std::move(xattrs), static_cast<uint32_t>(xattr_sets_.size()));
  if (is_new) xattr_sets_.push_back(found->first);
  return found->second;
}

// --- the lower layers ---

// overlayfs merges the roots of all layers, whatever marks they have: an opaque root is a whiteout
// for each of the lower names.
void LayerTree::hide_lower_root() {
  for (const std::string& name : lower_->list_root()) {
    nodes_[child(kRoot, name)].hidden = true;
    contributions_ += fmt::format("hide {}\n", name);
  }
}

bool LayerTree::depends_on_lower() const {
  if (nodes_[kRoot].opaque || has_lower_links() || must_read_again_) return true;
  const std::vector<Signs> signs = read_signs();
  for (NodeId id = 0; id < nodes_.size(); ++id)
    if (is_implied(id, signs[id])) return true;
  return false;
}

bool LayerTree::adopt_lower(const LowerNames& lower) {
  VENEER_CHECK(lower_ == nullptr);
  if (has_lower_links() || must_read_again_) return false;
  lower_ = &lower;
  if (nodes_[kRoot].opaque) hide_lower_root();
  const std::vector<Signs> signs = read_signs();
  for (NodeId id = 0; id < signs.size(); ++id)  // parents come before their children
    if (is_implied(id, signs[id]) && look_below(id)) return false;
  return true;
}

std::optional<Digest> LayerTree::lower_digest() const {
  std::string text = contributions_;
  const std::vector<Signs> signs = read_signs();
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    if (is_void(id, signs[id])) text += fmt::format("void {}\n", path_to(id).str());
    if (!is_implied(id, signs[id]) || nodes_[id].lower == kNone) continue;
    const TreeAttributes& lower = lower_directories_[nodes_[id].lower];
    text += fmt::format("dir {} {:o} {}:{} {}.{}\n", path_to(id).str(), lower.mode, lower.uid,
                        lower.gid, lower.modified.seconds, lower.modified.nanoseconds);
    for (const Xattr& xattr : xattrs(lower.xattrs))
      text += fmt::format("{} {} {}\n", xattr.name, xattr.value.size(), xattr.value);
  }
  if (text.empty()) return std::nullopt;
  return Sha256::of(text);
}

// Two passes over all nodes, because parents come before their children.
std::vector<LayerTree::Signs> LayerTree::read_signs() const {
  std::vector<Signs> signs(nodes_.size());
  for (NodeId id = 1; id < nodes_.size(); ++id) {
    const Node& node = nodes_[id];
    if (node.is_dropped) continue;
    signs[id].is_covered =
        node.hidden || nodes_[node.parent].opaque || signs[node.parent].is_covered;
  }
  for (NodeId id = static_cast<NodeId>(nodes_.size()); id-- > 1;) {
    const Node& node = nodes_[id];
    if (node.is_dropped) continue;
    signs[id].holds_marks |= node.opaque;
    signs[node.parent].holds_marks |= node.hidden || signs[id].holds_marks;
  }
  signs[kRoot].holds_marks |= nodes_[kRoot].opaque;
  return signs;
}

// A directory that is there though no entry is: its attributes are those of the lower layers.
bool LayerTree::is_implied(NodeId id, const Signs& signs) const {
  const Node& node = nodes_[id];
  if (node.is_dropped || signs.is_covered) return false;
  return node.made == Made::implied || (node.made == Made::none && signs.holds_marks);
}

// A directory that only whiteouts imply, and that the lower layers do not have.
bool LayerTree::is_void(NodeId id, const Signs& signs) const {
  const Node& node = nodes_[id];
  return lower_ != nullptr && node.made == Made::none && is_implied(id, signs) &&
         node.lower == kNone;
}

// --- writing ---

TreeAttributes LayerTree::directory_attributes(const Node& node, bool lower_hidden) const {
  if (node.made == Made::entry) return inodes_[node.index].attributes;
  if (node.lower != kNone && !lower_hidden && !node.hidden) return lower_directories_[node.lower];
  return {.mode = S_IFDIR | kImpliedMode, .uid = 0, .gid = 0, .modified = {}, .xattrs = 0};
}

void LayerTree::write(TreeWriter& writer) const {
  write_directory(kRoot, false, read_signs(), writer);
}

// In the order of their names. `hidden` tells that the lower layers show nothing here.
std::vector<LayerTree::NodeId> LayerTree::children_to_write(NodeId id, bool hidden,
                                                            const std::vector<Signs>& all) const {
  std::vector<NodeId> children;
  for (NodeId at = nodes_[id].first_child; at != kNone; at = nodes_[at].next_sibling) {
    const Node& child = nodes_[at];
    const Signs& signs = all[at];
    if (child.made == Made::none) {
      const bool hides = child.hidden ? !hidden : is_implied(at, signs) && !is_void(at, signs);
      if (!hides) continue;
    }
    if (id == kRoot && child.name == kAufsLinkDir) continue;
    children.push_back(at);
  }
  std::ranges::sort(children, {}, [&](NodeId at) { return nodes_[at].name; });
  return children;
}

void LayerTree::write_directory(NodeId id, bool lower_hidden, const std::vector<Signs>& signs,
                                TreeWriter& writer) const {
  const Node& node = nodes_[id];
  const bool hides = id != kRoot && (node.hidden || node.opaque);
  const bool children_hidden = lower_hidden || hides;
  const std::vector<NodeId> children = children_to_write(id, children_hidden, signs);
  const auto is_whiteout = [&](NodeId at) {
    return nodes_[at].made == Made::none && nodes_[at].hidden;
  };
  writer.enter(node.name, {.attributes = directory_attributes(node, lower_hidden),
                           .opaque = hides && !lower_hidden,
                           .has_whiteouts = std::ranges::any_of(children, is_whiteout)});
  for (const NodeId at : children) {
    const Node& child = nodes_[at];
    if (is_whiteout(at)) {
      writer.add_whiteout(child.name);
    } else if (child.made == Made::none || is_directory(child)) {
      write_directory(at, children_hidden, signs, writer);
    } else if (child.made == Made::lower_link) {
      writer.add_lower_link(child.name, lower_links_[child.index].path);
    } else {
      writer.add(child.name, child.index, inodes_[child.index]);
    }
  }
  writer.leave();
}

}  // namespace veneer
