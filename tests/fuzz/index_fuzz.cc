// Any calls that erofs::Image allows: either an Error, or an image that a strict reader accepts and
// that holds what was asked for. Writing it twice gives the same bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/limits.h"
#include "erofs/writer.h"
#include "tests/support/erofs_check.h"

namespace {

using veneer::Bytes;
using veneer::Xattr;
using veneer::erofs::Extent;
using veneer::erofs::Image;
using veneer::erofs::Inode;
using veneer::erofs::NodeId;
using veneer::test::ErofsNode;

constexpr size_t kMostImageBytes = 2 << 20;
constexpr size_t kMostNodes = 4096;

// The fuzzer's bytes as a row of decisions; zeros when they have run out.
class Choices {
 public:
  explicit Choices(Bytes left) : left_(left) {}

  bool has_more() const { return !left_.empty(); }
  uint8_t byte() {
    if (left_.empty()) return 0;
    const std::byte first = left_.front();
    left_ = left_.subspan(1);
    return std::to_integer<uint8_t>(first);
  }
  uint64_t number(int bytes) {
    uint64_t value = 0;
    while (bytes-- > 0) value = value << 8 | byte();
    return value;
  }
  uint64_t below(uint64_t limit) { return number(limit > 256 ? 4 : 1) % limit; }
  // Of any magnitude.
  uint64_t size() {
    const uint32_t bits = byte() % 46;
    return number(6) & ((uint64_t{1} << bits) - 1);
  }
  // Short ones from the input, long ones made of one byte of it.
  std::string text(size_t size) {
    std::string text;
    const bool is_long = size > 32;
    const auto filling = static_cast<char>(byte() | 1);
    for (size_t i = 0; i < size; ++i)
      text.push_back(is_long && i > 8 ? filling : static_cast<char>(byte()));
    return text;
  }

 private:
  Bytes left_;
};

struct Made {
  Inode inode;
  std::vector<Xattr> xattrs;
  std::vector<Extent> extents;
  std::string target;
};

// The device's bytes are a function of their offset.
void read_device(uint64_t offset, std::span<std::byte> buffer) {
  for (std::byte& byte : buffer) {
    byte = static_cast<std::byte>((offset * 2654435761U) >> 13 | 1);
    ++offset;
  }
}

class Session {
 public:
  explicit Session(Choices& choices) : choices_(choices) {}

  void run() {
    const uint64_t device_size = choices_.size();
    add_root();
    while (choices_.has_more() && made_.size() < kMostNodes) attempt();
    const std::string tag = choices_.text(choices_.below(66));
    std::string first;
    if (!write({device_size, tag, read_device}, first)) return;
    std::string second;
    VENEER_CHECK(write({device_size, tag, read_device}, second) && first == second);
    check(std::as_bytes(std::span(first)), device_size);
  }

 private:
  void add_root() {
    Made root;
    root.inode.mode = S_IFDIR | 0755;
    VENEER_CHECK(image_.add(root.inode) == veneer::erofs::kRoot);
    made_.push_back(std::move(root));
    directories_.push_back({0, ""});
    names_[""] = 0;
  }

  static bool is_refusal(const veneer::Error& error) {
    using enum veneer::Code;
    return error.code() == invalid_argument || error.code() == resource_exhausted ||
           error.code() == unsupported;
  }

  void attempt() {
    try {
      step();
    } catch (const veneer::Error& error) {
      VENEER_CHECK(is_refusal(error));
    }
  }

  void step() {
    const uint8_t what = choices_.byte() % 8;
    if (what == 0) return link_again();
    Made& made = made_.emplace_back();
    try {
      fill(made);
      VENEER_CHECK(image_.add(made.inode) == made_.size() - 1);
    } catch (const veneer::Error&) {
      made_.pop_back();
      throw;
    }
    if (what != 1) add_name(static_cast<NodeId>(made_.size() - 1));
  }

  void fill(Made& made) {
    constexpr uint32_t kTypes[] = {S_IFREG, S_IFREG, S_IFDIR,  S_IFLNK, S_IFCHR,
                                   S_IFBLK, S_IFIFO, S_IFSOCK, 0,       0170000};
    Inode& inode = made.inode;
    inode.mode = kTypes[choices_.below(std::size(kTypes))] | (choices_.byte() * 16U);
    const uint8_t kinds = choices_.byte();
    inode.uid = static_cast<uint32_t>(choices_.number((kinds & 1) != 0 ? 4 : 1));
    inode.gid = static_cast<uint32_t>(choices_.number((kinds & 2) != 0 ? 4 : 1));
    if ((kinds & 4) != 0) {
      inode.mtime.tv_sec = static_cast<int64_t>(choices_.number(8));
      inode.mtime.tv_nsec = static_cast<long>(choices_.number(4) % 1'000'000'001);
    }
    if ((kinds & 8) != 0) fill_xattrs(made);
    if (S_ISREG(inode.mode)) fill_extents(made);
    if (S_ISLNK(inode.mode)) made.target = choices_.text(choices_.below(4100));
    if (S_ISCHR(inode.mode) || S_ISBLK(inode.mode)) {
      inode.device_major = static_cast<uint32_t>(choices_.number(2) & 0x1fff);
      inode.device_minor = static_cast<uint32_t>(choices_.number(3) & 0x1fffff);
    }
    inode.extents = made.extents;
    inode.target = made.target;
  }

  void fill_xattrs(Made& made) {
    constexpr std::string_view kNames[] = {
        "user.", "trusted.", "security.", "system.posix_acl_access", "system.posix_acl_default",
        "other."};
    constexpr size_t kSizes[] = {0, 1, 3, 20, 300, 600, 65535, 65536};
    for (uint8_t count = choices_.byte() % 6; count > 0; --count) {
      const size_t kind = choices_.below(std::size(kNames));
      std::string name(kNames[kind]);
      if (!name.starts_with("system.")) name += choices_.text(1 + choices_.below(8));
      made.xattrs.push_back({name, choices_.text(kSizes[choices_.below(std::size(kSizes))])});
    }
    made.inode.xattrs = image_.intern_xattrs(made.xattrs);
    std::ranges::sort(made.xattrs);
  }

  void fill_extents(Made& made) {
    const uint8_t shape = choices_.byte();
    uint64_t at = 0;
    uint64_t device_at = choices_.size();
    for (uint32_t count = shape % 16; count > 0; --count) {
      const bool is_block = (shape & 0x20) != 0;
      const uint64_t mask = is_block ? ~uint64_t{511} : ~uint64_t{0};
      if ((shape & 0x40) != 0) at += choices_.size() & mask;
      if ((shape & 0x80) != 0) device_at = choices_.size();
      const uint64_t size = choices_.size() & mask;
      made.extents.push_back({at, device_at & mask, size});
      at += size;
      device_at += size;
    }
    made.inode.size = at + ((shape & 0x10) != 0 ? choices_.size() : 0);
  }

  // Only directories that have a name themselves get entries: all that has a name can be reached.
  void add_name(NodeId node) {
    const size_t at = choices_.below(directories_.size());
    const NodeId directory = directories_[at].node;
    const bool is_short = choices_.byte() % 4 != 0;
    names_kept_.push_back(choices_.text(is_short ? 1 + choices_.below(4) : choices_.below(300)));
    const std::string& name = names_kept_.back();
    image_.add_entry(directory, name, node);
    const std::string& parent = directories_[at].path;
    const std::string path = parent.empty() ? name : parent + "/" + name;
    if (!names_.try_emplace(path, node).second) has_twins_ = true;
    if (S_ISDIR(made_[node].inode.mode)) directories_.push_back({node, path});
  }

  void link_again() {
    const auto node = static_cast<NodeId>(choices_.below(made_.size()));
    if (node != 0 && !S_ISDIR(made_[node].inode.mode)) add_name(node);
  }

  struct TooLarge {};

  bool write(const veneer::erofs::Device& device, std::string& bytes) {
    try {
      const uint64_t size = image_.write(device, [&](Bytes piece) {
        if (bytes.size() + piece.size() > kMostImageBytes) throw TooLarge{};
        bytes.append(reinterpret_cast<const char*>(piece.data()), piece.size());
      });
      VENEER_CHECK(size == bytes.size() && !has_twins_);
    } catch (const TooLarge&) {
      return false;
    } catch (const veneer::Error& error) {
      VENEER_CHECK(is_refusal(error));
      return false;
    }
    return true;
  }

  void check(Bytes image, uint64_t device_size) const {
    const veneer::test::ErofsListing listing = veneer::test::check_erofs(image, device_size);
    VENEER_CHECK(listing.names.size() == names_.size());
    std::map<NodeId, uint64_t> nids;
    auto found = listing.names.begin();
    for (const auto& [path, id] : names_) {
      VENEER_CHECK(found->first == path);
      const uint64_t nid = found->second;
      ++found;
      VENEER_CHECK(nids.try_emplace(id, nid).first->second == nid);
      check_node(listing.nodes.at(nid), made_[id], image);
    }
    VENEER_CHECK(nids.size() == listing.nodes.size());
  }

  static void check_node(const ErofsNode& node, const Made& made, Bytes image) {
    const Inode& inode = made.inode;
    VENEER_CHECK(node.mode == inode.mode && node.uid == inode.uid && node.gid == inode.gid);
    VENEER_CHECK(node.mtime == inode.mtime.tv_sec);
    VENEER_CHECK(node.mtime_nanoseconds == static_cast<uint64_t>(inode.mtime.tv_nsec));
    VENEER_CHECK(node.xattrs == made.xattrs && node.target == made.target);
    const uint32_t low = inode.device_minor;
    VENEER_CHECK(node.device ==
                 ((low & 0xff) | (inode.device_major << 8) | ((low & ~0xffU) << 12)));
    if (!S_ISREG(inode.mode)) return;
    VENEER_CHECK(node.size == inode.size);
    std::vector<veneer::test::DataPart> parts;
    for (const Extent& extent : made.extents)
      parts.push_back({extent.file_offset, extent.device_offset, extent.size});
    veneer::test::check_erofs_data(node, image, parts, read_device);
  }

  struct Directory {
    NodeId node;
    std::string path;
  };

  Choices& choices_;
  Image image_;
  std::deque<Made> made_;  // by node
  std::vector<Directory> directories_;
  std::deque<std::string> names_kept_;
  std::map<std::string, NodeId> names_;
  bool has_twins_ = false;
};

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Choices choices(std::as_bytes(std::span(data, size)));
  Session(choices).run();
  return 0;
}
