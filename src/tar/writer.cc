#include "tar/writer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "tar/header.h"
#include "tar/number.h"

namespace veneer::tar {
namespace {

char type_flag(EntryType type) {
  switch (type) {
    case EntryType::file:
      return '0';
    case EntryType::hard_link:
      return '1';
    case EntryType::symlink:
      return '2';
    case EntryType::char_device:
      return '3';
    case EntryType::block_device:
      return '4';
    case EntryType::directory:
      return '5';
    case EntryType::fifo:
      return '6';
  }
  return '0';
}

void check_text(std::string_view text, std::string_view what) {
  if (text.empty()) fail(Code::invalid_argument, "the {} is empty", what);
  if (text.contains('\0')) fail(Code::invalid_argument, "the {} has a NUL byte", what);
}

// "length key=value\n", where the length counts its own digits.
void append_record(std::string& records, std::string_view key, std::string_view value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (rest + fmt::formatted_size("{}", length) != length) ++length;
  fmt::format_to(std::back_inserter(records), "{} {}=", length, key);
  records += value;
  records += '\n';
}

// Where to cut a path between ustar's prefix and name; 0 if it is all name.
std::optional<size_t> maybe_split(std::string_view path) {
  if (path.size() <= kName.size) return 0;
  if (path.size() > kPrefix.size + 1 + kName.size) return {};
  // The first slash that leaves a name that fits; a name must be left, too.
  const size_t cut = path.find('/', std::max<size_t>(1, path.size() - kName.size - 1));
  if (cut > kPrefix.size || cut + 1 == path.size()) return {};  // no slash is far beyond, too
  return cut;
}

void set_path(Block& block, std::string_view path, std::string& pax) {
  const std::optional<size_t> cut = maybe_split(path);
  if (!cut) {
    append_record(pax, "path", path);
    block.set_text(kName, path.substr(0, kName.size));
  } else if (*cut == 0) {
    block.set_text(kName, path);
  } else {
    block.set_text(kPrefix, path.substr(0, *cut));
    block.set_text(kName, path.substr(*cut + 1));
  }
}

// Into the field if it fits, else into a record, and the field says 0.
struct Number {
  Field field;
  std::string_view key;
  uint64_t value;
};
void set_number(Block& block, const Number& number, std::string& pax) {
  const bool fits = number.value <= max_octal(number.field);
  block.set_octal(number.field, fits ? number.value : 0);
  if (!fits) append_record(pax, number.key, fmt::format_int(number.value).c_str());
}

void set_modified(Block& block, const Timestamp& time, std::string& pax) {
  VENEER_CHECK(time.nanoseconds < 1'000'000'000);
  const bool fits =
      time.seconds >= 0 && static_cast<uint64_t>(time.seconds) <= max_octal(kModified);
  block.set_octal(kModified, fits ? static_cast<uint64_t>(time.seconds) : 0);
  if (!fits || time.nanoseconds != 0) append_record(pax, "mtime", format_pax_time(time));
}

void set_link_target(Block& block, const Entry& entry, std::string& pax) {
  if (entry.type != EntryType::hard_link && entry.type != EntryType::symlink) return;
  check_text(entry.link_target, "link target");
  block.set_text(kLinkTarget, std::string_view(entry.link_target).substr(0, kLinkTarget.size));
  if (entry.link_target.size() > kLinkTarget.size)
    append_record(pax, "linkpath", entry.link_target);
}

void set_device(Block& block, const Entry& entry) {
  const bool is_device =
      entry.type == EntryType::char_device || entry.type == EntryType::block_device;
  const uint64_t device_major = is_device ? entry.device_major : 0;
  const uint64_t device_minor = is_device ? entry.device_minor : 0;
  if (std::max(device_major, device_minor) > max_octal(kDeviceMajor))
    fail(Code::invalid_argument, "the device number {}:{} is too large", device_major,
         device_minor);
  block.set_octal(kDeviceMajor, device_major);
  block.set_octal(kDeviceMinor, device_minor);
}

void append_xattrs(std::vector<const Xattr*>& sorted, const Entry& entry, std::string& pax) {
  sorted.clear();
  for (const Xattr& xattr : entry.xattrs) {
    check_text(xattr.name, "name of an xattr");
    if (xattr.name.contains('='))
      fail(Code::invalid_argument, "the name of the xattr {} has a \"=\"", xattr.name);
    sorted.push_back(&xattr);
  }
  std::ranges::sort(sorted, {},
                    [](const Xattr* xattr) -> const std::string& { return xattr->name; });
  for (const Xattr* xattr : sorted) append_record(pax, "SCHILY.xattr." + xattr->name, xattr->value);
}

}  // namespace

void Writer::add(const Entry& entry) {
  if (left_ != 0) fail(Code::failed_precondition, "the file before lacks {} bytes", left_);
  check_text(entry.path, "path");
  path_ = entry.path;
  if (entry.type == EntryType::directory && !path_.ends_with('/')) path_ += '/';
  if (entry.type == EntryType::file && path_.ends_with('/'))
    fail(Code::invalid_argument, "the name of the file {} ends in a slash", path_);
  const uint64_t size = entry.type == EntryType::file ? entry.size : 0;

  // The records are sorted by key, so their order here is not arbitrary.
  Block block;
  pax_.clear();
  append_xattrs(xattrs_, entry, pax_);
  set_number(block, {kGid, "gid", entry.gid}, pax_);
  set_link_target(block, entry, pax_);
  set_modified(block, entry.modified, pax_);
  set_path(block, path_, pax_);
  set_number(block, {kSize, "size", size}, pax_);
  set_number(block, {kUid, "uid", entry.uid}, pax_);
  block.set_octal(kMode, entry.mode & 07777);
  const char flag = type_flag(entry.type);
  block.set_text(kType, {&flag, 1});
  block.set_text(kMagic, kUstarMagic);
  set_device(block, entry);
  block.set_checksum();

  if (!pax_.empty()) write_pax_header();
  to_.write(block.bytes());
  left_ = size;
  padding_ = round_up_to_block(size) - size;
}

void Writer::write_pax_header() {
  Block block;
  block.set_text(kName, "././@PaxHeader");
  for (const Field field : {kMode, kUid, kGid, kModified, kDeviceMajor, kDeviceMinor})
    block.set_octal(field, 0);
  block.set_octal(kSize, pax_.size());
  block.set_text(kType, "x");
  block.set_text(kMagic, kUstarMagic);
  block.set_checksum();
  to_.write(block.bytes());
  to_.write(std::as_bytes(std::span(pax_)));
  write_padding(round_up_to_block(pax_.size()) - pax_.size());
}

void Writer::write(Bytes bytes) {
  if (bytes.size() > left_)
    fail(Code::failed_precondition, "{} bytes more than the size of the file",
         bytes.size() - left_);
  if (bytes.empty()) return;
  to_.write(bytes);
  left_ -= bytes.size();
  if (left_ == 0) write_padding(padding_);
}

void Writer::write_padding(size_t size) {
  static constexpr std::array<std::byte, 2 * kBlockBytes> kZeros{};
  if (size > 0) to_.write(std::span(kZeros).first(size));
}

void Writer::finish() {
  if (left_ != 0) fail(Code::failed_precondition, "the last file lacks {} bytes", left_);
  write_padding(2 * kBlockBytes);
}

}  // namespace veneer::tar
