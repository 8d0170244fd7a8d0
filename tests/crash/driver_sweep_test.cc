// Every operation of the `overlay` driver, swept (tests/crash/sweep.h): afterwards no mount and no
// staging is left over.
#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "graphdriver/registry.h"
#include "mount/mount.h"
#include "tests/crash/sweep.h"
#include "tests/support/layer_tar.h"

namespace veneer {
namespace {

using test::LayerTar;
using test::State;
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

void sweep(const Operation& operation) {
  test::sweep(
      {.prepare = [](const test::Scratch& scratch) { prepare(*open_overlay(scratch.path())); },
       .operate =
           [&](const test::Scratch& scratch, const std::function<void()>& arm) {
             const auto driver = open_overlay(scratch.path(), false);
             arm();
             operation(*driver);
           },
       .observe =
           [](const test::Scratch& scratch, bool) {
             const auto driver = open_overlay(scratch.path());
             const UniqueFd home = open_dir_at(scratch.dir(), "home");
             // A layer that was got and not put is mounted, and stays so until someone puts it.
             if (is_mount_point_at(home.get(), "c/merged")) driver->put("c");
             return observe(*driver, home.get());
           }});
}

TEST(OverlaySweep, CreateBase) {
  sweep([](Driver& driver) { driver.create("new", "", {}); });
}
TEST(OverlaySweep, CreateOverAnImage) {
  sweep([](Driver& driver) { driver.create("new", "image", {}); });
}
TEST(OverlaySweep, CreateOverAContainer) {
  sweep([](Driver& driver) { driver.create_read_write("new", "c", {}); });
}
TEST(OverlaySweep, Remove) {
  sweep([](Driver& driver) { driver.remove("c"); });
}
TEST(OverlaySweep, AddLayer) {
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

TEST(OverlaySweep, ApplyOverAnImage) {
  sweep([](Driver& driver) { apply(driver, "child", "image"); });
}
TEST(OverlaySweep, ApplyToABase) {
  sweep([](Driver& driver) { apply(driver, "base", ""); });
}
TEST(OverlaySweep, ApplyToAContainer) {
  sweep([](Driver& driver) { apply(driver, "c", "c"); });
}
TEST(OverlaySweep, GetAndPut) {
  sweep([](Driver& driver) {
    driver.get("c", "");
    driver.put("c");
  });
}

}  // namespace
}  // namespace veneer
