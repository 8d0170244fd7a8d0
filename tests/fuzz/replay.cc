// Runs a fuzz target over the files that are committed for it: what was once found stays found.
#include <fmt/core.h>

#include <cstddef>
#include <cstdint>

#include "base/at.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr uint64_t kMostBytes = 16 << 20;

int replay(const char* directory) {
  const veneer::UniqueFd dir = veneer::open_root(directory);
  int files = 0;
  for (const std::string& name : veneer::list_dir(dir.get())) {
    fmt::print("{}\n", name);
    const veneer::RelPath path = veneer::RelPath::parse_name(name, "a corpus file");
    const std::string text = veneer::read_file_at(dir.get(), path, kMostBytes);
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    ++files;
  }
  fmt::print("{} files\n", files);
  return files == 0 ? 1 : 0;
}

}  // namespace

int main(int count, char** arguments) {
  return count == 2 ? replay(arguments[1]) : 2;
}
