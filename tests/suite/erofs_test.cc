// Images that the writer makes, read by those who must understand them: the kernel's EROFS,
// overlayfs above it, and fsck.erofs and dump.erofs of a current erofs-utils.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <set>

#include "base/at.h"
#include "base/error.h"
#include "base/limits.h"
#include "erofs/writer.h"

namespace veneer::erofs {
namespace {

// A real file system: the kernel mounts no EROFS file that lies on tmpfs or overlayfs.
class Scratch {
 public:
  Scratch() {
    const char* base = std::getenv("VENEER_SCRATCH");
    path_ = std::string(base ? base : "/var/tmp") + "/veneer-erofs.XXXXXX";
    if (!mkdtemp(path_.data())) ADD_FAILURE() << "mkdtemp " << path_;
    dir_ = open_root(path_);
  }
  Scratch(const Scratch&) = delete;
  ~Scratch() {
    dir_.reset();
    const size_t slash = path_.rfind('/');
    remove_tree_at(open_root(path_.substr(0, slash)).get(),
                   RelPath::parse(path_.substr(slash + 1)));
  }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  int dir() const { return dir_.get(); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  UniqueFd dir_;
};

class Mounted {
 public:
  Mounted(const char* type, const std::string& source, const std::string& target,
          unsigned long flags, const std::string& options)
      : target_(target) {
    check(mount(source.c_str(), target.c_str(), type, flags, options.c_str()),
          "mount {} at {} with {}", source, target, options);
    dir_ = open_root(target);
  }
  Mounted(const Mounted&) = delete;
  ~Mounted() {
    dir_.reset();
    if (umount2(target_.c_str(), MNT_DETACH) != 0) ADD_FAILURE() << "umount " << target_;
  }
  int dir() const { return dir_.get(); }

 private:
  std::string target_;
  UniqueFd dir_;
};

std::byte pattern(uint64_t at) {
  return std::byte((at * 2654435761U >> 16) & 0xff);
}

// What was asked for and what must be read back, by path.
struct Expected {
  Inode inode = {};
  std::vector<Extent> extents = {};
  std::vector<Xattr> xattrs = {};
  std::string target = {};
  std::set<std::string> children = {};
  uint32_t links = 0;
};

// An image in the making, with its device: a file that holds pattern() at every offset.
class Tree {
 public:
  Tree() {
    nodes_.push_back(std::make_unique<Expected>());
    nodes_[0]->inode = {.mode = S_IFDIR | 0700, .uid = 3, .gid = 4, .mtime = {1, 2}};
    VENEER_CHECK(image_.add(nodes_[0]->inode) == kRoot);
    paths_[""] = kRoot;
  }

  NodeId add(const std::string& path, Expected expected) {
    auto node = std::make_unique<Expected>(std::move(expected));
    node->inode.extents = node->extents;
    node->inode.target = node->target;
    node->inode.xattrs = image_.intern_xattrs(node->xattrs);
    const NodeId id = image_.add(node->inode);
    nodes_.push_back(std::move(node));
    link(path, id);
    return id;
  }

  void link(const std::string& path, NodeId id) {
    const size_t slash = path.rfind('/');
    const NodeId parent = paths_.at(slash == std::string::npos ? "" : path.substr(0, slash));
    names_.push_back(path.substr(slash + 1));
    image_.add_entry(parent, names_.back(), id);
    nodes_[parent]->children.insert(names_.back());
    ++nodes_[id]->links;
    if (S_ISDIR(nodes_[id]->inode.mode)) ++nodes_[parent]->links;
    paths_[path] = id;
  }

  NodeId add_directory(const std::string& path) {
    return add(path, {.inode = {.mode = S_IFDIR | 0755}});
  }

  // A file that is one piece of the device, at its next block.
  NodeId add_file(const std::string& path, uint64_t size, Inode inode = {.mode = S_IFREG | 0644}) {
    inode.size = size;
    std::vector<Extent> extents;
    if (size > 0) extents.push_back({.device_offset = take(size), .size = size});
    return add(path, {.inode = inode, .extents = std::move(extents)});
  }

  uint64_t take(uint64_t size) {
    const uint64_t at = (device_size_ + 511) / 512 * 512;
    device_size_ = at + size;
    return at;
  }

  void write(const Scratch& scratch) {
    const UniqueFd device = open_at(scratch.dir(), "layer.tar", O_CREAT | O_EXCL | O_RDWR, 0600);
    std::vector<std::byte> part(1 << 20);
    for (uint64_t at = 0; at < device_size_; at += part.size()) {
      part.resize(std::min<uint64_t>(part.size(), device_size_ - at));
      for (size_t i = 0; i < part.size(); ++i) part[i] = pattern(at + i);
      write_all(device.get(), part);
    }
    const UniqueFd index = open_at(scratch.dir(), "layer.erofs", O_CREAT | O_EXCL | O_WRONLY, 0600);
    const auto read = [&](uint64_t offset, std::span<std::byte> buffer) {
      ASSERT_EQ(read_some_at(device.get(), buffer, offset), buffer.size());
    };
    image_.write({.size_bytes = device_size_, .tag = "the tar", .read = read},
                 [&](Bytes bytes) { write_all(index.get(), bytes); });
  }

  // Compares everything under an open directory, both ways.
  void verify(int root) const {
    std::map<NodeId, ino_t> inodes;
    for (const auto& [path, id] : paths_) {
      SCOPED_TRACE("/" + path.substr(0, 100));
      const Expected& expected = *nodes_[id];
      const RelPath at = RelPath::parse(path);
      const struct stat stat = stat_at(root, at);
      verify_stat(expected, stat);
      // A directory is counted by "." and its name, the root by "..".
      const uint32_t dots = !S_ISDIR(expected.inode.mode) ? 0 : id == kRoot ? 2 : 1;
      EXPECT_EQ(stat.st_nlink, expected.links + dots);
      EXPECT_EQ(inodes.try_emplace(id, stat.st_ino).first->second, stat.st_ino);
      verify_contents(expected, root, at);
      auto xattrs = expected.xattrs;
      std::ranges::sort(xattrs);
      EXPECT_TRUE(read_xattrs_at(root, at) == xattrs);
      if (testing::Test::HasFailure()) return;
    }
    std::set<ino_t> distinct;
    for (const auto& [id, inode] : inodes) distinct.insert(inode);
    EXPECT_EQ(distinct.size(), nodes_.size());
  }

 private:
  static void verify_stat(const Expected& expected, const struct stat& stat) {
    const Inode& inode = expected.inode;
    EXPECT_EQ(stat.st_mode, inode.mode);
    EXPECT_EQ(stat.st_uid, inode.uid);
    EXPECT_EQ(stat.st_gid, inode.gid);
    EXPECT_EQ(stat.st_mtim.tv_sec, inode.mtime.tv_sec);
    EXPECT_EQ(stat.st_mtim.tv_nsec, inode.mtime.tv_nsec);
    EXPECT_NE(stat.st_ino, 0U);
    EXPECT_EQ(stat.st_rdev, makedev(inode.device_major, inode.device_minor));
    const auto size = static_cast<uint64_t>(stat.st_size);
    if (S_ISREG(inode.mode)) {
      EXPECT_EQ(size, inode.size);
    } else if (S_ISLNK(inode.mode)) {
      EXPECT_EQ(size, expected.target.size());
    }
  }

  static void verify_contents(const Expected& expected, int root, const RelPath& at) {
    if (S_ISLNK(expected.inode.mode)) {
      EXPECT_EQ(read_link_at(root, at), expected.target);
    } else if (S_ISREG(expected.inode.mode)) {
      verify_data(expected, root, at);
    } else if (S_ISDIR(expected.inode.mode)) {
      const auto names = list_dir(open_dir_at(root, at).get());
      EXPECT_TRUE(std::ranges::equal(names, expected.children));
    }
  }

  // Files of up to 64 MiB wholly; of larger ones each extent with what is around it.
  static void verify_data(const Expected& expected, int root, const RelPath& at) {
    const UniqueFd fd = open_at(root, at, O_RDONLY);
    constexpr uint64_t kWhole = 64 << 20;
    if (expected.inode.size <= kWhole) {
      verify_range(expected, fd.get(), 0, expected.inode.size);
      return;
    }
    for (const Extent& extent : expected.extents) {
      const uint64_t begin = extent.file_offset - std::min<uint64_t>(extent.file_offset, 5000);
      verify_range(expected, fd.get(), begin, std::min(begin + kWhole, extent.file_end() + 5000));
    }
    verify_range(expected, fd.get(), expected.inode.size - 100'000, expected.inode.size);
  }

  static void verify_range(const Expected& expected, int fd, uint64_t begin, uint64_t end) {
    end = std::min(end, expected.inode.size);
    std::vector<std::byte> wanted(end - begin);
    for (const Extent& extent : expected.extents)
      for (uint64_t i = std::max(begin, extent.file_offset); i < std::min(end, extent.file_end());
           ++i)
        wanted[i - begin] = pattern(extent.device_offset + (i - extent.file_offset));
    std::vector<std::byte> found(end - begin + 1);
    size_t size = 0;
    while (const size_t some = read_some_at(fd, std::span(found).subspan(size), begin + size))
      size += some;
    EXPECT_EQ(size, end == expected.inode.size ? wanted.size() : wanted.size() + 1);
    found.resize(wanted.size());
    EXPECT_TRUE(found == wanted) << "bytes " << begin << " to " << end;
  }

  Image image_;
  std::vector<std::unique_ptr<Expected>> nodes_;
  std::deque<std::string> names_;
  std::map<std::string, NodeId> paths_;
  uint64_t device_size_ = 1024;
};

class Erofs : public testing::Test {
 protected:
  Mounted mount_image(const std::string& at = "mnt") {
    make_dir_at(scratch_.dir(), RelPath::parse(at), 0700);
    return Mounted("erofs", scratch_ / "layer.erofs", scratch_ / at,
                   MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC,
                   "device=" + scratch_ / "layer.tar");
  }

  // Runs one of the erofs-utils on the image, in the root of the newer clients; gives its output.
  std::string run_tool(const std::string& tool, const std::string& options) {
    const char* clients = std::getenv("VENEER_CLIENTS");
    const std::string root = std::string(clients ? clients : VENEER_CLIENTS) + "/forky";
    if (access((root + "/usr/bin/fsck.erofs").c_str(), X_OK) != 0) {
      ADD_FAILURE() << "no erofs-utils in " << root << ": run tests/support/clients.sh";
      return "";
    }
    const Mounted bound("none", scratch_.path(), root + "/mnt", MS_BIND, "");
    const std::string command = fmt::format(
        "chroot '{}' {} {} --device=/mnt/layer.tar /mnt/layer.erofs 2>&1", root, tool, options);
    FILE* const pipe = popen(command.c_str(), "re");
    if (!pipe) fail(Code::io, "popen {}", command);
    std::string output;
    std::array<char, 4096> buffer;
    while (const size_t size = fread(buffer.data(), 1, buffer.size(), pipe))
      output.append(buffer.data(), size);
    EXPECT_EQ(pclose(pipe), 0) << command << "\n" << output;
    return output;
  }

  // fsck.erofs reads every inode, name, attribute and byte of data.
  void check_with_fsck() { EXPECT_EQ(run_tool("fsck.erofs", "--extract --xattrs"), ""); }

  Scratch scratch_;
  Tree tree_;
};

TEST_F(Erofs, EveryTypeModeOwnerAndTime) {
  const std::vector<Inode> inodes{
      {.mode = S_IFREG | 06755, .uid = 0xfffffffe, .gid = 0xfffffffe},
      {.mode = S_IFREG, .uid = 65535, .gid = 65535},
      {.mode = S_IFREG | 0600, .uid = 65536, .mtime = {.tv_sec = -1, .tv_nsec = 999'999'999}},
      {.mode = S_IFREG | 0600,
       .gid = 65536,
       .mtime = {.tv_sec = -(int64_t{1} << 40), .tv_nsec = 0}},
      {.mode = S_IFDIR | 01777, .mtime = {.tv_sec = int64_t{1} << 40, .tv_nsec = 1}},
      {.mode = S_IFCHR | 0666, .device_major = 1, .device_minor = 3},
      {.mode = S_IFCHR | 0666, .device_major = 4095, .device_minor = 1048575},
      {.mode = S_IFBLK | 0660, .uid = 1, .device_major = 259, .device_minor = 256},
      {.mode = S_IFCHR},
      {.mode = S_IFIFO | 0644},
      {.mode = S_IFSOCK | 0755},
  };
  for (size_t i = 0; i < inodes.size(); ++i) tree_.add(fmt::format("{}", i), {.inode = inodes[i]});
  for (uint32_t i = 0; i < 40; ++i)
    tree_.add_file(fmt::format("same-{}", i), 10, {.mode = S_IFREG | 0644, .mtime = {1000, 7}});
  tree_.write(scratch_);
  tree_.verify(mount_image().dir());
  check_with_fsck();
  const std::string super = run_tool("dump.erofs", "-s");
  for (const char* const line : {"Filesystem blocksize:                         512\n",
                                 "Filesystem inode count:                       52\n",
                                 "compatible features:               sb_csum mtime \n",
                                 "incompatible features:             device_table \n"})
    EXPECT_NE(super.find(line), super.npos) << line << super;
}

TEST_F(Erofs, HardLinksAreOneInode) {
  tree_.add_directory("d");
  const NodeId file = tree_.add_file("file", 5);
  tree_.link("d/link", file);
  const NodeId fifo = tree_.add("d/fifo", {.inode = {.mode = S_IFIFO | 0600}});
  tree_.link("fifo", fifo);
  // More links than the 16 bits of a compact inode.
  const NodeId popular = tree_.add_file("popular", 1);
  for (int i = 0; i < 65536; ++i) tree_.link(fmt::format("d/{}", i), popular);
  tree_.write(scratch_);
  tree_.verify(mount_image().dir());
  check_with_fsck();
}

TEST_F(Erofs, NamesOfAnyBytesAreFound) {
  for (const char* const name :
       {"!", "-", "...", ".a", "..a", " ", "\x01", "\xff\xfe", "a\nb", "~"})
    tree_.add_file(name, 3);
  tree_.add_directory("long");
  for (char first = 'a'; first <= 'z'; ++first)
    tree_.add_file("long/" + std::string(limits::kNameBytes, first), 3);
  for (size_t size = 1; size < limits::kNameBytes; ++size)
    tree_.add_file("long/" + std::string(size, 'x'), 3);
  const Mounted mounted = (tree_.write(scratch_), mount_image());
  tree_.verify(mounted.dir());
  EXPECT_FALSE(exists_at(mounted.dir(), RelPath::parse("nothing")));
  EXPECT_FALSE(exists_at(mounted.dir(), RelPath::parse("long/" + std::string(254, 'b'))));
  check_with_fsck();
}

// Every size, with a whole directory about each, moves what lies beside inodes over every place of
// a block.
TEST_F(Erofs, ContentsOfEverySizeStayWithinTheirBlocks) {
  for (size_t size = 1; size <= limits::kLinkTargetBytes; size += size < 600 ? 1 : 97)
    tree_.add(fmt::format("link-{}", size),
              {.inode = {.mode = S_IFLNK | 0777}, .target = std::string(size, 't')});
  tree_.add("longest", {.inode = {.mode = S_IFLNK | 0777},
                        .target = std::string(limits::kLinkTargetBytes, 't')});
  for (int i = 0; i < 80; ++i) {
    tree_.add_directory(fmt::format("d{}", i));
    for (int child = 0; child < i; ++child) tree_.add_file(fmt::format("d{}/{}", i, child), 1);
  }
  tree_.write(scratch_);
  tree_.verify(mount_image().dir());
  check_with_fsck();
}

TEST_F(Erofs, FilesOfOnePiece) {
  for (const uint64_t size : {0U, 1U, 511U, 512U, 513U, 4095U, 4096U, 4097U, 100'000U, 3U << 20})
    tree_.add_file(fmt::format("{}", size), size);
  tree_.write(scratch_);
  tree_.verify(mount_image().dir());
  check_with_fsck();
}

// A tar may end with the last byte of its last file.
TEST_F(Erofs, ADeviceThatEndsWithinABlock) {
  for (const uint64_t size : {1U, 511U, 512U, 513U, 4097U, 1'000'001U})
    tree_.add_file(fmt::format("{}", size), size);
  tree_.write(scratch_);
  tree_.verify(mount_image().dir());
  check_with_fsck();
}

TEST_F(Erofs, AnEmptyTreeWithAnEmptyDevice) {
  Image image;
  image.add({.mode = S_IFDIR | 0755});
  write_file_at(scratch_.dir(), "layer.tar", "", 0600);
  const UniqueFd index = open_at(scratch_.dir(), "layer.erofs", O_CREAT | O_WRONLY, 0600);
  image.write({}, [&](Bytes bytes) { write_all(index.get(), bytes); });
  EXPECT_TRUE(list_dir(mount_image().dir()).empty());
  check_with_fsck();
}

Expected sparse(uint64_t size, std::vector<Extent> extents) {
  return {.inode = {.mode = S_IFREG | 0644, .size = size}, .extents = std::move(extents)};
}

TEST_F(Erofs, SparseFiles) {
  const uint64_t at = tree_.take(1 << 20);
  tree_.add("hole", sparse(100'000, {}));
  tree_.add("blocks", sparse(40'960, {{4096, at, 4096}, {12'288, at + 4096, 8192}}));
  tree_.add("ends", sparse(1'000'000, {{0, at + 512, 512}, {999'424, at + 1024, 576}}));
  // Pieces that follow one another in the tar, of odd sizes and at odd places.
  tree_.add("odd", sparse(70'001, {{7, at + 512, 100},
                                   {1000, at + 612, 3000},
                                   {4096, at + 3612, 5},
                                   {69'000, at + 3617, 1001}}));
  tree_.add("unaligned", sparse(300'000, {{0, at + 1, 300'000}}));
  tree_.add("short", sparse(1000, {{0, at + 512, 700}}));
  tree_.write(scratch_);
  tree_.verify(mount_image().dir());
  check_with_fsck();
}

TEST_F(Erofs, SparseFilesBeyondFourGibibytes) {
  constexpr uint64_t kGiB = 1 << 30;
  const uint64_t at = tree_.take(1 << 20);
  tree_.add("5G", sparse(5 * kGiB + 3, {{4096, at, 8192},
                                        {3 * kGiB + 512, at + 8192, 512},
                                        {4 * kGiB + 1, at + 9000, 100'000},
                                        {5 * kGiB, at + 512, 3}}));
  tree_.add("8T", sparse(limits::kFileBytes, {{limits::kFileBytes - 5000, at, 5000}}));
  tree_.write(scratch_);
  tree_.verify(mount_image().dir());
  EXPECT_LT(stat_at(scratch_.dir(), "layer.erofs").st_size, 32 << 20);
  EXPECT_NE(run_tool("dump.erofs", "-e --path=/5G").find("Size: 5368709123 "), std::string::npos);
}

TEST_F(Erofs, Xattrs) {
  using std::string_literals::operator""s;
  const std::string acl = "\2\0\0\0"s + "\1\0\7\0\377\377\377\377"s + "\2\0\5\0\350\3\0\0"s +
                          "\4\0\5\0\377\377\377\377"s + "\20\0\5\0\377\377\377\377"s +
                          "\40\0\0\0\377\377\377\377"s;
  const std::string capability = "\1\0\0\2\0\40\0\0"s + std::string(12, '\0');
  const Inode file{.mode = S_IFREG | 0750};
  tree_.add("acl", {.inode = file, .xattrs = {{"system.posix_acl_access", acl}}});
  tree_.add("dir", {.inode = {.mode = S_IFDIR | 0750},
                    .xattrs = {{"system.posix_acl_access", acl},
                               {"system.posix_acl_default", acl},
                               {"user.dir", "value"}}});
  tree_.add("binary",
            {.inode = file, .xattrs = {{"user.binary", "\0\1\377"s}, {"trusted.t", "x"}}});
  tree_.add("link", {.inode = {.mode = S_IFLNK | 0777},
                     .xattrs = {{"trusted.link", std::string(300, 'l')}},
                     .target = std::string(400, 't')});
  tree_.add("node", {.inode = {.mode = S_IFCHR}, .xattrs = {{"security.x", "node"}}});
  for (const size_t size : {500U, 512U, 513U, 4096U, 65535U})
    tree_.add(fmt::format("large-{}", size),
              {.inode = file, .xattrs = {{"user.large", std::string(size, 'v')}}});
  for (int i = 0; i < 1000; ++i)
    tree_.add(fmt::format("same-{}", i),
              {.inode = file, .xattrs = {{"security.capability", capability}}});
  for (size_t i = 1; i < 520; ++i)
    tree_.add(fmt::format("other-{}", i),
              {.inode = file, .xattrs = {{"user.x", std::string(i, 'o')}}});
  std::vector<Xattr> many;
  for (int i = 0; i < 400; ++i) many.push_back({fmt::format("user.{:03}", i), "value"});
  tree_.add("many-1", {.inode = file, .xattrs = many});
  many.resize(300);
  tree_.add("many-2", {.inode = file, .xattrs = many});
  tree_.add("longest", {.inode = file, .xattrs = {{"user." + std::string(250, 'n'), "v"}}});
  tree_.write(scratch_);
  tree_.verify(mount_image().dir());
  check_with_fsck();
}

TEST_F(Erofs, ADirectoryOfAHundredThousand) {
  tree_.add_directory("d");
  for (uint32_t i = 0; i < 100'000; ++i)
    tree_.add(fmt::format("d/{:x}", i * 2654435761U), {.inode = {.mode = S_IFREG | 0644}});
  tree_.write(scratch_);
  tree_.verify(mount_image().dir());
  check_with_fsck();
}

// Overlayfs needs of a layer: whiteouts, opaque directories, and the mark on directories with
// whiteouts without which readdir shows them where no lower layer has the directory.
TEST_F(Erofs, OverlayfsHonoursWhiteoutsAndOpaqueDirectories) {
  const Inode directory{.mode = S_IFDIR | 0755};
  const Xattr origin{"trusted.overlay.origin", ""};
  tree_.add("dir", {.inode = directory, .xattrs = {origin}});
  tree_.add("dir/gone", {.inode = {.mode = S_IFCHR}});
  tree_.add("dir/new", {.inode = {.mode = S_IFREG | 0644}});
  tree_.add("only", {.inode = directory, .xattrs = {origin}});
  tree_.add("only/ghost", {.inode = {.mode = S_IFCHR}});
  tree_.add("opaque", {.inode = directory,
                       .xattrs = {{"trusted.overlay.opaque", "y"}, {"user.overlay.opaque", "y"}}});
  tree_.add_file("opaque/new", 700);
  tree_.write(scratch_);

  for (const char* const path : {"lower", "lower/dir", "lower/opaque", "merged"})
    make_dir_at(scratch_.dir(), RelPath::parse(path), 0755);
  for (const char* const path : {"lower/dir/gone", "lower/dir/kept", "lower/opaque/old"})
    write_file_at(scratch_.dir(), RelPath::parse(path), "old", 0644);
  const Mounted top = mount_image();
  tree_.verify(top.dir());
  const Mounted merged("overlay", "overlay", scratch_ / "merged", MS_RDONLY,
                       "lowerdir=" + scratch_ / "mnt" + ":" + scratch_ / "lower");
  const auto names = [&](std::string_view path) {
    return list_dir(open_dir_at(merged.dir(), RelPath::parse(path)).get());
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names(""), (Names{"dir", "only", "opaque"}));
  EXPECT_EQ(names("dir"), (Names{"kept", "new"}));
  EXPECT_EQ(names("only"), Names{});
  EXPECT_EQ(names("opaque"), Names{"new"});
  EXPECT_FALSE(exists_at(merged.dir(), RelPath::parse("dir/gone")));
  EXPECT_FALSE(exists_at(merged.dir(), RelPath::parse("opaque/old")));
  EXPECT_EQ(read_file_at(merged.dir(), RelPath::parse("opaque/new"), 1000).size(), 700U);
}

}  // namespace
}  // namespace veneer::erofs
