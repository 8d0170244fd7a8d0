#include "layer/apply.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/at.h"
#include "base/error.h"
#include "layer/entry_rules.h"
#include "layer/file_writer.h"
#include "layer/made_names.h"
#include "layer/side_by_side.h"
#include "layer/whiteout.h"
#include "layer/xattr_policy.h"
#include "tar/reader.h"

namespace veneer {

namespace {

using Mark = MadeNames::Mark;
using tar::EntryType;

constexpr timespec kEpoch{};
constexpr const char* kDefaultAcl = "system.posix_acl_default";
constexpr const char* kAccessAcl = "system.posix_acl_access";

mode_t node_type(EntryType type) {
  if (type == EntryType::fifo) return S_IFIFO;
  return type == EntryType::block_device ? S_IFBLK : S_IFCHR;
}

class Applier {
 public:
  Applier(Source& tar, int root, const ApplyOptions& options)
      : reader_(tar), root_(root), root_path_(path_of(root)), options_(options) {}

  uint64_t run() {
    while (const tar::Entry* entry = reader_.next()) {
      try {
        apply(*entry);
      } catch (Error& error) {
        if (!errors_are_named_)
          error.add_context(
              fmt::format("entry \"{}\" at offset {}", entry->path, entry->header_offset));
        throw;
      }
    }
    if (options_.needs_end_marker && !reader_.has_end_marker())
      fail(Code::corrupt, "the tar has no end at offset {}: it is not whole", reader_.offset());
    reader_.drain();
    writer_.finish();
    (void)remove_tree_at(root_, RelPath::parse(kAufsLinkDir));
    restore_directory_times();
    return size_;
  }

 private:
  // A directory that entries are made in.
  struct Parent {
    std::string name;                    // as the tar writes it, normalised
    std::shared_ptr<const UniqueFd> fd;  // O_PATH
    std::string path;                    // without links, relative to the root
    bool inherits_acl = false;
    bool is_new = false;     // all that is in it was made by this layer
    bool is_marked = false;  // as made by this layer
  };
  // No normalised name: what is open must be opened again.
  static constexpr std::string_view kNoName = "/";
  static constexpr size_t kMostParents = 16;
  // Worth a thread.
  static constexpr size_t kManyDirectories = 256;

  void apply(const tar::Entry& entry) {
    assign_entry_path(path_, entry.path, "the name");
    check_entry_owner(entry);
    if (path_.empty()) return apply_to_root(entry);
    if (is_aufs_metadata(path_)) return;
    const TarName name = parse_tar_name(path_.name());
    if (name.kind == TarNameKind::whiteout) return whiteout(name.target);
    if (name.kind == TarNameKind::opaque) return make_opaque();

    open_parent_for_making();
    place_ = child_path(path_.name());
    const bool is_made = made_.mark(place_, Mark::explicit_) != Mark::none;
    if (entry.type == EntryType::directory) {
      make_directory(entry, is_made);
    } else if (entry.type == EntryType::hard_link) {
      make_hard_link(entry);
    } else {
      make_other(entry, is_made);
    }
  }

  void apply_to_root(const tar::Entry& entry) {
    if (entry.type != EntryType::directory)
      fail(Code::invalid_argument, "the root of a layer must be a directory");
    finish_writing();
    clear_xattrs(root_, ".");
    set_attributes(root_, ".", "", entry);
  }

  // --- making ---

  // What is at the entry's name, which this layer has made or not. A directory that it made holds
  // only what it made: most names need no system call. What the layer made may still be with the
  // writer.
  std::optional<struct stat> find_existing(PathView leaf, bool is_made) {
    if (!is_made && parent().is_new) return std::nullopt;
    if (is_made) finish_writing();
    return maybe_stat_at(parent_dir(), leaf);
  }

  void make_directory(const tar::Entry& entry, bool is_made) {
    const int dir = parent_dir();
    const PathView leaf = path_.leaf();
    const std::optional<struct stat> existing = find_existing(leaf, is_made);
    if (existing && S_ISDIR(existing->st_mode)) {
      clear_xattrs(dir, leaf);
    } else {
      if (existing) remove(dir, leaf, *existing);
      make_dir_at(dir, leaf, entry.mode & 0777);
      drop_inherited_acls(leaf);
      new_directories_.mark(place_, Mark::explicit_);
    }
    set_attributes(dir, leaf, place_, entry);
  }

  void make_hard_link(const tar::Entry& entry) {
    finish_writing();
    assign_entry_path(target_, entry.link_target, "the link's target");
    RelPath target_parent;
    target_parent.assign_part(target_.parent());
    std::optional<UniqueFd> dir = maybe_resolve_in_root(root_, target_parent, O_PATH | O_DIRECTORY);
    if (!dir) {  // as open_target() has it, without another directory to work in
      dir = maybe_resolve_beneath(root_, follow_links(target_parent.str()), O_PATH | O_DIRECTORY);
      VENEER_CHECK(open_target(path_.parent()));
    }
    const std::optional<struct stat> st =
        dir ? maybe_stat_at(dir->get(), target_.leaf()) : std::nullopt;
    if (!st) fail(Code::corrupt, "a hard link to \"{}\", which is not there", entry.link_target);
    if (S_ISDIR(st->st_mode))
      fail(Code::corrupt, "a hard link to the directory \"{}\"", entry.link_target);
    const PathView leaf = path_.leaf();
    if (const auto existing = maybe_stat_at(parent_dir(), leaf)) {
      if (existing->st_ino == st->st_ino && existing->st_dev == st->st_dev) return;
      if (S_ISDIR(existing->st_mode) && (path_in_root(dir->get()) + '/').starts_with(place_ + '/'))
        fail(Code::corrupt, "a hard link to \"{}\", in the place of a directory that holds it",
             entry.link_target);
      remove(parent_dir(), leaf, *existing);
    }
    link_at(dir->get(), target_.leaf(), parent_dir(), leaf);
  }

  void make_other(const tar::Entry& entry, bool is_made) {
    const int dir = parent_dir();
    const PathView leaf = path_.leaf();
    if (const auto existing = find_existing(leaf, is_made)) remove(dir, leaf, *existing);
    if (entry.type == EntryType::file) return make_file(entry);
    if (entry.type == EntryType::symlink) {
      make_symlink_at(entry.link_target, dir, leaf);
    } else {
      make_node_at(dir, leaf, node_type(entry.type) | 0600, entry_device(entry));
      drop_inherited_acls(leaf);
    }
    set_attributes(dir, leaf, "", entry);
  }

  void make_file(const tar::Entry& entry) {
    size_ += entry.size;
    const bool is_plain = !entry.sparse && entry.xattrs.empty();
    if (is_plain && !parent().inherits_acl && entry.size <= FileWriter::kLargestBody)
      return write_elsewhere(entry);
    const int dir = parent_dir();
    const PathView leaf = path_.leaf();
    const UniqueFd file =
        open_at(dir, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOCTTY, entry.mode & 0777);
    drop_inherited_acls(leaf);
    write_body(file.get(), entry);
    if (is_plain) {
      set_file_attributes(file.get(), file_attributes(entry));
    } else {
      set_attributes(dir, leaf, "", entry);
    }
  }

  void write_elsewhere(const tar::Entry& entry) {
    errors_are_named_ = true;
    Room room = writer_.add({.dir = parent().fd,
                             .name = path_.leaf(),
                             .attributes = file_attributes(entry),
                             .entry_path = entry.path,
                             .header_offset = entry.header_offset},
                            entry.size);
    errors_are_named_ = false;
    while (const std::optional<tar::Piece> piece = read_piece()) {
      VENEER_CHECK(piece->bytes.size() <= room.size());
      std::memcpy(room.data(), piece->bytes.data(), piece->bytes.size());
      room = room.subspan(piece->bytes.size());
    }
  }

  void finish_writing() {
    errors_are_named_ = true;
    writer_.finish();
    errors_are_named_ = false;
  }

  void write_body(int file, const tar::Entry& entry) {
    while (const std::optional<tar::Piece> piece = read_piece()) {
      if (entry.sparse) {
        write_all_at(file, piece->bytes, piece->offset);
      } else {
        write_all(file, piece->bytes);
      }
    }
    if (entry.sparse) set_size(file, entry.size);
  }

  std::optional<tar::Piece> read_piece() {
    errors_are_named_ = true;
    std::optional<tar::Piece> piece = reader_.read();
    errors_are_named_ = false;
    return piece;
  }

  // --- attributes ---

  FileAttributes file_attributes(const tar::Entry& entry) const {
    return {.uid = options_.id_maps.uids.to_host(entry.uid),
            .gid = options_.id_maps.gids.to_host(entry.gid),
            .mode = entry.mode,
            .modified = to_timespec(entry.modified)};
  }

  // In the order that loses nothing: chown clears set-id bits and capabilities. Directories get
  // their times at the end; `dir_path` is theirs.
  void set_attributes(int dir, PathView leaf, const std::string& dir_path,
                      const tar::Entry& entry) {
    const uint32_t uid = options_.id_maps.uids.to_host(entry.uid);
    const uint32_t gid = options_.id_maps.gids.to_host(entry.gid);
    if (!entry.xattrs.empty()) {
      chown_at(dir, leaf, uid, gid);
      set_xattrs(dir, leaf, entry);
    }
    set_owner_and_mode_at(dir, leaf, uid, gid, entry.mode);
    const timespec time = to_timespec(entry.modified);
    if (entry.type == EntryType::directory) {
      directory_times_.insert_or_assign(dir_path, time);
    } else {
      set_times_at(dir, leaf, time, time);
    }
  }

  void set_xattrs(int dir, PathView leaf, const tar::Entry& entry) {
    for (const Xattr& xattr : entry.xattrs) {
      const std::optional<std::string> name = xattr_name_to_store(xattr.name);
      if (!name || (name->starts_with("user.") && !takes_user_xattrs(entry.type))) continue;
      if (xattr.name == kDefaultAcl) {
        sets_default_acls_ = true;
        forget_parents();
      }
      // An overlay mount escapes its own names itself.
      const std::string& stored = options_.through_overlay ? xattr.name : *name;
      set_xattr_at(dir, leaf, stored.c_str(),
                   xattr_value_to_store(xattr.name, xattr.value, options_.id_maps));
    }
  }

  static void clear_xattrs(int dir, PathView leaf) {
    for (const Xattr& xattr : read_xattrs_at(dir, leaf))
      if (is_layer_xattr(xattr.name)) remove_xattr_at(dir, leaf, xattr.name.c_str());
  }

  // A default ACL of the directory (acl(5)) becomes the access ACL of what is made in it, and the
  // default ACL of directories.
  void drop_inherited_acls(PathView leaf) {
    if (!parent().inherits_acl) return;
    for (const char* name : {kAccessAcl, kDefaultAcl})
      if (maybe_xattr_at(parent_dir(), leaf, name)) remove_xattr_at(parent_dir(), leaf, name);
  }

  // Later entries change the times of the directories they are made in. A directory can be gone or
  // be something else by now, and a link must not be followed.
  void restore_directory_times() {
    std::vector<const std::pair<const std::string, timespec>*> all;
    for (const auto& directory : directory_times_) all.push_back(&directory);
    const size_t parts = all.size() < kManyDirectories ? 1 : layers_at_once();
    const auto restore = [&](size_t part, const std::stop_token&) {
      for (size_t index = part; index < all.size(); index += parts)
        restore_directory_time(all[index]->first, all[index]->second);
    };
    if (parts == 1) return restore(0, {});
    run_side_by_side(std::vector<uint64_t>(parts), parts, {.work = restore, .take = [](size_t) {}});
  }

  void restore_directory_time(std::string_view path, const timespec& time) const {
    RelPath directory;
    directory.assign_part(path);
    const auto fd = maybe_resolve_beneath(root_, directory, O_PATH | O_DIRECTORY);
    if (fd) set_times_at(fd->get(), ".", time, time);
  }

  // --- parents ---

  Parent& parent() { return parents_.back(); }
  const Parent& parent() const { return parents_.back(); }
  int parent_dir() const { return parent().fd->get(); }

  static bool is_at_or_below(std::string_view name, std::string_view directory) {
    return directory.empty() || (name.starts_with(directory) && (name.size() == directory.size() ||
                                                                 name[directory.size()] == '/'));
  }

  // What is known of open directories is not true any more. The one in use stays open.
  void forget_parents() {
    if (parents_.empty()) return;
    parents_.erase(parents_.begin(), parents_.end() - 1);
    parent().name = kNoName;
  }

  std::string child_path(std::string_view name) const {
    std::string path = parent().path;
    if (!path.empty()) path += '/';
    return path.append(name);
  }

  void use_parent(std::string_view name, UniqueFd fd, std::string path) {
    directory_times_.try_emplace(path, stat_fd(fd.get()).st_mtim);
    const bool is_new = new_directories_.find(path) != Mark::none;
    const bool inherits_acl =
        (!is_new || sets_default_acls_) && maybe_xattr_at(fd.get(), ".", kDefaultAcl).has_value();
    if (parents_.size() == kMostParents) parents_.erase(parents_.begin());
    parents_.push_back({.name = std::string(name),
                        .fd = std::make_shared<const UniqueFd>(std::move(fd)),
                        .path = std::move(path),
                        .inherits_acl = inherits_acl,
                        .is_new = is_new});
  }

  // Opens the directory `name` as the one to work in, if it is there. Those above it, which a tar
  // comes back to, stay open.
  bool open_parent(std::string_view name) {
    while (!parents_.empty() && !is_at_or_below(name, parent().name)) parents_.pop_back();
    if (!parents_.empty() && parent().name == name) return true;
    parent_name_.assign_part(name);
    if (auto fd = maybe_resolve_beneath(root_, parent_name_, O_PATH | O_DIRECTORY)) {
      use_parent(name, std::move(*fd), parent_name_.str());
      return true;
    }
    if (auto fd = maybe_resolve_in_root(root_, parent_name_, O_PATH | O_DIRECTORY)) {
      std::string path = path_in_root(fd->get());
      use_parent(name, std::move(*fd), std::move(path));
      return true;
    }
    return false;
  }

  // Where links have led, relative to the root.
  std::string path_in_root(int fd) const {
    const std::string path = path_of(fd);
    if (path == root_path_) return "";
    const size_t skip = root_path_ == "/" ? 1 : root_path_.size() + 1;
    VENEER_CHECK(path.starts_with(root_path_) && path.size() > skip);
    return path.substr(skip);
  }

  void open_parent_for_making() {
    if (!open_parent(path_.parent())) make_parents(path_.parent());
    if (parent().is_marked) return;
    made_.mark_parents(parent().path);
    made_.mark(parent().path, Mark::implied);
    parent().is_marked = true;
  }

  // Makes the missing directories of `name`, from the top, where its links lead; anything else that
  // is no directory makes room.
  void make_parents(std::string_view name) {
    finish_writing();
    const RelPath target = follow_links(name);
    RelPath path;
    for (size_t end = 0; end < target.str().size(); ++end) {
      end = std::min(target.str().find('/', end), target.str().size());
      path.assign_part(std::string_view(target.str()).substr(0, end));
      if (!open_parent(path.str())) make_implied_directory(path);
    }
    VENEER_CHECK(open_parent(target.str()));
  }

  // Opens the directory that `name` leads to, if it is there: also by a link through a name that is
  // not there and back ("gone/../here"), which the kernel does not follow.
  bool open_target(std::string_view name) {
    return open_parent(name) || open_parent(follow_links(name).str());
  }

  // Where `name` leads, also where that is not there yet.
  RelPath follow_links(std::string_view name) {
    RelPath at;
    std::string left(name);
    for (int links = 0; !left.empty();) {
      const size_t slash = std::min(left.find('/'), left.size());
      const std::string component = left.substr(0, slash);
      left.erase(0, slash + 1);
      if (component.empty() || component == ".") continue;
      if (component == "..") {
        if (!at.empty()) at.pop();
        continue;
      }
      const bool is_there = open_parent(at.str());
      at.push(component);
      const auto st = is_there ? maybe_stat_at(parent_dir(), at.leaf()) : std::nullopt;
      if (!st || !S_ISLNK(st->st_mode)) continue;
      if (++links > kMaxLinks) fail(Code::corrupt, "too many symbolic links in the name");
      const std::string target = read_link_at(parent_dir(), at.leaf());
      left.insert(0, target + '/');
      at.pop();
      if (target.starts_with('/')) at = RelPath();
    }
    return at;
  }

  void make_implied_directory(const RelPath& path) {
    VENEER_CHECK(open_parent(path.parent()));
    const int dir = parent_dir();
    if (const auto existing = maybe_stat_at(dir, path.leaf())) remove(dir, path.leaf(), *existing);
    make_dir_at(dir, path.leaf(), 0700);
    drop_inherited_acls(path.leaf());
    reset_implied(dir, path.leaf(), child_path(path.name()));
  }

  void reset_implied(int dir, PathView leaf, const std::string& path) {
    clear_xattrs(dir, leaf);
    set_owner_and_mode_at(dir, leaf, options_.id_maps.uids.to_host(0),
                          options_.id_maps.gids.to_host(0), kImpliedMode);
    directory_times_.insert_or_assign(path, kEpoch);
  }

  // --- removing ---

  void remove(int dir, PathView leaf, const struct stat& st) {
    (void)remove_tree_at(dir, leaf);
    // The names of the open directories may have led through this.
    if (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode)) forget_parents();
  }

  void whiteout(std::string_view target) {
    if (!open_target(path_.parent())) return;
    const int dir = parent_dir();
    const RelPath name = RelPath::parse_name(target, "whiteout");
    const std::optional<struct stat> st = maybe_stat_at(dir, name);
    if (!st) return;
    const std::string path = child_path(target);
    const Mark mark = made_.find(path);
    if (mark == Mark::none) return remove(dir, name, *st);
    if (!S_ISDIR(st->st_mode)) return;
    remove_older(open_dir_at(dir, name).get(), path);
    if (mark == Mark::implied) reset_implied(dir, name, path);
  }

  void make_opaque() {
    if (!open_target(path_.parent())) return;
    const std::string path = parent().path;
    remove_older(open_dir_at(parent_dir(), ".").get(), path);
  }

  // Removes what lower layers have below an open directory, and keeps what this layer made.
  void remove_older(int dir, const std::string& dir_path) {
    for (const std::string& name : list_dir(dir)) {
      const RelPath leaf = RelPath::parse_name(name, "name");
      const std::string path = dir_path.empty() ? name : dir_path + '/' + name;
      const Mark mark = made_.find(path);
      if (mark == Mark::none) {
        (void)remove_tree_at(dir, leaf);
      } else if (S_ISDIR(stat_at(dir, leaf).st_mode)) {
        remove_older(open_dir_at(dir, leaf).get(), path);
        if (mark == Mark::implied) reset_implied(dir, leaf, path);
      }
    }
    forget_parents();
  }

  tar::Reader reader_;
  FileWriter writer_;
  int root_;
  std::string root_path_;
  const ApplyOptions& options_;

  RelPath path_;                   // of the entry at hand
  std::string place_;              // where it is made: without links, relative to the root
  RelPath parent_name_;            // scratch
  RelPath target_;                 // of a hard link
  std::vector<Parent> parents_;    // open ones, each below the one before; the last is in use
  bool errors_are_named_ = false;  // those of the reader and the writer name their entry already
  MadeNames made_;
  MadeNames new_directories_;
  bool sets_default_acls_ = false;  // on anything
  std::map<std::string, timespec> directory_times_;
  uint64_t size_ = 0;
};

}  // namespace

uint64_t apply_layer(Source& tar, int root, const ApplyOptions& options) {
  return Applier(tar, root, options).run();
}

}  // namespace veneer
