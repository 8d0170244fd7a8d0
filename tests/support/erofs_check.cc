#include "tests/support/erofs_check.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"

namespace veneer::test {
namespace {

constexpr uint64_t kBlock = 512;
constexpr uint64_t kSuperblock = 1024;
constexpr uint64_t kDeviceSlot = 1152;
constexpr uint64_t kFirstInode = 1536;
constexpr uint32_t kNone = 0xffffffff;
constexpr uint64_t kComparedBytes = 4096;  // at both ends of a run

template <typename... Args>
void expect(bool is_so, fmt::format_string<Args...> format, Args&&... args) {
  if (!is_so) fail(Code::corrupt, format, std::forward<Args>(args)...);
}

constexpr uint64_t round_up(uint64_t value, uint64_t step) {
  return (value + step - 1) / step * step;
}

uint32_t crc32c(Bytes bytes) {
  uint32_t crc = kNone;
  for (const std::byte byte : bytes) {
    crc ^= std::to_integer<uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78U : crc >> 1;
  }
  return crc;
}

uint8_t dirent_type(uint32_t mode) {
  constexpr uint32_t kTypes[] = {S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, S_IFLNK};
  const auto* found = std::ranges::find(kTypes, mode & static_cast<uint32_t>(S_IFMT));
  expect(found != std::end(kTypes), "mode {:o}", mode);
  return static_cast<uint8_t>(found - kTypes + 1);
}

class Checker {
 public:
  Checker(Bytes image, uint64_t device_size) : image_(image), device_size_(device_size) {}

  ErofsListing check() {
    check_superblock();
    walk();
    check_links();
    check_parts();
    return std::move(listing_);
  }

 private:
  struct Directory {
    uint64_t nid;
    uint64_t parent;
    std::string path;
  };
  struct Part {
    uint64_t begin;
    uint64_t end;
    auto operator<=>(const Part&) const = default;
  };

  template <typename T>
  T get(uint64_t at) const {
    expect(at <= image_.size() && sizeof(T) <= image_.size() - at, "a field at {}", at);
    T value;
    std::memcpy(&value, &image_[at], sizeof value);
    return value;
  }
  std::string text(uint64_t at, uint64_t size) const {
    expect(at <= image_.size() && size <= image_.size() - at, "{} bytes at {}", size, at);
    return {reinterpret_cast<const char*>(image_.data()) + at, size};
  }
  void take(uint64_t begin, uint64_t end) {
    expect(begin <= end && end <= image_.size(), "a part from {} to {}", begin, end);
    if (begin < end) parts_.push_back({begin, end});
  }

  void check_superblock();
  void walk();
  void read_directory(const Directory& directory);
  void read_block(const Directory& directory, std::string_view block);
  void add_name(const Directory& directory, std::string_view name, uint64_t nid, uint8_t type);
  const ErofsNode& read_node(uint64_t nid);
  uint64_t read_xattrs(uint64_t at, uint16_t count, ErofsNode& node);
  Xattr read_xattr(uint64_t at, uint64_t& end) const;
  void read_contents(uint64_t nid, uint64_t at, uint16_t layout, uint32_t field, ErofsNode& node);
  void read_chunks(uint64_t at, uint32_t format, ErofsNode& node);
  void read_flat_file(uint32_t block, ErofsNode& node) const;
  void check_links() const;
  void check_parts();

  Bytes image_;
  uint64_t device_size_;
  ErofsListing listing_;
  std::map<uint64_t, std::string> directories_;  // their contents, by nid
  std::map<uint64_t, uint32_t> links_;
  std::vector<Directory> left_;
  std::set<uint32_t> inos_;
  std::set<uint64_t> shared_xattrs_;
  std::vector<Part> parts_;
  std::string last_name_;
  uint32_t xattr_block_ = 0;
};

void Checker::check_superblock() {
  expect(image_.size() % kBlock == 0 && image_.size() >= kFirstInode, "{} bytes", image_.size());
  const auto blocks = static_cast<uint32_t>(image_.size() / kBlock);
  expect(get<uint32_t>(kSuperblock) == 0xe0f5e1e2, "magic");
  std::vector<std::byte> block(image_.begin() + kSuperblock, image_.begin() + kFirstInode);
  std::memset(&block[4], 0, 4);
  expect(get<uint32_t>(kSuperblock + 4) == crc32c(block), "checksum");
  expect(get<uint32_t>(kSuperblock + 8) == 3, "compatible features");
  expect(get<uint8_t>(kSuperblock + 12) == 9, "block size");
  expect(get<uint8_t>(kSuperblock + 13) == 0, "extra slots");
  expect(get<uint32_t>(kSuperblock + 32) < 1'000'000'000, "nanoseconds of the epoch");
  expect(get<uint32_t>(kSuperblock + 36) == blocks, "number of blocks");
  expect(get<uint32_t>(kSuperblock + 40) == 0, "metadata block");
  xattr_block_ = get<uint32_t>(kSuperblock + 44);
  expect(xattr_block_ <= blocks, "xattr block");
  expect(get<uint32_t>(kSuperblock + 80) == 8, "incompatible features");
  expect(get<uint16_t>(kSuperblock + 84) == 0, "compression");
  expect(get<uint16_t>(kSuperblock + 86) == 1, "number of devices");
  expect(get<uint16_t>(kSuperblock + 88) == kDeviceSlot / 128, "device table");
  expect(std::ranges::all_of(image_.subspan(kSuperblock + 90, 38),
                             [](std::byte byte) { return byte == std::byte{}; }),
         "the superblock's rest");
  expect(get<uint32_t>(kDeviceSlot + 64) == round_up(device_size_, kBlock) / kBlock,
         "number of blocks of the device");
  expect(get<uint32_t>(kDeviceSlot + 68) == blocks, "unified start of the device");
  take(kSuperblock, kFirstInode);
}

void Checker::walk() {
  const uint64_t root = get<uint16_t>(kSuperblock + 14);
  expect(S_ISDIR(read_node(root).mode), "the root is no directory");
  listing_.names[""] = root;
  left_.push_back({root, root, ""});
  while (!left_.empty()) {
    const Directory directory = std::move(left_.back());
    left_.pop_back();
    read_directory(directory);
  }
  expect(get<uint64_t>(kSuperblock + 16) == listing_.nodes.size(), "number of inodes");
}

void Checker::read_directory(const Directory& directory) {
  const std::string contents = std::move(directories_[directory.nid]);
  last_name_.clear();
  for (uint64_t at = 0; at < contents.size(); at += kBlock)
    read_block(directory, std::string_view(contents).substr(at, kBlock));
  expect(links_.contains(directory.nid), "a directory without \".\"");
}

void Checker::read_block(const Directory& directory, std::string_view block) {
  const auto number = [&](uint64_t at, auto type) {
    expect(at + sizeof type <= block.size(), "a short directory block");
    std::memcpy(&type, &block[at], sizeof type);
    return type;
  };
  const uint64_t names_at = number(8, uint16_t{});
  expect(names_at > 0 && names_at % 12 == 0 && names_at < block.size(), "names at {}", names_at);
  uint64_t name_at = names_at;
  for (uint64_t at = 0; at < names_at; at += 12) {
    expect(number(at + 8, uint16_t{}) == name_at && number(at + 11, uint8_t{}) == 0, "a dirent");
    const bool is_last = at + 12 == names_at;
    const uint64_t end = is_last ? block.size() : number(at + 20, uint16_t{});
    expect(end > name_at && end <= block.size(), "a name from {} to {}", name_at, end);
    std::string_view name = block.substr(name_at, end - name_at);
    if (is_last) name = name.substr(0, name.find('\0'));
    expect(block.find_first_not_of('\0', name_at + name.size()) >= end, "bytes after a name");
    expect(!name.empty() && name.size() <= 255, "a name of {} bytes", name.size());
    expect(name.find('/') == name.npos && name.find('\0') == name.npos, "the name {}", name);
    expect(name > last_name_, "{} comes after {}", name, last_name_);
    last_name_ = name;
    add_name(directory, name, number(at, uint64_t{}), number(at + 10, uint8_t{}));
    name_at = end;
  }
}

void Checker::add_name(const Directory& directory, std::string_view name, uint64_t nid,
                       uint8_t type) {
  ++links_[nid];
  if (name == "." || name == "..") {
    expect(nid == (name == "." ? directory.nid : directory.parent), "{} is {}", name, nid);
    expect(type == 2, "{} is of type {}", name, type);
    return;
  }
  const bool is_new = !listing_.nodes.contains(nid);
  const ErofsNode& node = read_node(nid);
  expect(type == dirent_type(node.mode), "{} is of type {}", name, type);
  const std::string path =
      directory.path.empty() ? std::string(name) : fmt::format("{}/{}", directory.path, name);
  listing_.names[path] = nid;
  if (!S_ISDIR(node.mode)) return;
  expect(is_new, "{} is a second name of a directory", name);
  left_.push_back({nid, directory.nid, path});
}

const ErofsNode& Checker::read_node(uint64_t nid) {
  const auto [found, is_new] = listing_.nodes.try_emplace(nid);
  ErofsNode& node = found->second;
  if (!is_new) return node;
  expect(nid < image_.size() && nid * 32 >= kFirstInode, "inode {}", nid);
  const uint64_t at = nid * 32;
  const auto format = get<uint16_t>(at);
  const bool is_extended = (format & 1) != 0;
  const auto layout = static_cast<uint16_t>(format >> 1);
  node.mode = get<uint16_t>(at + 4);
  const auto field = get<uint32_t>(at + 16);
  expect(get<uint32_t>(at + 20) != 0 && inos_.insert(get<uint32_t>(at + 20)).second,
         "inode {} has another's number", nid);
  if (is_extended) {
    expect(get<uint16_t>(at + 6) == 0, "inode {}: reserved", nid);
    node.size = get<uint64_t>(at + 8);
    node.uid = get<uint32_t>(at + 24);
    node.gid = get<uint32_t>(at + 28);
    node.mtime = get<int64_t>(at + 32);
    node.mtime_nanoseconds = get<uint32_t>(at + 40);
    node.nlink = get<uint32_t>(at + 44);
    expect(get<uint64_t>(at + 48) == 0 && get<uint64_t>(at + 56) == 0, "inode {}: reserved", nid);
  } else {
    node.nlink = get<uint16_t>(at + 6);
    node.size = get<uint32_t>(at + 8);
    expect(get<uint32_t>(at + 12) == 0, "inode {}: time", nid);
    node.mtime = get<int64_t>(kSuperblock + 24);
    node.mtime_nanoseconds = get<uint32_t>(kSuperblock + 32);
    node.uid = get<uint16_t>(at + 24);
    node.gid = get<uint16_t>(at + 26);
    expect(get<uint32_t>(at + 28) == 0, "inode {}: reserved", nid);
  }
  expect(node.mtime_nanoseconds < 1'000'000'000, "inode {}: nanoseconds", nid);
  const uint64_t xattrs_at = at + (is_extended ? 64 : 32);
  const uint64_t end = read_xattrs(xattrs_at, get<uint16_t>(at + 2), node);
  take(at, end);
  read_contents(nid, end, layout, field, node);
  return node;
}

uint64_t Checker::read_xattrs(uint64_t at, uint16_t count, ErofsNode& node) {
  if (count == 0) return at;
  const uint64_t end = at + 12 + 4 * (uint64_t{count} - 1);
  expect(get<uint32_t>(at) == 0, "a name filter");
  const uint64_t shared = get<uint8_t>(at + 4);
  expect(get<uint8_t>(at + 5) == 0 && get<uint16_t>(at + 6) == 0 && get<uint32_t>(at + 8) == 0,
         "an xattr header");
  at += 12;
  for (uint64_t i = 0; i < shared; ++i, at += 4) {
    const uint64_t shared_at = uint64_t{xattr_block_} * kBlock + get<uint32_t>(at) * uint64_t{4};
    uint64_t shared_end = 0;
    node.xattrs.push_back(read_xattr(shared_at, shared_end));
    if (shared_xattrs_.insert(shared_at).second) take(shared_at, shared_end);
  }
  while (at < end) node.xattrs.push_back(read_xattr(at, at));
  expect(at == end, "xattrs end at {} instead of {}", at, end);
  expect(!node.xattrs.empty(), "no xattrs");
  std::ranges::sort(node.xattrs);
  expect(std::ranges::adjacent_find(node.xattrs, {}, &Xattr::name) == node.xattrs.end(),
         "an xattr twice");
  return end;
}

Xattr Checker::read_xattr(uint64_t at, uint64_t& end) const {
  constexpr std::string_view kPrefixes[] = {
      "", "user.",    "system.posix_acl_access", "system.posix_acl_default", "trusted.",
      "", "security."};
  const uint64_t name_size = get<uint8_t>(at);
  const auto index = get<uint8_t>(at + 1);
  const uint64_t value_size = get<uint16_t>(at + 2);
  const bool is_acl = index == 2 || index == 3;
  expect(index < std::size(kPrefixes) && !kPrefixes[index].empty(), "xattr name index {}", index);
  expect(is_acl == (name_size == 0), "an xattr's name of {} bytes", name_size);
  const uint64_t data_end = at + 4 + name_size + value_size;
  end = round_up(data_end, 4);
  const std::string padding = text(data_end, end - data_end);
  expect(padding.find_first_not_of('\0') == padding.npos, "an xattr's padding");
  Xattr xattr{std::string(kPrefixes[index]) + text(at + 4, name_size),
              text(at + 4 + name_size, value_size)};
  expect(xattr.name.size() <= 255 && xattr.name.find('\0') == xattr.name.npos, "an xattr's name");
  return xattr;
}

void Checker::read_contents(uint64_t nid, uint64_t at, uint16_t layout, uint32_t field,
                            ErofsNode& node) {
  const uint32_t type = node.mode & static_cast<uint32_t>(S_IFMT);
  const bool is_text = type == S_IFDIR || type == S_IFLNK;
  if (!is_text && type != S_IFREG) {
    (void)dirent_type(node.mode);
    const bool is_device = type == S_IFCHR || type == S_IFBLK;
    expect(layout == 0 && node.size == 0 && (is_device || field == 0), "inode {}: special", nid);
    node.device = field;
    return;
  }
  if (type == S_IFREG && layout == 4) return read_chunks(at, field, node);
  if (node.size == 0) {
    expect(type == S_IFREG && layout == 0 && field == kNone, "inode {} is empty", nid);
    return;
  }
  if (type == S_IFREG) {
    expect(layout == 0, "inode {}: layout {}", nid, layout);
    return read_flat_file(field, node);
  }
  if (layout == 2) {
    expect(field == kNone && at % kBlock + node.size <= kBlock, "inode {}: tail at {}", nid, at);
  } else {
    expect(layout == 0, "inode {}: layout {}", nid, layout);
    at = uint64_t{field} * kBlock;
  }
  std::string contents = text(at, node.size);
  take(at, at + node.size);
  if (type == S_IFDIR) {
    directories_[nid] = std::move(contents);
  } else {
    expect(node.size <= 4095 && contents.find('\0') == contents.npos, "inode {}: target", nid);
    node.target = std::move(contents);
  }
}

// A file that is one run of the device's blocks, numbered after those of the image.
void Checker::read_flat_file(uint32_t block, ErofsNode& node) const {
  const uint64_t at = uint64_t{block} * kBlock;
  const uint64_t size = round_up(node.size, kBlock);
  expect(at >= image_.size() && at - image_.size() <= device_size_ &&
             size <= device_size_ - (at - image_.size()) &&
             uint64_t{block} + size / kBlock <= kNone,
         "{} bytes at block {}", node.size, block);
  node.runs.push_back({0, node.size, true, at - image_.size()});
}

void Checker::read_chunks(uint64_t at, uint32_t format, ErofsNode& node) {
  expect((format & ~0x1fU) == 0x20, "chunk format {:x}", format);
  expect(node.size > 0, "chunks of an empty file");
  const uint32_t bits = 9 + (format & 0x1f);
  const uint64_t chunks = ((node.size - 1) >> bits) + 1;
  at = round_up(at, 8);
  expect(chunks <= image_.size() / 8, "{} chunks", chunks);
  take(at, at + chunks * 8);
  for (uint64_t i = 0; i < chunks; ++i, at += 8) {
    const auto device = get<uint16_t>(at + 2);
    const auto block = get<uint32_t>(at + 4);
    expect(get<uint16_t>(at) == 0 && device <= 1, "a chunk index");
    if (block == kNone) {
      expect(device == 0, "a hole of a device");
      continue;
    }
    const uint64_t begin = i << bits;
    const uint64_t end = std::min(node.size, begin + (uint64_t{1} << bits));
    const ErofsRun run{begin, end, device == 1, uint64_t{block} * kBlock};
    const uint64_t room = run.in_device ? device_size_ : image_.size();
    const uint64_t size = round_up(end - begin, kBlock);
    expect(run.at <= room && size <= room - run.at, "a chunk at block {}", block);
    if (!run.in_device) take(run.at, run.at + (end - begin));
    node.runs.push_back(run);
  }
}

void Checker::check_links() const {
  for (const auto& [nid, node] : listing_.nodes) {
    const auto found = links_.find(nid);
    const uint32_t links = found == links_.end() ? 0 : found->second;
    // The root's name is its own "..".
    expect(node.nlink == links, "inode {} has {} links instead of {}", nid, links, node.nlink);
  }
}

void Checker::check_parts() {
  std::ranges::sort(parts_);
  uint64_t end = 0;
  const auto check_gap = [&](uint64_t to) {
    for (; end < to; ++end) expect(image_[end] == std::byte{}, "a byte at {}", end);
  };
  for (const Part& part : parts_) {
    expect(part.begin >= end, "{} to {} is there twice", part.begin, std::min(part.end, end));
    check_gap(part.begin);
    end = part.end;
  }
  check_gap(image_.size());
}

// What `parts` put at that place of the file.
std::string wanted_bytes(std::span<const DataPart> parts, uint64_t begin, uint64_t end,
                         const ReadDevice& read_device) {
  std::string wanted(end - begin, '\0');
  for (const DataPart& part : parts) {
    const uint64_t from = std::max(begin, part.file_offset);
    const uint64_t to = std::min(end, part.file_offset + part.size);
    if (from >= to) continue;
    read_device(part.device_offset + (from - part.file_offset),
                std::as_writable_bytes(std::span(wanted).subspan(from - begin, to - from)));
  }
  return wanted;
}

}  // namespace

ErofsListing check_erofs(Bytes image, uint64_t device_size) {
  return Checker(image, device_size).check();
}

void check_erofs_data(const ErofsNode& node, Bytes image, std::span<const DataPart> parts,
                      const ReadDevice& read_device) {
  const auto compare = [&](const ErofsRun& run, uint64_t begin, uint64_t end) {
    std::string got(end - begin, '\0');
    const auto room = std::as_writable_bytes(std::span(got));
    const uint64_t at = run.at + (begin - run.begin);
    if (run.in_device)
      read_device(at, room);
    else
      std::ranges::copy(image.subspan(at, room.size()), room.begin());
    expect(got == wanted_bytes(parts, begin, end, read_device), "the data from {} to {}", begin,
           end);
  };
  uint64_t covered = 0;
  auto part = parts.begin();
  for (const ErofsRun& run : node.runs) {
    if (run.end - run.begin <= 2 * kComparedBytes) {
      compare(run, run.begin, run.end);
    } else {
      compare(run, run.begin, run.begin + kComparedBytes);
      compare(run, run.end - kComparedBytes, run.end);
    }
    while (part != parts.end() && part->file_offset + part->size <= run.begin) ++part;
    for (auto at = part; at != parts.end() && at->file_offset < run.end; ++at)
      covered +=
          std::min(run.end, at->file_offset + at->size) - std::max(run.begin, at->file_offset);
  }
  uint64_t size = 0;
  for (const DataPart& given : parts) size += given.size;
  expect(covered == size, "{} bytes of data instead of {}", covered, size);
}

}  // namespace veneer::test
