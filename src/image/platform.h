// Platforms of images: which of an index's manifests suits a machine.
//
// Sources: image-spec image-index.md (platform), Go's GOOS, GOARCH and GOARM names.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace veneer {

struct Platform {
  std::string os;
  std::string architecture;
  std::string variant;  // "v7" of arm; may be empty

  // "os/arch[/variant]", also with the kernel's names (x86_64, aarch64, ...). Throws
  // invalid_argument.
  static Platform parse(std::string_view text);
  // This machine's, from uname(2).
  static Platform host();
  std::string str() const;
};

// How well an image for `offered` runs on `wanted`: 0 is not at all, 1 is that nobody said, and
// more is better. Of variants that are levels (arm, arm64, amd64) a machine runs its own and all
// lower ones; where none is said, arm is v7, arm64 is v8, amd64 is v1. Others must be equal.
unsigned suitability(const std::optional<Platform>& offered, const Platform& wanted);

}  // namespace veneer
