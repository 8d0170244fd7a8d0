// A layer's tar, packed: either an Error, or an index that a strict reader accepts and that holds
// what the tree says, over no lower layers and over a few names. A tree that adopts the lower
// layers makes the very bytes of one that is built over them.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "layer/pack.h"
#include "layer/xattr_policy.h"
#include "tests/support/erofs_check.h"

namespace {

using veneer::Bytes;
using veneer::InodeId;
using veneer::LayerTree;
using veneer::LowerEntry;
using veneer::RelPath;
using veneer::TreeAttributes;
using veneer::TreeInode;
using veneer::Xattr;

// A sparse file of a few bytes may take gigabytes of index, which show nothing more.
constexpr size_t kMostIndexBytes = 2 << 20;

// --- the lower layers ---

struct LowerName {
  std::string_view path;
  mode_t mode;
  std::string_view target;
};
constexpr LowerName kLowerNames[] = {
    {"", S_IFDIR | 0751, ""},         {"d", S_IFDIR | 0700, ""},
    {"d/sub", S_IFDIR | 0755, ""},    {"d/sub/f", S_IFREG | 0644, ""},
    {"d/f", S_IFREG | 0600, ""},      {"d/up", S_IFLNK | 0777, "../../e"},
    {"e", S_IFDIR | 02775, ""},       {"f", S_IFREG | 0644, ""},
    {"l", S_IFLNK | 0777, "d"},       {"abs", S_IFLNK | 0777, "/d/sub"},
    {"loop", S_IFLNK | 0777, "loop"}, {"none", S_IFLNK | 0777, "not/there"},
};

class SmallLower final : public veneer::LowerNames {
 public:
  std::optional<LowerEntry> find(const RelPath& path) const override {
    for (const LowerName& name : kLowerNames) {
      if (name.path != path.str()) continue;
      LowerEntry entry;
      entry.st.st_mode = name.mode;
      entry.st.st_uid = 7;
      entry.st.st_gid = 100000;
      entry.st.st_mtim = {.tv_sec = 1500000000, .tv_nsec = 5};
      entry.link_target = name.target;
      if (S_ISDIR(name.mode)) entry.xattrs = {{"user.of", std::string(name.path)}};
      return entry;
    }
    return std::nullopt;
  }
  std::vector<std::string> list_root() const override {
    std::vector<std::string> names;
    for (const LowerName& name : kLowerNames)
      if (!name.path.empty() && !name.path.contains('/')) names.emplace_back(name.path);
    return names;
  }
};

// --- what an index must hold ---

struct Wanted {
  TreeAttributes attributes;
  std::vector<Xattr> xattrs;
  const TreeInode* inode = nullptr;
  InodeId id = 0;
};

class Recorder final : public veneer::TreeWriter {
 public:
  explicit Recorder(const LayerTree& tree) : tree_(tree) {}

  void enter(std::string_view name, const Directory& directory) override {
    if (is_root_) {
      is_root_ = false;
      VENEER_CHECK(name.empty());
    } else {
      path_ = at(name);
      ++depth_;
    }
    Wanted& wanted = record(path_, directory.attributes);
    if (directory.opaque) {
      wanted.xattrs.push_back({"trusted.overlay.opaque", "y"});
      wanted.xattrs.push_back({"user.overlay.opaque", "y"});
    }
    if (directory.has_whiteouts) {
      wanted.xattrs.push_back({"trusted.overlay.origin", ""});
      wanted.xattrs.push_back({"user.overlay.origin", ""});
    }
    std::ranges::sort(wanted.xattrs);
  }
  void leave() override {
    if (depth_ == 0) return;
    --depth_;
    const size_t slash = path_.rfind('/');
    path_.resize(slash == path_.npos ? 0 : slash);
  }
  void add(std::string_view name, InodeId id, const TreeInode& inode) override {
    Wanted& wanted = record(at(name), inode.attributes);
    wanted.inode = &inode;
    wanted.id = id;
  }
  void add_whiteout(std::string_view name) override {
    TreeAttributes whiteout;
    whiteout.mode = S_IFCHR;
    record(at(name), whiteout);
  }
  void add_lower_link(std::string_view, const RelPath&) override { VENEER_CHECK(false); }

  const std::map<std::string, Wanted>& names() const { return names_; }

 private:
  std::string at(std::string_view name) const {
    return path_.empty() ? std::string(name) : fmt::format("{}/{}", path_, name);
  }
  Wanted& record(const std::string& path, const TreeAttributes& attributes) {
    const auto [found, is_new] = names_.try_emplace(path);
    VENEER_CHECK(is_new);
    Wanted& wanted = found->second;
    wanted.attributes = attributes;
    for (const Xattr& xattr : tree_.xattrs(attributes.xattrs))
      wanted.xattrs.push_back({veneer::xattr_name_to_store(xattr.name).value(), xattr.value});
    std::ranges::sort(wanted.xattrs);
    return wanted;
  }

  const LayerTree& tree_;
  std::map<std::string, Wanted> names_;
  std::string path_;
  size_t depth_ = 0;
  bool is_root_ = true;
};

uint32_t encode_device(dev_t device) {
  const uint32_t low = minor(device);
  return (low & 0xff) | (major(device) << 8) | ((low & ~0xffU) << 12);
}

std::vector<veneer::test::DataPart> parts_of(const LayerTree& tree, const TreeInode& inode) {
  std::vector<veneer::test::DataPart> parts;
  if (inode.segments == 0) {
    if (inode.size > 0) parts.push_back({0, inode.data_offset, inode.size});
    return parts;
  }
  uint64_t at = inode.data_offset;
  for (const veneer::tar::Segment& segment : tree.segments(inode.segments)) {
    parts.push_back({segment.offset, at, segment.size});
    at += segment.size;
  }
  return parts;
}

void check_node(const veneer::test::ErofsNode& node, const Wanted& wanted) {
  const TreeAttributes& attributes = wanted.attributes;
  VENEER_CHECK(node.mode == attributes.mode && node.uid == attributes.uid);
  VENEER_CHECK(node.gid == attributes.gid && node.xattrs == wanted.xattrs);
  VENEER_CHECK(node.mtime == attributes.modified.seconds);
  VENEER_CHECK(node.mtime_nanoseconds == attributes.modified.nanoseconds);
  if (wanted.inode == nullptr) return;
  VENEER_CHECK(node.device == encode_device(wanted.inode->device));
  VENEER_CHECK(node.target == wanted.inode->link_target);
  const bool is_link = S_ISLNK(node.mode);
  VENEER_CHECK(node.size == (is_link ? node.target.size() : wanted.inode->size));
}

void check_index(const LayerTree& tree, Bytes index, Bytes tar) {
  const veneer::test::ErofsListing listing = veneer::test::check_erofs(index, tar.size());
  const veneer::test::ReadDevice read = [&](uint64_t offset, std::span<std::byte> buffer) {
    VENEER_CHECK(offset <= tar.size());
    const Bytes there = tar.subspan(offset).first(std::min(buffer.size(), tar.size() - offset));
    std::ranges::fill(buffer, std::byte{});
    std::ranges::copy(there, buffer.begin());
  };
  Recorder recorder(tree);
  tree.write(recorder);
  VENEER_CHECK(recorder.names().size() == listing.names.size());
  std::map<InodeId, uint64_t> nids;
  auto found = listing.names.begin();
  for (const auto& [path, wanted] : recorder.names()) {
    VENEER_CHECK(found->first == path);
    const uint64_t nid = found->second;
    const veneer::test::ErofsNode& node = listing.nodes.at(nid);
    ++found;
    check_node(node, wanted);
    if (wanted.inode == nullptr) continue;
    VENEER_CHECK(nids.try_emplace(wanted.id, nid).first->second == nid);
    if (S_ISREG(node.mode))
      veneer::test::check_erofs_data(node, index, parts_of(tree, *wanted.inode), read);
  }
}

// --- packing ---

// A file in memory that cannot grow.
struct MemoryFile {
  veneer::UniqueFd fd;
  const std::byte* bytes = nullptr;

  MemoryFile()
      : fd(veneer::check(memfd_create("index", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd")) {
    veneer::set_size(fd.get(), kMostIndexBytes);
    (void)veneer::check(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK), "seal");
    void* const at = mmap(nullptr, kMostIndexBytes, PROT_READ, MAP_SHARED, fd.get(), 0);
    VENEER_CHECK(at != MAP_FAILED);
    bytes = static_cast<const std::byte*>(at);
  }
};

int tar_file(Bytes tar) {
  static const veneer::UniqueFd file(veneer::check(memfd_create("tar", MFD_CLOEXEC), "memfd"));
  veneer::set_size(file.get(), 0);
  veneer::write_all_at(file.get(), tar, 0);
  return file.get();
}

bool is_refusal(const veneer::Error& error) {
  using enum veneer::Code;
  return error.code() == corrupt || error.code() == invalid_argument ||
         error.code() == resource_exhausted || error.code() == unsupported ||
         error.code() == failed_precondition;
}

std::unique_ptr<LayerTree> read_tree(Bytes tar, const veneer::LowerNames* lower) {
  auto tree = std::make_unique<LayerTree>(lower);
  veneer::MemorySource source(tar);
  try {
    (void)veneer::read_layer_tree(source, *tree);
  } catch (const veneer::Error& error) {
    VENEER_CHECK(is_refusal(error));
    return nullptr;
  }
  return tree;
}

// Nothing if it was refused, or is too large to be looked at.
std::optional<std::string> pack(const LayerTree& tree, Bytes tar) {
  static const MemoryFile index;
  const int tar_fd = tar_file(tar);
  (void)veneer::check(lseek(index.fd.get(), 0, SEEK_SET), "seek");
  try {
    veneer::LayerTarInfo info;
    info.size_bytes = tar.size();
    (void)veneer::write_index(tree, tar_fd, info, index.fd.get());
  } catch (const veneer::SysError& error) {
    VENEER_CHECK(error.error_number() == EPERM);
    return std::nullopt;
  } catch (const veneer::Error& error) {
    VENEER_CHECK(is_refusal(error));
    VENEER_CHECK(tree.has_lower_links() || error.code() != veneer::Code::failed_precondition);
    return std::nullopt;
  }
  VENEER_CHECK(!tree.has_lower_links());
  const off_t size = veneer::check(lseek(index.fd.get(), 0, SEEK_CUR), "seek");
  const Bytes bytes(index.bytes, static_cast<size_t>(size));
  check_index(tree, bytes, tar);
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): libFuzzer's names.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Bytes tar = std::as_bytes(std::span(data, size));
  const SmallLower lower;
  const std::unique_ptr<LayerTree> plain = read_tree(tar, nullptr);
  const std::unique_ptr<LayerTree> over = read_tree(tar, &lower);
  std::optional<std::string> plain_index;
  if (plain) plain_index = pack(*plain, tar);
  std::optional<std::string> over_index;
  if (over) over_index = pack(*over, tar);
  if (!plain) return 0;
  if (!plain->depends_on_lower()) {
    VENEER_CHECK(over && !over->lower_digest() && plain_index == over_index);
  } else if (plain->adopt_lower(lower)) {
    VENEER_CHECK(over && plain->lower_digest() == over->lower_digest());
    VENEER_CHECK(pack(*plain, tar) == over_index);
  }
  return 0;
}
// NOLINTEND(readability-identifier-naming)
