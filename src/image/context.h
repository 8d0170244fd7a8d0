// Errors that say which document, member or file they are about.
#pragma once

#include <string_view>

#include "base/error.h"

namespace veneer {

// Calls `call`; what it throws gets "context: " before its message.
template <typename Call>
auto with_context(std::string_view context, Call&& call) -> decltype(call()) {
  try {
    return call();
  } catch (Error& error) {
    error.add_context(context);
    throw;
  }
}

}  // namespace veneer
