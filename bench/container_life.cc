// How long a container's life takes in the library (create, mount, unmount, remove), with few and
// with many others there, beside the system calls that it cannot do without.
//   usage: container_life ROOT RUN IMAGE COUNT...
// ROOT is a store with the image. The tables' times are medians of kRounds lives.

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "base/at.h"
#include "base/error.h"
#include "image/library.h"
#include "mount/overlay.h"
#include "store/store.h"

namespace veneer {
namespace {

constexpr size_t kRounds = 51;

double median_ms(const std::function<void()>& life) {
  std::vector<double> times;
  for (size_t round = 0; round < kRounds; ++round) {
    const auto begun = std::chrono::steady_clock::now();
    life();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begun;
    times.push_back(took.count());
  }
  std::ranges::nth_element(times, times.begin() + kRounds / 2);
  return times[kRounds / 2];
}

// The same directories and mount, made durable as any store must: two directories synced when they
// come, one when they go.
void live_barely(int parent, const std::string& path, const std::vector<std::string>& lower) {
  make_dir_at(parent, "bare", 0700);
  const UniqueFd bare = open_dir_at(parent, "bare");
  for (const PathView name : {PathView("fs"), PathView("work"), PathView("merged")})
    make_dir_at(bare.get(), name, 0755);
  sync_fd(bare.get());
  sync_fd(parent);
  attach_mount(mount_overlay({.lower = lower,
                              .upper = path + "/bare/fs",
                              .work = path + "/bare/work",
                              .options = {"index=off"}})
                   .get(),
               bare.get(), "merged");
  if (!unmount_at(bare.get(), "merged")) fail(Code::io, "the bare mount is gone");
  (void)remove_tree_at(parent, "bare");
  sync_fd(parent);
}

void live(Library& library, const std::string& image) {
  const std::string id = library.create(image, "").record.id;
  (void)library.mount(id);
  (void)library.unmount(id);
  library.remove_container(id);
}

void run(const std::string& root, const std::string& run, const std::string& image,
         const std::vector<size_t>& counts) {
  Store store({.root = root, .run = run, .is_volatile = false, .form = {}});
  Library library(store);
  std::vector<std::string> lower;
  {
    Meta::Transaction transaction = store.meta().read();
    lower = store.lower_paths(transaction, library.image(image).record.top.value());
  }
  const UniqueFd parent = open_root(root);
  fmt::print("{:<24} {:>8} {:>8}\n", "containers there", "ms", "bare ms");
  size_t there = 0;
  for (const size_t count : counts) {
    for (; there < count; ++there) (void)library.create(image, "");
    const double bare = median_ms([&] { live_barely(parent.get(), root, lower); });
    fmt::print("{:<24} {:>8.2f} {:>8.2f}\n", count, median_ms([&] { live(library, image); }), bare);
  }
}

}  // namespace
}  // namespace veneer

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fputs("usage: container_life ROOT RUN IMAGE COUNT...\n", stderr);
    return 2;
  }
  try {
    std::vector<size_t> counts;
    for (int i = 4; i < argc; ++i) counts.push_back(std::stoul(argv[i]));
    veneer::run(argv[1], argv[2], argv[3], counts);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "container_life: {}\n", error.what());
    return 1;
  }
}
