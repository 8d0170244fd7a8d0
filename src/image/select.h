// Which image of several, and how errors tell what there is.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace veneer {

struct ImageChoice {
  std::string id;                  // what tells it apart if it has no name
  std::vector<std::string> names;  // as the archive has them
};

// The positions of the images that `name` means: their id, one of their names, or one that is the
// same after Docker's rules ("a" is docker.io/library/a:latest). Without a name: all. Throws
// not_found, with what there is, instead of returning none.
std::vector<size_t> select_images(const std::vector<ImageChoice>& images,
                                  const std::optional<std::string>& name);
// Throws the invalid_argument that asks for a name.
[[noreturn]] void fail_ambiguous(const std::vector<ImageChoice>& images,
                                 const std::vector<size_t>& selected);

// Text from an archive for an error message: quoted and escaped unless it is plain printable ASCII.
std::string shown(std::string_view text);
// Some of the texts, shown, with commas between them.
std::string shown(const std::vector<std::string>& texts);

}  // namespace veneer
