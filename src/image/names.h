// Names of images as Docker reads and shows them.
//
// Source: the grammar of github.com/distribution/reference (regexp.go) and its rules for familiar
// names (normalize.go): "busybox" is docker.io/library/busybox:latest.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/digest.h"

namespace veneer {

// ASCII.
bool is_alnum(char c);

class ImageName {
 public:
  // "[domain/]path[:tag][@digest]". What is left out becomes docker.io, library/ and, if there is
  // no digest either, the tag latest. Throws invalid_argument with the reason; also for 64 hex
  // digits, which are an image id.
  static ImageName parse(std::string_view text);
  // Nothing for what parse() refuses.
  static std::optional<ImageName> maybe_parse(std::string_view text);

  const std::string& domain() const { return domain_; }
  const std::string& path() const { return path_; }
  const std::string& tag() const { return tag_; }  // empty if only a digest was given
  const std::optional<Digest>& digest() const { return digest_; }

  // In full: what names are compared and stored by.
  std::string str() const;
  // As short as parse() would take it again: without docker.io and library/, but with the tag.
  std::string familiar() const;

  bool operator==(const ImageName&) const = default;

 private:
  // The reason why `text` is no name, or nothing.
  std::string_view assign(std::string_view text);
  std::string with_suffix(std::string name) const;

  std::string domain_;
  std::string path_;
  std::string tag_;
  std::optional<Digest> digest_;
};

}  // namespace veneer
