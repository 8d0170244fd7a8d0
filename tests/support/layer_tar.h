// Layer tars, written in a test.
#pragma once

#include <string>
#include <string_view>

#include "stream/stream.h"
#include "tar/writer.h"

namespace veneer::test {

struct Attributes {
  uint32_t mode = 0644;
  uint32_t uid = 0;
  uint32_t gid = 0;
  tar::Timestamp modified = {1700000000, 0};
  std::vector<Xattr> xattrs = {};
};

class LayerTar {
 public:
  LayerTar& add(const tar::Entry& entry, std::string_view data = {}) {
    writer_.add(entry);
    if (!data.empty()) writer_.write(std::as_bytes(std::span(data)));
    return *this;
  }
  LayerTar& file(std::string path, std::string_view data, const Attributes& attributes = {}) {
    tar::Entry entry = make(tar::EntryType::file, std::move(path), attributes);
    entry.size = data.size();
    return add(entry, data);
  }
  LayerTar& dir(std::string path, const Attributes& attributes = {.mode = 0755}) {
    return add(make(tar::EntryType::directory, std::move(path), attributes));
  }
  LayerTar& symlink(std::string path, std::string target) {
    return link(tar::EntryType::symlink, std::move(path), std::move(target));
  }
  LayerTar& hard_link(std::string path, std::string target) {
    return link(tar::EntryType::hard_link, std::move(path), std::move(target));
  }
  LayerTar& fifo(std::string path) { return add(make(tar::EntryType::fifo, std::move(path), {})); }
  LayerTar& char_device(std::string path, uint32_t major, uint32_t minor) {
    tar::Entry entry = make(tar::EntryType::char_device, std::move(path), {});
    entry.device_major = major;
    entry.device_minor = minor;
    return add(entry);
  }
  // "a/b" is written as "a/.wh.b".
  LayerTar& whiteout(std::string_view path) {
    const size_t name = path.rfind('/') == std::string_view::npos ? 0 : path.rfind('/') + 1;
    return file(std::string(path.substr(0, name)) + ".wh." + std::string(path.substr(name)), "");
  }
  LayerTar& opaque(const std::string& dir) {
    return file((dir.empty() ? "" : dir + "/") + ".wh..wh..opq", "");
  }

  // The finished archive; nothing can be added after.
  std::string bytes() {
    writer_.finish();
    return sink_.text();
  }

 private:
  static tar::Entry make(tar::EntryType type, std::string path, const Attributes& attributes) {
    tar::Entry entry;
    entry.type = type;
    entry.path = std::move(path);
    entry.mode = attributes.mode;
    entry.uid = attributes.uid;
    entry.gid = attributes.gid;
    entry.modified = attributes.modified;
    entry.xattrs = attributes.xattrs;
    return entry;
  }
  LayerTar& link(tar::EntryType type, std::string path, std::string target) {
    tar::Entry entry = make(type, std::move(path), {.mode = 0777});
    entry.link_target = std::move(target);
    return add(entry);
  }

  StringSink sink_;
  tar::Writer writer_{sink_};
};

}  // namespace veneer::test
