// Every operation of the `overlay` driver, with its n-th system call failing (EIO, ENOSPC) and with
// SIGKILL at the n-th, for all n. Afterwards the driver is opened again, and the operation must be
// wholly done or wholly absent, with nothing left over: no descriptor, no mount, no staging.
//
// New failpoints are swept without a change here.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "base/error.h"
#include "base/failpoint.h"
#include "graphdriver/registry.h"
#include "mount/mount.h"
#include "tests/support/layer_tar.h"
#include "tests/support/tree.h"

namespace veneer {
namespace {

using test::LayerTar;
using State = std::map<std::string, std::map<std::string, std::string>>;
using Operation = std::function<void(Driver&)>;

// Preparations need not be durable; the operation that is swept is.
std::unique_ptr<Driver> open_overlay(const std::string& scratch, bool is_volatile = true) {
  return open_driver("overlay", {.home = scratch + "/home",
                                 .run = scratch + "/run",
                                 .options = {fmt::format("overlay.volatile={}", is_volatile)},
                                 .id_maps = {}});
}

std::string layer_bytes() {
  LayerTar tar;
  tar.dir("d", {.mode = 0750, .uid = 1, .xattrs = {{"user.x", "1"}}}).file("d/new", "n");
  tar.whiteout("gone").symlink("s", "d").hard_link("h", "d/new").fifo("deep/implied/fifo");
  return tar.bytes();
}

void prepare(Driver& driver) {
  LayerTar base;
  base.file("gone", "g").file("kept", "k").dir("d").file("d/old", "o");
  const std::string bytes = base.bytes();
  MemorySource source(std::as_bytes(std::span(bytes)));
  driver.add_layer("image", "", source);
  driver.create("child", "image", {});
  driver.create("base", "", {});
  driver.create_read_write("c", "image", {});
  write_file_at(open_root(driver.get("c", "")).get(), "in-c", "", 0644);
  driver.put("c");
}

// All that can be seen of a home: each layer's tree, and its parts.
State observe(Driver& driver, int home) {
  State state;
  for (const std::string& id : driver.list()) {
    const UniqueFd layer = open_dir_at(home, RelPath::parse_name(id, "id"));
    // Times are not compared: each home is made anew.
    state[id] = test::describe_tree(layer.get(), {.times = false, .hard_links = false});
    EXPECT_FALSE(is_mount_point_at(layer.get(), "merged"));
    // overlayfs makes and leaves work/work.
    std::erase_if(state[id], [](const auto& item) { return item.first.starts_with("work/"); });
  }
  EXPECT_TRUE(list_dir(open_dir_at(home, ".veneer-staging").get()).empty());
  return state;
}

size_t open_descriptors() {
  return list_dir(open_root("/proc/self/fd").get()).size();
}

class Sweep : public testing::Test {
 protected:
  // Runs the operation on a new home with `plan`; returns whether it got through.
  enum class Outcome { done, failed, killed };

  static Outcome run(const Operation& operation, const failpoint::Plan& plan,
                     const std::string& scratch) {
    const auto driver = open_overlay(scratch, false);
    failpoint::arm(plan);
    Outcome outcome = Outcome::done;
    try {
      operation(*driver);
    } catch (const Error&) {
      outcome = Outcome::failed;
    }
    const bool was_reached = failpoint::disarm() >= plan.at;
    return outcome == Outcome::done && was_reached ? Outcome::killed : outcome;
  }

  static Outcome run_in_child(const Operation& operation, const failpoint::Plan& plan,
                              const std::string& scratch) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(run(operation, plan, scratch) == Outcome::done ? 0 : 1);
    int status = 0;
    VENEER_CHECK(::waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status)) return Outcome::killed;
    return WEXITSTATUS(status) == 0 ? Outcome::done : Outcome::failed;
  }

  static State state_after(const Operation& operation) {
    test::Scratch scratch;
    const auto driver = open_overlay(scratch.path());
    prepare(*driver);
    operation(*driver);
    return observe(*driver, open_dir_at(scratch.dir(), "home").get());
  }

  // One point, one way to fail. False when the operation got through untouched.
  bool try_point(const Operation& operation, const failpoint::Plan& plan, const State& before,
                 const State& after) {
    test::Scratch scratch;
    prepare(*open_overlay(scratch.path()));
    const size_t descriptors = open_descriptors();
    const Outcome outcome = plan.error_number == 0 ? run_in_child(operation, plan, scratch.path())
                                                   : run(operation, plan, scratch.path());
    EXPECT_EQ(open_descriptors(), descriptors);
    const auto driver = open_overlay(scratch.path());
    const UniqueFd home = open_dir_at(scratch.dir(), "home");
    // A layer that was got and not put is mounted, and stays so until someone puts it.
    if (is_mount_point_at(home.get(), "c/merged")) driver->put("c");
    const State now = observe(*driver, home.get());
    if (outcome == Outcome::done) {
      EXPECT_EQ(now, after);
      return false;
    }
    EXPECT_TRUE(now == before || now == after)
        << "neither done nor absent, at point " << plan.at << " errno " << plan.error_number;
    if (now == before) {  // and it works when tried again
      operation(*driver);
      EXPECT_EQ(observe(*driver, home.get()), after);
    }
    return true;
  }

  void sweep(const Operation& operation) {
    const State before = state_after([](Driver&) {});
    const State after = state_after(operation);
    for (const int error_number : {EIO, ENOSPC, 0}) {
      uint64_t n = 1;
      while (try_point(operation, {.at = n, .error_number = error_number}, before, after)) {
        ASSERT_LT(++n, 2000u);
        if (HasFailure()) return;
      }
      EXPECT_GT(n, 3u) << "nothing was swept";
    }
  }
};

TEST_F(Sweep, CreateBase) {
  sweep([](Driver& driver) { driver.create("new", "", {}); });
}
TEST_F(Sweep, CreateOverAnImage) {
  sweep([](Driver& driver) { driver.create("new", "image", {}); });
}
TEST_F(Sweep, CreateOverAContainer) {
  sweep([](Driver& driver) { driver.create_read_write("new", "c", {}); });
}
TEST_F(Sweep, Remove) {
  sweep([](Driver& driver) { driver.remove("c"); });
}
TEST_F(Sweep, AddLayer) {
  sweep([](Driver& driver) {
    const std::string bytes = layer_bytes();
    MemorySource source(std::as_bytes(std::span(bytes)));
    driver.add_layer("new", "image", source);
  });
}

void apply(Driver& driver, std::string_view id, std::string_view parent) {
  const std::string bytes = layer_bytes();
  MemorySource source(std::as_bytes(std::span(bytes)));
  driver.apply_diff(id, parent, source);
}

TEST_F(Sweep, ApplyOverAnImage) {
  sweep([](Driver& driver) { apply(driver, "child", "image"); });
}
TEST_F(Sweep, ApplyToABase) {
  sweep([](Driver& driver) { apply(driver, "base", ""); });
}
TEST_F(Sweep, ApplyToAContainer) {
  sweep([](Driver& driver) { apply(driver, "c", "c"); });
}
TEST_F(Sweep, GetAndPut) {
  sweep([](Driver& driver) {
    driver.get("c", "");
    driver.put("c");
  });
}

}  // namespace
}  // namespace veneer
