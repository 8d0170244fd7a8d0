// index_tar TAR NAME [hash]: writes the index of a plain tar that is there to a new file of that
// name in the working directory, to time that alone.
// With "hash" the whole tar is read and digested, as packing does; without, only its headers are,
// and the index names no DiffID.

#include <fmt/format.h>
#include <sys/mman.h>

#include <string_view>

#include "base/error.h"
#include "layer/pack.h"

namespace veneer {
namespace {

// A whole file in memory: what nobody looks at is not read.
class MappedFile {
 public:
  explicit MappedFile(int fd) : size_(static_cast<size_t>(stat_fd(fd).st_size)) {
    memory_ = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
    if (memory_ == MAP_FAILED) fail_errno(errno, "mmap of {} bytes", size_);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() { munmap(memory_, size_); }

  Bytes bytes() const { return {static_cast<const std::byte*>(memory_), size_}; }

 private:
  size_t size_;
  void* memory_;
};

void index_tar(const char* from, const char* name, bool wants_hash) {
  const UniqueFd tar = open_root(from, O_RDONLY);
  const UniqueFd index = open_at(open_root(".").get(), RelPath::parse_name(name, "name"),
                                 O_RDWR | O_CREAT | O_EXCL, 0600);
  const MappedFile mapped(tar.get());
  LayerTree tree;
  LayerTarInfo info{.diff_id = {}, .size_bytes = mapped.bytes().size()};
  MemorySource whole(mapped.bytes(), wants_hash ? kChunkBytes : mapped.bytes().size());
  if (wants_hash) {
    HashingSource hashed(whole);
    (void)read_layer_tree(hashed, tree);
    info.diff_id = hashed.digest();
  } else {
    (void)read_layer_tree(whole, tree);
  }
  (void)write_index(tree, tar.get(), info, index.get());
}

}  // namespace
}  // namespace veneer

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4 || (argc == 4 && std::string_view(argv[3]) != "hash")) {
    fmt::print(stderr, "usage: index_tar TAR NAME [hash]\n");
    return 2;
  }
  try {
    veneer::index_tar(argv[1], argv[2], argc == 4);
  } catch (const std::exception& error) {
    fmt::print(stderr, "index_tar: {}\n", error.what());
    return 1;
  }
  return 0;
}
