#include "tests/support/tree.h"

#include <dirent.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "base/digest.h"
#include "base/error.h"

namespace veneer::test {

Scratch::Scratch() {
  const char* base = ::getenv("VENEER_SCRATCH");
  path_ = std::string(base != nullptr ? base : "/var/tmp") + "/veneer-test-XXXXXX";
  VENEER_CHECK(::mkdtemp(path_.data()) != nullptr);
  dir_ = open_root(path_);
}

Scratch::~Scratch() {
  unmount_all();
  remove_children(dir_.get());
  (void)::rmdir(path_.c_str());
}

UniqueFd Scratch::make(const std::string& name) {
  const RelPath path = RelPath::parse_name(name, "name");
  make_dir_at(dir(), path, 0755);
  return open_dir_at(dir(), path);
}

std::vector<std::string> Scratch::mounts() const {
  std::vector<std::string> mounts;
  std::ifstream table("/proc/self/mountinfo");
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::string word;
    for (int field = 0; field < 5; ++field) words >> word;
    if (word.starts_with(path_ + "/")) mounts.push_back(word);
  }
  return mounts;
}

void Scratch::unmount_all() const {
  for (const std::string& mount : mounts()) (void)::umount2(mount.c_str(), MNT_DETACH);
}

namespace {

class Describer {
 public:
  explicit Describer(const Describe& what) : what_(what) {}

  void walk(int dir, const std::string& path) {
    describe(dir, ".", path.empty() ? "." : path);
    for (const std::string& name : list_dir(dir)) {
      const std::string child = path.empty() ? name : path + "/" + name;
      const RelPath leaf = RelPath::parse_name(name, "name");
      if (S_ISDIR(stat_at(dir, leaf).st_mode)) {
        walk(open_dir_at(dir, leaf).get(), child);
      } else {
        describe(dir, leaf, child);
      }
    }
  }

  std::map<std::string, std::string> take() {
    for (const auto& [inode, paths] : groups_)
      for (const std::string& path : paths)  // other trees may share the inode too
        if (paths.size() > 1) lines_[path] += " same as " + paths.front();
    return std::move(lines_);
  }

 private:
  void describe(int dir, PathView leaf, const std::string& path) {
    const struct stat st = stat_at(dir, leaf);
    std::string line = fmt::format("{:06o} {}:{}", st.st_mode, st.st_uid, st.st_gid);
    if (what_.times && (what_.directory_times || !S_ISDIR(st.st_mode)))
      line += fmt::format(" {}.{:09}", st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    if (S_ISREG(st.st_mode)) {
      const std::string data = read_file_at(dir, leaf, 1 << 30);
      line += fmt::format(" {} {}", st.st_size,
                          data.size() < 40 ? data : Sha256::of(data).hex().substr(0, 16));
    } else if (S_ISLNK(st.st_mode)) {
      line += " -> " + read_link_at(dir, leaf);
    } else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
      line += fmt::format(" {}:{}", major(st.st_rdev), minor(st.st_rdev));
    }
    for (const Xattr& xattr : read_xattrs_at(dir, leaf)) {
      if (!what_.overlay_xattrs && xattr.name.starts_with("trusted.overlay.")) continue;
      line += " " + xattr.name + "=";
      for (const char c : xattr.value) line += fmt::format("{:02x}", static_cast<uint8_t>(c));
    }
    if (what_.hard_links && !S_ISDIR(st.st_mode) && st.st_nlink > 1)
      groups_[st.st_ino].push_back(path);
    lines_[path] = line;
  }

  Describe what_;
  std::map<ino_t, std::vector<std::string>> groups_;
  std::map<std::string, std::string> lines_;
};

}  // namespace

std::map<std::string, std::string> describe_tree(int dir, const Describe& what) {
  Describer describer(what);
  describer.walk(open_dir_at(dir, ".").get(), "");  // `dir` may be O_PATH, a mount's
  return describer.take();
}

std::string names_of(int dir) {
  std::string names;
  for (const auto& [path, line] : describe_tree(dir))
    if (path != ".") names += (names.empty() ? "" : " ") + path;
  return names;
}

void set_immutable(int dir, PathView path, bool is_immutable) {
  const UniqueFd file = open_at(dir, path, O_RDONLY);
  int flags = is_immutable ? FS_IMMUTABLE_FL : 0;
  check(::ioctl(file.get(), FS_IOC_SETFLAGS, &flags), "FS_IOC_SETFLAGS");
}

}  // namespace veneer::test
