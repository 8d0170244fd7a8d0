// Drivers by name, in an order of preference (moby's graphdriver.Register).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "graphdriver/driver.h"

namespace veneer {

struct DriverFactory {
  std::string_view name;
  std::unique_ptr<Driver> (*open)(const DriverOptions& options);
};

// All drivers of this build, the preferred first.
std::span<const DriverFactory> driver_factories();

// Opens the driver `name`. invalid_argument for an unknown name, with the known ones; unsupported
// where the system cannot run it, with what to do.
std::unique_ptr<Driver> open_driver(std::string_view name, const DriverOptions& options);

}  // namespace veneer
