#include "graphdriver/registry.h"

#include <array>

#include "base/error.h"
#include "graphdriver/overlay.h"
#include "graphdriver/snapshot_driver.h"

namespace veneer {

namespace {

constexpr std::array kFactories{DriverFactory{"overlay", open_overlay_driver},
                                DriverFactory{"veneer", open_snapshot_driver}};

}  // namespace

std::span<const DriverFactory> driver_factories() {
  return kFactories;
}

std::unique_ptr<Driver> open_driver(std::string_view name, const DriverOptions& options) {
  std::string known;
  for (const DriverFactory& factory : kFactories) {
    if (factory.name == name) return factory.open(options);
    known += fmt::format("{}{}", known.empty() ? "" : ", ", factory.name);
  }
  fail(Code::invalid_argument, "no driver is called \"{}\"; there is: {}", name, known);
}

}  // namespace veneer
