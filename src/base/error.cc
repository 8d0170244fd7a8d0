#include "base/error.h"

#include <cstdio>
#include <cstdlib>
#include <system_error>

namespace veneer {

namespace {

// Only what a client can act on gets a code of its own. A stray ENOENT from inside an operation is
// an I/O error: the caller that expects absence asks with a maybe_ function.
Code code_of(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return Code::resource_exhausted;
    case ENOSYS:
    case EOPNOTSUPP:
      return Code::unsupported;
    default:
      return Code::io;
  }
}

}  // namespace

std::string_view to_string(Code code) {
  switch (code) {
    case Code::not_found:
      return "not found";
    case Code::already_exists:
      return "already exists";
    case Code::invalid_argument:
      return "invalid argument";
    case Code::failed_precondition:
      return "failed precondition";
    case Code::corrupt:
      return "corrupt";
    case Code::resource_exhausted:
      return "resource exhausted";
    case Code::unsupported:
      return "unsupported";
    case Code::unavailable:
      return "unavailable";
    case Code::io:
      return "i/o error";
  }
  return "unknown";
}

void Error::add_context(std::string_view context) {
  message_ = fmt::format("{}: {}", context, message_);
}

SysError::SysError(int error_number, std::string_view message)
    : Error(code_of(error_number),
            fmt::format("{}: {}", message, std::generic_category().message(error_number))),
      error_number_(error_number) {}

void abort_check(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace veneer
