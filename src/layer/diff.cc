#include "layer/diff.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>
#include <variant>

#include "base/at.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/path.h"
#include "layer/view.h"
#include "layer/whiteout.h"
#include "layer/xattr_policy.h"
#include "tar/writer.h"

namespace veneer {

namespace {

bool is_same_inode(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool is_same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

// Times that went through a tar have lost their nanoseconds.
bool may_be_same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && (a.tv_nsec == b.tv_nsec || a.tv_nsec == 0 || b.tv_nsec == 0);
}

bool is_device(const struct stat& st) {
  return S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode);
}

// True if a file that was stat'ed twice may have changed between. A change of ctime alone may come
// from another tree that links to the inode, as the `overlay` graph driver's do.
bool may_have_changed(const struct stat& before, const struct stat& after) {
  return !is_same_inode(before, after) || before.st_size != after.st_size ||
         !is_same_time(before.st_mtim, after.st_mtim) ||
         (!is_same_time(before.st_ctim, after.st_ctim) && before.st_nlink == after.st_nlink);
}

// Fills `room` unless the file ends before; returns how much there was.
size_t read_full(int fd, std::span<std::byte> room) {
  size_t size = 0;
  while (size < room.size())
    if (const size_t got = read_some(fd, room.subspan(size)))
      size += got;
    else
      break;
  return size;
}

// The names of some directories, each once, in bytewise order.
class NameList {
 public:
  struct Name {
    size_t offset = 0;
    bool present = false;  // in the `now` view, beyond doubt
    bool removed = false;
  };

  void add(const DirEntry& entry, bool present) {
    names_.push_back({.offset = text_.size(), .present = present, .removed = false});
    const std::string_view name = entry.name();
    text_.insert(text_.end(), name.begin(), name.end());
    text_.push_back('\0');
  }
  void settle() {
    std::ranges::sort(names_, [&](const Name& a, const Name& b) {
      const int order = std::strcmp(text(a), text(b));
      return order != 0 ? order < 0 : a.present > b.present;
    });
    const auto rest = std::ranges::unique(
        names_, [&](const Name& a, const Name& b) { return std::strcmp(text(a), text(b)) == 0; });
    names_.erase(rest.begin(), rest.end());
  }
  std::vector<Name>& names() { return names_; }
  DirEntry entry(const Name& name) const { return {text(name), DT_UNKNOWN}; }

 private:
  const char* text(const Name& name) const { return text_.data() + name.offset; }

  std::vector<char> text_;
  std::vector<Name> names_;
};

// Something that is in the diff: a name in a directory of the `now` view.
struct Item {
  const ViewReader& view;
  const MergedDir& dir;
  PathView name;
  Found found;
};

class Visitor {
 public:
  virtual ~Visitor() = default;
  virtual void present(std::string_view path, const Item& item, ChangeKind kind) = 0;
  virtual void removed(std::string_view path) = 0;
};

// What a difference is: a list names what a person would call changed, as Docker does; a tar must
// make the one view of the other, to the time of each directory, and cannot hold sockets.
enum class Purpose { list, tar };

// The walk over both views at once.
class Differ {
 public:
  Differ(const View& now, const std::optional<View>& before, Purpose purpose, Visitor& visitor)
      : now_(now), visitor_(visitor), purpose_(purpose) {
    if (!before) return;
    before_.emplace(*before);
    count_shared(now.layers, before->layers);
  }

  void run() {
    Item root{now_, no_parent_, ".", {}};
    MergedDir now = now_.root(root.found);
    MergedDir before;
    bool changed = differs_from_default(root.found);
    if (before_) {
      Found old;
      before = before_->root(old);
      changed = differs(root.found, old);
    }
    try {
      if (purpose_ == Purpose::tar && changed) visitor_.present("", root, ChangeKind::modify);
      enter(std::move(root), std::move(now), std::move(before), true);
      walk();
    } catch (Error& error) {
      if (!path_.empty()) error.add_context(path_.str());
      throw;
    }
  }

 private:
  // A directory that the walk is in. It stays where it is: items below refer to it.
  struct Level {
    Item item;
    MergedDir now;
    MergedDir before;
    size_t path_size = 0;
    bool told = false;  // the visitor knows of it
    NameList list;
    size_t next = 0;  // of the list
  };

  // Counts the layers at the end of both lists that are the same.
  void count_shared(const std::vector<int>& now, const std::vector<int>& before) {
    now_layers_ = now.size();
    before_layers_ = before.size();
    const size_t most = std::min(now_layers_, before_layers_);
    while (shared_layers_ < most &&
           is_same_inode(stat_fd(now[now_layers_ - 1 - shared_layers_]),
                         stat_fd(before[before_layers_ - 1 - shared_layers_])))
      ++shared_layers_;
  }

  bool is_shared(const DirPart& now, const DirPart& before) const {
    const size_t height = now_layers_ - now.layer;
    return height <= shared_layers_ && height == before_layers_ - before.layer &&
           now.device == before.device && now.inode == before.inode;
  }

  // The number of parts at the end of both that are the same: names that only those have are the
  // same.
  size_t shared_parts(const MergedDir& now, const MergedDir& before) const {
    size_t count = 0;
    while (count < now.parts.size() && count < before.parts.size() &&
           is_shared(now.parts[now.parts.size() - 1 - count],
                     before.parts[before.parts.size() - 1 - count]))
      ++count;
    return count;
  }

  static bool differs_from_default(const Found& root) {
    return (root.st.st_mode & 07777) != 0755 || root.st.st_uid != 0 || root.st.st_gid != 0 ||
           !root.xattrs.empty();
  }

  std::optional<Found> look(const ViewReader& view, const MergedDir& dir, PathView name) const {
    std::optional<Found> found = view.find(dir, name);
    if (found && purpose_ == Purpose::tar && S_ISSOCK(found->st.st_mode)) return std::nullopt;
    return found;
  }

  static bool is_surely_there(const DirPart& part, uint8_t type) {
    return type == DT_DIR || type == DT_LNK || type == DT_BLK || type == DT_FIFO ||
           (type == DT_REG && !part.has_xattr_whiteouts);
  }

  NameList candidates(const MergedDir& now, const MergedDir& before) const {
    NameList list;
    const size_t shared = shared_parts(now, before);
    for (size_t i = 0; i + shared < now.parts.size(); ++i) {
      DirReader reader(now.parts[i].fd);
      while (const std::optional<DirEntry> entry = reader.next())
        list.add(*entry, i == 0 && is_surely_there(now.parts[i], entry->type()));
    }
    for (size_t i = 0; i + shared < before.parts.size(); ++i) {
      DirReader reader(before.parts[i].fd);
      while (const std::optional<DirEntry> entry = reader.next()) list.add(*entry, false);
    }
    list.settle();
    return list;
  }

  void enter(Item item, MergedDir now, MergedDir before, bool told) {
    levels_.push_back(std::make_unique<Level>(Level{.item = std::move(item),
                                                    .now = std::move(now),
                                                    .before = std::move(before),
                                                    .path_size = path_.str().size(),
                                                    .told = told,
                                                    .list = {}}));
    Level& level = *levels_.back();
    level.list = candidates(level.now, level.before);
    // Whiteouts go before their siblings (image-spec layer.md).
    for (NameList::Name& name : level.list.names()) {
      if (name.present) continue;
      const DirEntry entry = level.list.entry(name);
      if (look(now_, level.now, entry.path())) continue;
      name.removed = true;
      if (before_ && look(*before_, level.before, entry.path())) report_removed(entry.name());
    }
  }

  void walk() {
    for (;;) {
      Level& level = *levels_.back();
      if (level.next == level.list.names().size()) {
        levels_.pop_back();
        if (levels_.empty()) return;
        path_.pop();
        continue;
      }
      const NameList::Name& name = level.list.names()[level.next++];
      if (name.removed) continue;
      const DirEntry entry = level.list.entry(name);
      push(entry.name());
      if (!compare(level, entry.path())) path_.pop();
    }
  }

  void push(std::string_view name) {
    path_.push(name);
    if (path_.str().size() > limits::kPathBytes)
      fail(Code::resource_exhausted, "a path of more than {} bytes", limits::kPathBytes);
    if (levels_.size() > limits::kPathDepth)
      fail(Code::resource_exhausted, "a path of more than {} names", limits::kPathDepth);
  }

  // True if the name is a directory that the walk is in now.
  bool compare(const Level& level, PathView name) {
    std::optional<Found> found = look(now_, level.now, name);
    if (!found) return false;  // a running container has just removed it
    std::optional<Found> old;
    if (before_) old = look(*before_, level.before, name);
    Item item{now_, level.now, name, std::move(*found)};
    if (S_ISDIR(item.found.st.st_mode)) return compare_dirs(item, level.before, old);
    compare_files(item, level.before, old);
    return false;
  }

  bool compare_dirs(Item& item, const MergedDir& before, std::optional<Found>& old) {
    MergedDir now_dir = now_.open_dir(item.dir, item.name, item.found);
    MergedDir before_dir;
    const bool was_dir = old && S_ISDIR(old->st.st_mode);
    if (was_dir) before_dir = before_->open_dir(before, item.name, *old);
    const size_t shared = shared_parts(now_dir, before_dir);
    if (shared == now_dir.parts.size() && shared == before_dir.parts.size()) return false;
    // One descriptor is enough for a directory that both have.
    for (size_t i = 1; i <= shared; ++i) {
      DirPart& part = before_dir.parts[before_dir.parts.size() - i];
      part.fd = now_dir.parts[now_dir.parts.size() - i].fd;
      part.own.reset();
    }
    const bool changed = !was_dir || differs(item.found, *old);
    if (changed) report(item, old ? ChangeKind::modify : ChangeKind::add);
    enter(std::move(item), std::move(now_dir), std::move(before_dir), changed);
    return true;
  }

  void compare_files(Item& item, const MergedDir& before, std::optional<Found>& old) {
    if (old && is_same_inode(item.found.st, old->st)) return;
    if (old || purpose_ == Purpose::tar) now_.read_attributes(item.dir, item.name, item.found);
    // Whether another name of the inode has changed is not known yet. If one has, this one is
    // needed to make the link; and links that came or went are a change of their own.
    const bool is_linked = purpose_ == Purpose::tar && item.found.st.st_nlink > 1;
    if (old && !is_linked) {
      if (((item.found.st.st_mode ^ old->st.st_mode) & S_IFMT) == 0)
        before_->read_attributes(before, item.name, *old);
      if (!differs(item.found, *old) && is_same_content(item, before, *old)) return;
    }
    report(item, old ? ChangeKind::modify : ChangeKind::add);
  }

  bool differs(const Found& now, const Found& before) const {
    const struct stat& a = now.st;
    const struct stat& b = before.st;
    if (a.st_mode != b.st_mode || a.st_uid != b.st_uid || a.st_gid != b.st_gid) return true;
    if (is_device(a) && a.st_rdev != b.st_rdev) return true;
    if (S_ISREG(a.st_mode) && a.st_size != b.st_size) return true;
    if (S_ISDIR(a.st_mode)) {
      if (purpose_ == Purpose::tar && a.st_mtim.tv_sec != b.st_mtim.tv_sec) return true;
    } else if (!may_be_same_time(a.st_mtim, b.st_mtim)) {
      return true;
    }
    return now.xattrs != before.xattrs;
  }

  bool is_same_content(const Item& item, const MergedDir& before, const Found& old) {
    if (S_ISLNK(item.found.st.st_mode))
      return read_link_at(item.dir.parts[item.found.part].fd, item.name) ==
             read_link_at(before.parts[old.part].fd, item.name);
    if (!S_ISREG(item.found.st.st_mode) || item.found.st.st_size == 0) return true;
    const UniqueFd a = now_.open_data(item.dir, item.name, item.found);
    const UniqueFd b = before_->open_data(before, item.name, old);
    if (buffer_.empty()) buffer_.resize(2 * kChunkBytes);
    const auto room_a = std::span(buffer_).first(kChunkBytes);
    const auto room_b = std::span(buffer_).last(kChunkBytes);
    for (;;) {
      const size_t size = read_full(a.get(), room_a);
      if (read_full(b.get(), room_b) != size) return false;
      if (size == 0) return true;
      if (std::memcmp(room_a.data(), room_b.data(), size) != 0) return false;
    }
  }

  void report(const Item& item, ChangeKind kind) {
    tell_parents();
    visitor_.present(path_.str(), item, kind);
  }

  void tell_parents() {
    size_t first = levels_.size();
    while (first > 0 && !levels_[first - 1]->told) --first;
    for (; first < levels_.size(); ++first) {
      Level& level = *levels_[first];
      level.told = true;
      visitor_.present(std::string_view(path_.str()).substr(0, level.path_size), level.item,
                       ChangeKind::modify);
    }
  }

  void report_removed(std::string_view name) {
    push(name);
    tell_parents();
    visitor_.removed(path_.str());
    path_.pop();
  }

  ViewReader now_;
  std::optional<ViewReader> before_;
  MergedDir no_parent_;
  size_t now_layers_ = 0;
  size_t before_layers_ = 0;
  size_t shared_layers_ = 0;
  Visitor& visitor_;
  Purpose purpose_;
  RelPath path_;
  std::vector<std::unique_ptr<Level>> levels_;
  std::vector<std::byte> buffer_;
};

class ListVisitor : public Visitor {
 public:
  void present(std::string_view path, const Item&, ChangeKind kind) override { add(path, kind); }
  void removed(std::string_view path) override { add(path, ChangeKind::remove); }

  std::vector<Change> take() {
    std::ranges::sort(changes_, {}, &Change::path);
    return std::move(changes_);
  }

 private:
  void add(std::string_view path, ChangeKind kind) {
    changes_.push_back({kind, fmt::format("/{}", path)});
  }

  std::vector<Change> changes_;
};

// Inodes with several names, by what was told of them first.
template <typename Value>
using LinkMap = std::map<std::pair<dev_t, ino_t>, Value>;

class SizeVisitor : public Visitor {
 public:
  void present(std::string_view, const Item& item, ChangeKind) override {
    const struct stat& st = item.found.st;
    if (!S_ISREG(st.st_mode)) return;
    if (st.st_nlink > 1 && !seen_.try_emplace({st.st_dev, st.st_ino}).second) return;
    size_ += static_cast<uint64_t>(st.st_size);
  }
  void removed(std::string_view) override {}
  uint64_t size() const { return size_; }

 private:
  LinkMap<std::monostate> seen_;
  uint64_t size_ = 0;
};

tar::EntryType entry_type(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return tar::EntryType::file;
    case S_IFDIR:
      return tar::EntryType::directory;
    case S_IFLNK:
      return tar::EntryType::symlink;
    case S_IFCHR:
      return tar::EntryType::char_device;
    case S_IFBLK:
      return tar::EntryType::block_device;
    case S_IFIFO:
      return tar::EntryType::fifo;
    default:
      fail(Code::unsupported, "a file of type {:o}", mode & S_IFMT);
  }
}

class TarVisitor : public Visitor {
 public:
  TarVisitor(const DiffOptions& options, Sink& to)
      : options_(options), writer_(to), buffer_(kChunkBytes) {}

  void present(std::string_view path, const Item& item, ChangeKind) override {
    refuse_reserved(item.name.c_str());
    const struct stat& st = item.found.st;
    start_entry(path.empty() ? "./" : path, entry_type(st.st_mode));
    set_attributes(item);
    if (!S_ISDIR(st.st_mode) && st.st_nlink > 1) {
      const auto [link, is_first] = links_.try_emplace({st.st_dev, st.st_ino}, path);
      if (!is_first) return add_link(link->second);
    }
    if (S_ISLNK(st.st_mode))
      entry_.link_target = read_link_at(item.dir.parts[item.found.part].fd, item.name);
    if (is_device(st)) {
      entry_.device_major = major(st.st_rdev);
      entry_.device_minor = minor(st.st_rdev);
    }
    if (S_ISREG(st.st_mode))
      add_file(item);
    else
      writer_.add(entry_);
  }

  void removed(std::string_view path) override {
    const size_t name_at = path.rfind('/') + 1;  // 0 if there is no slash
    refuse_reserved(path.substr(name_at));
    start_entry(path.substr(0, name_at), tar::EntryType::file);
    entry_.path += kWhiteoutPrefix;
    entry_.path += path.substr(name_at);
    writer_.add(entry_);
  }

  void finish() { writer_.finish(); }

 private:
  static void refuse_reserved(std::string_view name) {
    if (is_reserved_name(name))
      fail(Code::invalid_argument, "\"{}\" would be a whiteout in a layer tar", name);
  }

  // Keeps the memory of the entry before.
  void start_entry(std::string_view path, tar::EntryType type) {
    entry_.type = type;
    entry_.path = path;
    entry_.link_target.clear();
    entry_.mode = entry_.uid = entry_.gid = 0;
    entry_.device_major = entry_.device_minor = 0;
    entry_.modified = {};
    entry_.xattrs.clear();
    entry_.size = 0;
  }

  void set_attributes(const Item& item) {
    const struct stat& st = item.found.st;
    entry_.mode = st.st_mode & 07777;
    entry_.uid = options_.id_maps.uids.to_container(st.st_uid);
    entry_.gid = options_.id_maps.gids.to_container(st.st_gid);
    entry_.modified.seconds = st.st_mtim.tv_sec;
    if (options_.keeps_nanoseconds)
      entry_.modified.nanoseconds = static_cast<uint32_t>(st.st_mtim.tv_nsec);
    if (options_.epoch) entry_.modified.seconds = std::min(st.st_mtim.tv_sec, *options_.epoch);
    for (const Xattr& xattr : item.found.xattrs)
      entry_.xattrs.push_back(
          {xattr.name, xattr_value_to_tar(xattr.name, xattr.value, options_.id_maps)});
  }

  void add_link(const std::string& first) {
    entry_.type = tar::EntryType::hard_link;
    entry_.link_target = first;
    entry_.xattrs.clear();
    writer_.add(entry_);
  }

  void add_file(const Item& item) {
    const struct stat& st = item.found.st;
    const UniqueFd data = item.view.open_data(item.dir, item.name, item.found);
    const struct stat before = stat_fd(data.get());
    const bool is_metacopy = !is_same_inode(before, st);
    // The attributes in the header were read a moment ago, by name.
    if (!is_metacopy && may_have_changed(st, before)) fail_changed();
    entry_.size = static_cast<uint64_t>(st.st_size);
    writer_.add(entry_);
    for (uint64_t left = entry_.size; left > 0;) {
      const auto room = std::span(buffer_).first(std::min<uint64_t>(left, buffer_.size()));
      const size_t size = read_some(data.get(), room);
      if (size == 0) fail_changed();
      writer_.write(room.first(size));
      left -= size;
    }
    if (may_have_changed(before, stat_fd(data.get()))) fail_changed();
    if (is_metacopy && may_have_changed(st, stat_at(item.dir.parts[item.found.part].fd, item.name)))
      fail_changed();
  }

  [[noreturn]] static void fail_changed() {
    fail(Code::failed_precondition, "the file changed while it was read");
  }

  const DiffOptions& options_;
  tar::Writer writer_;
  tar::Entry entry_;
  LinkMap<std::string> links_;
  std::vector<std::byte> buffer_;
};

}  // namespace

std::vector<Change> list_changes(const View& now, const std::optional<View>& before) {
  ListVisitor visitor;
  Differ(now, before, Purpose::list, visitor).run();
  return visitor.take();
}

uint64_t diff_size(const View& now, const std::optional<View>& before) {
  SizeVisitor visitor;
  Differ(now, before, Purpose::tar, visitor).run();
  return visitor.size();
}

void write_diff(const View& now, const std::optional<View>& before, const DiffOptions& options,
                Sink& to) {
  TarVisitor visitor(options, to);
  Differ(now, before, Purpose::tar, visitor).run();
  visitor.finish();
}

}  // namespace veneer
