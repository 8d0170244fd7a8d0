// Small images for the tests, and a place to write them to.
#pragma once

#include <random>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/at.h"
#include "base/error.h"
#include "tar/writer.h"

namespace veneer::test {

// Runs `call`, which must throw that code, with all of `parts` in a message of one line. Throws
// what fails the test if it does not.
template <typename Call>
void expect_error(Code code, const std::vector<std::string>& parts, Call&& call,
                  std::source_location at = std::source_location::current()) {
  std::string found = "nothing thrown";
  try {
    call();
  } catch (const Error& error) {
    found = fmt::format("{}: {}", to_string(error.code()), error.message());
    bool good = error.code() == code && error.message().find('\n') == std::string::npos;
    for (const std::string& part : parts)
      good = good && error.message().find(part) != std::string::npos;
    if (good) return;
  }
  throw std::logic_error(fmt::format("{}:{}: expected {}: {}; {}", at.file_name(), at.line(),
                                     to_string(code), fmt::join(parts, " ... "), found));
}

// The members of an archive in their order.
struct File {
  std::string name;
  std::string content;
  tar::EntryType type = tar::EntryType::file;
  std::string target = {};
};
using Files = std::vector<File>;

inline std::string tar_of(const Files& files) {
  StringSink sink;
  tar::Writer writer(sink);
  for (const File& file : files) {
    tar::Entry entry;
    entry.type = file.type;
    entry.path = file.name;
    entry.link_target = file.target;
    entry.mode = 0644;
    if (file.type == tar::EntryType::file) entry.size = file.content.size();
    writer.add(entry);
    writer.write(std::as_bytes(std::span(file.content)));
  }
  writer.finish();
  return sink.text();
}

// The text as a gzip member of stored blocks (RFC 1951, 1952).
inline std::string gzip_of(std::string_view text) {
  uint32_t crc = ~0u;
  for (const char c : text) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1)));
  }
  const auto little = [](size_t value, size_t bytes) {
    std::string out;
    for (size_t i = 0; i < bytes; ++i) out += static_cast<char>((value >> (8 * i)) & 0xFF);
    return out;
  };
  std::string out("\x1f\x8b\x08\0\0\0\0\0\0\xff", 10);
  const size_t size = text.size();
  do {
    const std::string_view block = text.substr(0, 65535);
    text.remove_prefix(block.size());
    out += (text.empty() ? '\1' : '\0') + little(block.size(), 2) + little(~block.size(), 2);
    out += block;
  } while (!text.empty());
  return out + little(~crc, 4) + little(size, 4);
}

class Scratch {
 public:
  Scratch() : name_(RelPath::parse(fmt::format("veneer-image-{:08x}", std::random_device()()))) {
    make_dir_at(parent_.get(), name_, 0700);
    dir_ = open_dir_at(parent_.get(), name_);
  }
  ~Scratch() { remove_tree_at(parent_.get(), name_); }
  int dir() const { return dir_.get(); }
  std::string path() const { return "/var/tmp/" + name_.str(); }

  // Both return the path, which names what is written last.
  std::string write_file(std::string_view content) {
    (void)remove_tree_at(dir(), "image");
    write_file_at(dir(), "image", content, 0600);
    return path() + "/image";
  }
  std::string write_directory(const Files& files) {
    (void)remove_tree_at(dir(), "image");
    for (const char* name : {"image", "image/blobs", "image/blobs/sha256"})
      make_dir_at(dir(), RelPath::parse(name), 0700);
    for (const File& file : files) {
      const RelPath name = RelPath::parse("image/" + file.name);
      if (file.type == tar::EntryType::symlink)
        make_symlink_at(file.target, dir(), name);
      else
        write_file_at(dir(), name, file.content, 0600);
    }
    return path() + "/image";
  }

 private:
  UniqueFd parent_ = open_root("/var/tmp");
  RelPath name_;
  UniqueFd dir_;
};

}  // namespace veneer::test
