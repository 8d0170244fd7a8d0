#include "tar/reader.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/error.h"
#include "tar/header.h"
#include "tar/number.h"
#include "tar/pax.h"
#include "tar/sparse.h"

namespace veneer::tar {
namespace {

// Of the path, or of a hard link's target, which is one.
void check_path(std::string_view path, std::string_view what) {
  if (path.empty()) fail(Code::corrupt, "the {} is empty", what);
  if (path.size() > limits::kPathBytes)
    fail(Code::resource_exhausted, "the {} has {} bytes (the limit is {})", what, path.size(),
         limits::kPathBytes);
  // Neither a component nor the depth can be too much in so short a path.
  static_assert(limits::kPathDepth >= limits::kNameBytes);
  if (path.size() <= limits::kNameBytes) return;
  size_t depth = 0;
  while (!path.empty()) {
    const std::string_view component = path.substr(0, path.find('/'));
    path.remove_prefix(std::min(component.size() + 1, path.size()));
    if (component.size() > limits::kNameBytes)
      fail(Code::resource_exhausted, "a component of the {} has {} bytes (the limit is {})", what,
           component.size(), limits::kNameBytes);
    if (!component.empty() && component != ".") ++depth;
  }
  if (depth > limits::kPathDepth)
    fail(Code::resource_exhausted, "the {} has {} components (the limit is {})", what, depth,
         limits::kPathDepth);
}

EntryType type_of(char flag) {
  switch (flag) {
    case '\0':
    case '0':
    case '7':
    case 'S':
      return EntryType::file;
    case '1':
      return EntryType::hard_link;
    case '2':
      return EntryType::symlink;
    case '3':
      return EntryType::char_device;
    case '4':
      return EntryType::block_device;
    case '5':
      return EntryType::directory;
    case '6':
      return EntryType::fifo;
    default:
      fail(Code::corrupt, "the type 0x{:02x} is unknown", static_cast<uint8_t>(flag));
  }
}

}  // namespace

class Reader::Impl {
 public:
  Impl(Source& from, uint64_t most_entries) : chunks_(from), most_entries_(most_entries) {}

  const Entry* next() {
    return named([this] { return is_at_end_ ? nullptr : next_entry(); });
  }

  std::optional<Piece> read() {
    return named([this] { return next_piece(); });
  }

  void drain() {
    while (!chunks_.take(limits::kLayerBytes).empty()) check_layer_size(0);
  }

  bool has_end_marker() const { return has_end_marker_; }
  uint64_t offset() const { return chunks_.offset(); }

 private:
  // Runs a step of the parser; its errors get the name of the entry, as far as known.
  template <typename Step>
  std::invoke_result_t<Step> named(Step step) {
    try {
      return step();
    } catch (Error& error) {
      const std::string_view name = std::string_view(entry_.path).substr(0, limits::kPathBytes);
      error.add_context(name.empty()
                            ? fmt::format("entry at offset {}", entry_.header_offset)
                            : fmt::format("entry \"{}\" at offset {}", name, entry_.header_offset));
      throw;
    }
  }

  const Entry* next_entry() {
    skip(left_ + tail_);
    left_ = tail_ = 0;
    if (!read_headers()) {
      is_at_end_ = true;
      return nullptr;
    }
    if (++entries_ > most_entries_)
      fail(Code::resource_exhausted, "more than {} entries", most_entries_);
    const uint64_t data_size = fill_entry();
    plan_data(data_size);
    return &entry_;
  }

  // --- headers ---

  // False if the stream ended before the first byte of the block.
  bool read_block() {
    const size_t size = chunks_.read(block_.room());
    if (size != 0 && size != kBlockBytes) fail_truncated();
    return size != 0;
  }

  void skip(uint64_t size) {
    if (chunks_.skip(size) != size) fail_truncated();
  }

  // `more` bytes are said to follow.
  void check_layer_size(uint64_t more) const {
    if (chunks_.offset() > limits::kLayerBytes || more > limits::kLayerBytes - chunks_.offset())
      fail(Code::resource_exhausted, "the layer has more than {} bytes", limits::kLayerBytes);
  }

  [[noreturn]] static void fail_truncated() { fail(Code::corrupt, "the archive is cut off"); }

  // Reads extended headers, and then an entry's own into block_. False at the archive's end.
  bool read_headers() {
    begin_entry();
    while (read_block()) {
      if (!block_.verify()) {
        has_end_marker_ = read_block();
        if (has_end_marker_ && block_.verify())
          fail(Code::corrupt, "a lone block of zeros before a header");
        break;
      }
      entry_.path = block_.text(kName);
      if (!take_extended_header()) return true;
    }
    if (has_extended_header_) fail(Code::corrupt, "the archive ends after an extended header");
    return false;
  }

  void begin_entry() {
    entry_.header_offset = chunks_.offset();
    entry_.path.clear();
    if (!has_extended_header_) return;
    has_extended_header_ = false;
    long_path_.clear();
    long_link_target_.clear();
    pax_text_.clear();
  }

  // False if block_ is something else.
  bool take_extended_header() {
    switch (block_.character(kType)) {
      case 'g':
        read_extended_header(global_text_);
        globals_.merge(global_text_);
        if (!has_extended_header_) entry_.header_offset = chunks_.offset();
        return true;
      case 'x':
        take_own_header(pax_text_);
        return true;
      case 'L':
        take_own_header(long_path_);
        long_path_.resize(std::min(long_path_.size(), long_path_.find('\0')));
        return true;
      case 'K':
        take_own_header(long_link_target_);
        long_link_target_.resize(std::min(long_link_target_.size(), long_link_target_.find('\0')));
        return true;
      default:
        return false;
    }
  }

  void take_own_header(std::string& text) {
    if (!text.empty()) fail(Code::corrupt, "two extended headers of one type for one entry");
    has_extended_header_ = true;
    read_extended_header(text);
  }

  void read_extended_header(std::string& text) {
    const uint64_t size = parse_unsigned_field(block_.raw(kSize), "size");
    if (size > limits::kExtendedHeaderBytes)
      fail(Code::resource_exhausted, "an extended header of {} bytes (the limit is {})", size,
           limits::kExtendedHeaderBytes);
    text.resize(size);
    if (chunks_.read(std::as_writable_bytes(std::span(text))) != size) fail_truncated();
    skip(round_up_to_block(size) - size);
  }

  // --- the entry ---

  // From the headers. Returns how many bytes of data follow them.
  uint64_t fill_entry() {
    merge_extended_headers();
    take_path();
    entry_.type = type_of(block_.character(kType));
    const uint64_t header_size = parse_unsigned_field(block_.raw(kSize), "size");
    const bool has_data = entry_.type == EntryType::file;
    const uint64_t data_size = pax_.size.value_or(has_data ? header_size : 0);
    if (has_data && entry_.path.ends_with('/')) {
      // Some readers take what has such a name for a directory, which has no data, some do not.
      if (data_size != 0) fail(Code::corrupt, "a directory has data");
      entry_.type = EntryType::directory;
    }
    take_link_target();
    take_attributes();

    entry_.segments.clear();
    entry_.size = entry_.stored_size = entry_.type == EntryType::file ? data_size : 0;
    entry_.sparse = pax_.is_sparse || block_.character(kType) == 'S';
    return data_size;
  }

  // In the order of precedence. The pax_ of an entry without extended headers stays empty.
  void merge_extended_headers() {
    if (has_pax_) pax_.clear();
    has_pax_ = has_extended_header_ || !globals_.empty();
    if (!has_pax_) return;
    globals_.apply_to(pax_);
    if (!long_path_.empty()) pax_.apply({"path", long_path_});
    if (!long_link_target_.empty()) pax_.apply({"linkpath", long_link_target_});
    for (std::string_view text = pax_text_; !text.empty();) pax_.apply(take_pax_record(text));
    pax_.drop_duplicate_xattrs();
    // Readers differ in which of the two they believe.
    if ((!long_path_.empty() && pax_.path != long_path_) ||
        (!long_link_target_.empty() && pax_.link_target != long_link_target_))
      fail(Code::corrupt, "the PAX and GNU headers of one entry disagree");
  }

  void take_path() {
    if (pax_.is_sparse && pax_.sparse.name) {
      entry_.path = *pax_.sparse.name;
    } else if (pax_.path) {
      entry_.path = *pax_.path;
    } else if (block_.raw(kMagic) == kUstarMagic && block_.character(kPrefix) != '\0') {
      // Only there: the old GNU header has times and a sparse map in that place.
      entry_.path = block_.text(kPrefix);
      entry_.path += '/';
      entry_.path += block_.text(kName);
    }
    check_path(entry_.path, "path");
  }

  void take_link_target() {
    const bool is_hard_link = entry_.type == EntryType::hard_link;
    if (!is_hard_link && entry_.type != EntryType::symlink) return entry_.link_target.clear();
    entry_.link_target = pax_.link_target ? *pax_.link_target : block_.text(kLinkTarget);
    if (is_hard_link) return check_path(entry_.link_target, "link target");
    if (entry_.link_target.empty()) fail(Code::corrupt, "the link target is empty");
    if (entry_.link_target.size() > limits::kLinkTargetBytes)
      fail(Code::resource_exhausted, "the link target has {} bytes (the limit is {})",
           entry_.link_target.size(), limits::kLinkTargetBytes);
  }

  void take_attributes() {
    const auto number = [this](Field field, std::string_view what) {
      return narrow(parse_unsigned_field(block_.raw(field), what), what);
    };
    entry_.mode = number(kMode, "mode") & 07777;
    entry_.uid = pax_.uid ? *pax_.uid : number(kUid, "uid");
    entry_.gid = pax_.gid ? *pax_.gid : number(kGid, "gid");
    entry_.modified =
        pax_.modified ? *pax_.modified : Timestamp{parse_field(block_.raw(kModified), "mtime"), 0};
    const bool is_device =
        entry_.type == EntryType::char_device || entry_.type == EntryType::block_device;
    entry_.device_major = is_device ? number(kDeviceMajor, "device's major number") : 0;
    entry_.device_minor = is_device ? number(kDeviceMinor, "device's minor number") : 0;
    entry_.xattrs.resize(pax_.xattrs.size());
    for (size_t i = 0; i < entry_.xattrs.size(); ++i) {
      entry_.xattrs[i].name = pax_.xattrs[i].name;
      entry_.xattrs[i].value = pax_.xattrs[i].value;
    }
  }

  // --- sparse files ---

  // Returns how many bytes of the data the map took.
  uint64_t read_sparse_map() {
    if (entry_.type != EntryType::file) fail(Code::corrupt, "sparse, but no file");
    uint64_t map_size = 0;
    if (block_.character(kType) == 'S') {
      if (pax_.is_sparse) fail(Code::corrupt, "a sparse file of two formats");
      read_old_gnu_map();
    } else {
      map_size = read_pax_map();
    }
    entry_.stored_size -= map_size;
    check_segments(entry_.segments, {.size = entry_.size, .stored_size = entry_.stored_size});
    return map_size;
  }

  void read_old_gnu_map() {
    if (block_.raw(kMagic) != kGnuMagic)
      fail(Code::corrupt, "a sparse file of the old GNU format without its magic");
    entry_.size = parse_unsigned_field(block_.raw(kSparseRealSize), "real size");
    bool is_open = add_old_gnu_map(block_.raw(kSparseMap), entry_.segments);
    char is_extended = block_.character(kSparseIsExtended);
    while (is_extended != '\0') {
      // Readers differ in whether such a block is a part of the map.
      if (!is_open) fail(Code::corrupt, "the map of a sparse file goes on after its end");
      if (!read_block()) fail_truncated();
      is_open = add_old_gnu_map(block_.raw(kExtensionMap), entry_.segments);
      is_extended = block_.character(kExtensionIsExtended);
    }
  }

  uint64_t read_pax_map() {
    PaxSparse& sparse = pax_.sparse;
    const uint64_t major = sparse.major.value_or(0);
    const uint64_t minor = sparse.minor.value_or(0);
    const bool has_map_in_data = major == 1 && minor == 0;
    if (!has_map_in_data && (major != 0 || minor > 1))
      fail(Code::corrupt, "a sparse file of the unknown version {}.{}", major, minor);
    const std::optional<uint64_t> size = has_map_in_data ? sparse.real_size : sparse.size;
    if (!size) fail(Code::corrupt, "a sparse file without a size");
    entry_.size = *size;
    if (sparse.open_offset || (sparse.pairs != 0 && (sparse.map || has_map_in_data)))
      fail(Code::corrupt, "a sparse file of two versions");
    if (has_map_in_data) return read_map_in_data();

    if (!sparse.blocks) fail(Code::corrupt, "a sparse file without a number of segments");
    if (sparse.map) {
      add_listed_map(*sparse.map, *sparse.blocks, entry_.segments);
    } else {
      if (sparse.pairs != *sparse.blocks)
        fail(Code::corrupt, "a sparse file of {} segments, not {}", sparse.pairs, *sparse.blocks);
      std::swap(entry_.segments, sparse.segments);
    }
    return 0;
  }

  uint64_t read_map_in_data() {
    SparseMapParser parser;
    for (uint64_t size = kBlockBytes; size <= entry_.stored_size; size += kBlockBytes) {
      if (!read_block()) fail_truncated();
      if (parser.take(block_.raw({0, kBlockBytes}), entry_.segments)) return size;
    }
    fail(Code::corrupt, "the map of a sparse file is longer than its data");
  }

  // --- data ---

  // `data_size` bytes of data follow the headers; some of it may be a sparse map, and it may belong
  // to what has no content.
  void plan_data(uint64_t data_size) {
    if (entry_.sparse) data_size -= read_sparse_map();
    check_layer_size(data_size);
    if (entry_.size > limits::kFileBytes)
      fail(Code::resource_exhausted, "a file of {} bytes (the limit is {})", entry_.size,
           limits::kFileBytes);
    entry_.data_offset = chunks_.offset();
    left_ = entry_.stored_size;
    tail_ = round_up_to_block(data_size) - left_;
    position_ = 0;
    segment_ = 0;
  }

  std::optional<Piece> next_piece() {
    if (left_ == 0) return {};
    uint64_t limit = left_;
    if (entry_.sparse) {
      const Segment& segment = entry_.segments[segment_];
      position_ = std::max(position_, segment.offset);
      limit = segment.offset + segment.size - position_;
    }
    const Piece piece{.offset = position_, .bytes = chunks_.take(limit)};
    if (piece.bytes.empty()) fail_truncated();
    position_ += piece.bytes.size();
    left_ -= piece.bytes.size();
    if (piece.bytes.size() == limit) ++segment_;
    return piece;
  }

  ChunkReader chunks_;
  uint64_t most_entries_;
  uint64_t entries_ = 0;
  bool is_at_end_ = false;
  bool has_end_marker_ = false;
  Block block_;
  Entry entry_;

  // The extended headers of the current entry, and what all say of it. Empty texts are not there.
  bool has_extended_header_ = false;
  std::string pax_text_;
  std::string long_path_;
  std::string long_link_target_;
  std::string global_text_;
  PaxGlobals globals_;
  bool has_pax_ = false;
  PaxFields pax_;

  uint64_t left_ = 0;      // of the file's stored bytes
  uint64_t tail_ = 0;      // from there to the next header
  uint64_t position_ = 0;  // in the file, of the next piece
  size_t segment_ = 0;     // of which it is
};

Reader::Reader(Source& from, uint64_t most_entries)
    : impl_(std::make_unique<Impl>(from, most_entries)) {}
Reader::~Reader() = default;

const Entry* Reader::next() {
  return impl_->next();
}

std::optional<Piece> Reader::read() {
  return impl_->read();
}

void Reader::drain() {
  impl_->drain();
}

bool Reader::has_end_marker() const {
  return impl_->has_end_marker();
}

uint64_t Reader::offset() const {
  return impl_->offset();
}

}  // namespace veneer::tar
