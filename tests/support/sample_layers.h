// Small layers that several tests want, and their compression.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "stream/compress.h"
#include "stream/compressing_sink.h"
#include "stream/stream.h"
#include "tests/support/layer_tar.h"

namespace veneer::test {

inline std::string compress(const std::string& bytes, Compression compression) {
  StringSink sink;
  CompressingSink compressed(compression, sink);
  compressed.write(std::as_bytes(std::span(bytes)));
  compressed.finish();
  return sink.text();
}

inline std::string plain_tar(const std::string& name) {
  LayerTar tar;
  tar.dir("./").file(name, "of " + name);
  return tar.bytes();
}

// Nothing of it can be settled without the layers below: d is implied, f is theirs.
inline std::string dependent_tar() {
  LayerTar tar;
  tar.whiteout("d/one").file("d/two", "2").hard_link("linked", "f");
  return tar.bytes();
}

// Some megabytes that do not shrink, so that a call can be met in the middle.
inline std::string large_tar() {
  std::string data(4 << 20, '\0');
  uint32_t state = 1;
  for (char& byte : data) byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  LayerTar tar;
  tar.file("large", data);
  return tar.bytes();
}

}  // namespace veneer::test
