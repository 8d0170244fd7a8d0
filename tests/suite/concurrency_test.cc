// Four processes of four threads each make, mount, write, commit and remove 1,000 containers in one
// store, while images come and go and what is unused is collected. Everything works, readers go on
// meanwhile, and nothing is left of it.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <set>
#include <thread>

#include "base/error.h"
#include "image/library.h"
#include "store/check.h"
#include "tests/support/fake_archive.h"
#include "tests/support/layer_tar.h"
#include "tests/support/tree.h"

namespace veneer {
namespace {

using test::FakeArchive;
using test::LayerTar;
using Clock = std::chrono::steady_clock;

constexpr int kProcesses = 4;
constexpr int kThreads = 4;
constexpr int kContainers = 1000;
constexpr std::chrono::seconds kDeadlock{240};
constexpr std::chrono::seconds kSlowestRead{1};
constexpr std::string_view kSpace = "local";

std::string base_tar() {
  return LayerTar().dir("etc", {.mode = 0700}).file("etc/conf", "conf").bytes();
}
// Has an index of its own over each other layer below.
std::string implicit_tar(std::string_view text) {
  return LayerTar().file("etc/more", text).bytes();
}

StoreOptions options(const test::Scratch& scratch) {
  return {.root = scratch.path() + "/root",
          .run = scratch.path() + "/run",
          .is_volatile = false,
          .form = std::nullopt};
}

// What of the images that a reader sees may go before it has looked at it.
template <typename Call>
void unless_gone(Call call) {
  try {
    call();
  } catch (const Error& error) {
    if (error.code() != Code::not_found) throw;
  }
}

// --- at work -----------------------------------------------------------------------------------

void expect_text(const std::string& top, const std::string& wanted) {
  const UniqueFd merged = open_root(top);
  const std::string found = read_file_at(merged.get(), RelPath::parse("etc/mine"), 1000);
  if (found != wanted) fail(Code::corrupt, "{}/etc/mine says {}, not {}", top, found, wanted);
}

// The life of a container, and of the image that is made of it.
void live(Library& library, const std::string& name) {
  (void)library.create("base:1", name);
  {
    const UniqueFd merged = open_root(library.mount(name));
    write_file_at(merged.get(), RelPath::parse("etc/mine"), name, 0644);
  }
  if (!library.unmount(name)) fail(Code::corrupt, "{} was not mounted", name);
  const std::string made = "made-" + name + ":1";
  (void)library.commit(name, {.name = made, .changes = {}, .message = "", .author = ""});
  library.remove_container(name);
  expect_text(library.mount(made), name);
  (void)library.unmount(made);
  (void)library.remove_image(made);
}

// The upper layer is everybody's, the lower one and its name this process's alone.
void load_and_collect(Store& store, Library& library, int process, const std::atomic<bool>& ends) {
  const std::string name = fmt::format("loaded-{}:1", process);
  const std::string lower = LayerTar().file("whose", name).bytes();
  for (int round = 0; !ends; ++round) {
    const FakeArchive image({lower, base_tar(), implicit_tar("loaded")}, {name});
    (void)library.load(image, {});
    store.collect(store.meta().write());
    if (round % 2 == 0) (void)library.mount(name);
    (void)library.unmount(name);
    (void)library.remove_image(name);
    empty_trash(store.layout(), DeletedByOthers::awaited);
  }
}

void work(const test::Scratch& scratch, int process) {
  Store store(options(scratch));
  Library library(store);
  std::atomic<int> next = process;
  std::atomic<bool> ends = false;
  std::atomic<bool> has_failed = false;
  const auto guarded = [&](const auto& call) {
    try {
      call();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "process %d: %s\n", process, error.what());
      has_failed = true;
      ends = true;
    }
  };
  std::thread loader([&] { guarded([&] { load_and_collect(store, library, process, ends); }); });
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread)
    threads.emplace_back([&] {
      guarded([&] {
        for (int n = next += kProcesses; n - kProcesses < kContainers && !ends;
             n = next += kProcesses)
          live(library, fmt::format("box-{}", n - kProcesses));
      });
    });
  for (std::thread& thread : threads) thread.join();
  ends = true;
  loader.join();
  if (has_failed) fail(Code::io, "process {} failed", process);
}

// The processes at work; ends those that run still.
class Workers {
 public:
  explicit Workers(const test::Scratch& scratch) {
    for (int process = 0; process < kProcesses; ++process) {
      const pid_t child = ::fork();
      VENEER_CHECK(child >= 0);
      if (child == 0) ::_exit(run(scratch, process));
      running_.insert(child);
    }
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers() {
    for (const pid_t child : running_) {
      (void)::kill(child, SIGKILL);
      (void)::waitpid(child, nullptr, 0);
    }
  }

  bool are_at_work() {
    for (auto child = running_.begin(); child != running_.end();) {
      int status = 0;
      if (::waitpid(*child, &status, WNOHANG) == 0) {
        ++child;
        continue;
      }
      EXPECT_EQ(status, 0);
      child = running_.erase(child);
    }
    return !running_.empty();
  }

 private:
  static int run(const test::Scratch& scratch, int process) {
    try {
      work(scratch, process);
      return 0;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return 1;
    }
  }

  std::set<pid_t> running_;
};

// --- looking -----------------------------------------------------------------------------------

class Reader {
 public:
  explicit Reader(Store& store) : library_(store), snapshotter_(open_snapshotter(store, kSpace)) {}

  void read_all() {
    timed([&] { (void)library_.containers(); });
    timed([&] { (void)library_.images(); });
    timed([&] { (void)library_.layers(library_.image("base:1")); });
    std::string key;
    timed([&] { snapshotter_->walk({}, [&](const SnapshotInfo& info) { key = info.name; }); });
    timed([&] { unless_gone([&] { (void)snapshotter_->stat(key); }); });
  }

  std::chrono::duration<double, std::milli> percentile(size_t percent) {
    VENEER_CHECK(!times_.empty());
    std::ranges::sort(times_);
    return times_[std::min(times_.size() - 1, times_.size() * percent / 100)];
  }
  size_t calls() const { return times_.size(); }

 private:
  template <typename Call>
  void timed(Call call) {
    const Clock::time_point began = Clock::now();
    call();
    times_.push_back(Clock::now() - began);
  }

  Library library_;
  std::unique_ptr<Snapshotter> snapshotter_;
  std::vector<Clock::duration> times_;
};

size_t open_descriptors() {
  return list_dir(open_root("/proc/self/fd").get()).size();
}

void expect_only_base(Store& store, Library& library, const test::Scratch& scratch) {
  store.collect(store.meta().write());
  empty_trash(store.layout(), DeletedByOthers::awaited);
  EXPECT_EQ(library.containers().size(), 0U);
  EXPECT_EQ(library.images().size(), 1U);
  const std::vector<LayerRecord> layers = store.meta().read().list_layers();
  EXPECT_EQ(layers.size(), 2U);
  EXPECT_EQ(store.meta().read().list_snapshots("", 0, 10).size(), 2U);
  EXPECT_EQ(store.meta().read().list_blobs().size(), 1U);
  const Layout& layout = store.layout();
  EXPECT_EQ(list_dir(layout.snapshots()).size(), 0U);
  EXPECT_EQ(list_dir(layout.layers()).size(), 2U);
  EXPECT_EQ(list_dir(layout.blobs()).size(), 1U);
  EXPECT_EQ(list_dir(layout.staging()).size(), 0U);
  EXPECT_EQ(list_dir(layout.trash()).size(), 0U);
  EXPECT_EQ(list_dir(open_dir_at(layout.root(), "opened").get()).size(), 1U);
  // A layer keeps what it has for other layers below it, mounted or not.
  std::set<std::string> lowers;
  for (const LayerRecord& layer : layers)
    for (const VariantRecord& variant : store.meta().read().list_variants(layer.id))
      lowers.insert(fmt::format("{}/{}", store.lowers().directory(), variant.id));
  EXPECT_LE(lowers.size(), 4U);
  for (const std::string& mount : scratch.mounts()) EXPECT_TRUE(lowers.contains(mount)) << mount;
  for (const Damage& damage : check_store(store, {}).damages)
    ADD_FAILURE() << damage.what << ": " << damage.why;
}

// Until the workers have ended.
void read_meanwhile(Workers& workers, const test::Scratch& scratch) {
  const Clock::time_point began = Clock::now();
  Store store(options(scratch));
  Reader reader(store);
  reader.read_all();
  const size_t descriptors = open_descriptors();
  while (workers.are_at_work()) {
    ASSERT_LT(Clock::now() - began, kDeadlock) << "no end in sight";
    reader.read_all();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  // A few connections to the database are kept; what leaks does so in thousands of calls.
  EXPECT_LE(open_descriptors(), descriptors + 24);
  EXPECT_LT(reader.percentile(99), kSlowestRead);
  fmt::print("{} read-only calls: p50 {:.2f} ms, p99 {:.2f} ms, slowest {:.2f} ms; {} s\n",
             reader.calls(), reader.percentile(50).count(), reader.percentile(99).count(),
             reader.percentile(100).count(),
             std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - began).count());
}

TEST(Concurrency, AThousandContainersOfFourProcesses) {
  const test::Scratch scratch;
  {
    Store store(options(scratch));
    (void)Library(store).load(FakeArchive({base_tar(), implicit_tar("base")}, {"base:1"}), {});
  }
  Workers workers(scratch);
  ASSERT_NO_THROW(read_meanwhile(workers, scratch));
  if (HasFailure()) return;
  // A load whose lower layers went before it came to them leaves it to the next opening to look.
  Store store(options(scratch));
  Library library(store);
  expect_only_base(store, library, scratch);
}

}  // namespace
}  // namespace veneer
