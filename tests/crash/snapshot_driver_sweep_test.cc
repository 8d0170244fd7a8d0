// Every operation of the `veneer` driver, swept (tests/crash/sweep.h).
#include <gtest/gtest.h>

#include "base/error.h"
#include "graphdriver/registry.h"
#include "tests/crash/store_state.h"
#include "tests/support/layer_tar.h"

namespace veneer {
namespace {

using test::LayerTar;
using test::Scratch;
using Operation = std::function<void(Driver&)>;

std::unique_ptr<Driver> open_veneer(const Scratch& scratch, bool is_volatile = true) {
  return open_driver("veneer", {.home = scratch.path() + "/root",
                                .run = scratch.path() + "/run",
                                .options = {fmt::format("veneer.volatile={}", is_volatile)},
                                .id_maps = {}});
}

std::string layer_bytes() {
  return LayerTar().dir("d", {.mode = 0750}).file("d/new", "n").whiteout("gone").bytes();
}

void prepare(Driver& driver) {
  const std::string bytes = LayerTar().file("gone", "g").dir("d").file("d/old", "o").bytes();
  MemorySource source(std::as_bytes(std::span(bytes)));
  driver.add_layer("image", "", source);
  driver.create("child", "image", {});
  driver.create_read_write("c", "image", {});
  write_file_at(open_root(driver.get("c", "")).get(), "in-c", "", 0644);
  driver.put("c");
}

void sweep(const Operation& operation, const Operation& more = [](Driver&) {}) {
  test::sweep_store(Form::packed,
                    {.prepare =
                         [&](const Scratch& scratch) {
                           prepare(*open_veneer(scratch));
                           test::reboot(scratch);
                           more(*open_veneer(scratch));
                         },
                     .operate =
                         [&](const Scratch& scratch, const std::function<void()>& arm) {
                           const auto driver = open_veneer(scratch, false);
                           arm();
                           operation(*driver);
                         }});
}

TEST(VeneerSweep, Create) {
  sweep([](Driver& driver) { driver.create("new", "image", {}); });
}
TEST(VeneerSweep, Remove) {
  sweep([](Driver& driver) { driver.remove("c"); });
}
TEST(VeneerSweep, AddLayer) {
  sweep([](Driver& driver) {
    const std::string bytes = layer_bytes();
    MemorySource source(std::as_bytes(std::span(bytes)));
    driver.add_layer("new", "image", source);
  });
}
TEST(VeneerSweep, Apply) {
  sweep([](Driver& driver) {
    const std::string bytes = layer_bytes();
    MemorySource source(std::as_bytes(std::span(bytes)));
    driver.apply_diff("child", "image", source);
  });
}
TEST(VeneerSweep, Get) {
  sweep([](Driver& driver) { driver.get("c", ""); });
}
TEST(VeneerSweep, Put) {
  sweep([](Driver& driver) { driver.put("c"); }, [](Driver& driver) { driver.get("c", ""); });
}

}  // namespace
}  // namespace veneer
