// The one error type, and the check that stands at every system call.
//
// Exceptions end a request; expected outcomes are return values. `Code` is the vocabulary of the
// clients (it maps once to gRPC, once to HTTP, once to an exit status).
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace veneer {

enum class Code {
  not_found,
  already_exists,
  invalid_argument,
  failed_precondition,
  corrupt,
  resource_exhausted,
  unsupported,
  unavailable,
  io,
};

std::string_view to_string(Code code);

class Error : public std::exception {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  const char* what() const noexcept override { return message_.c_str(); }

  // Puts "context: " before the message: each caller that knows more says where it happened.
  void add_context(std::string_view context);

 private:
  Code code_;
  std::string message_;
};

// A failed system call. The message ends in the text of errno.
class SysError : public Error {
 public:
  SysError(int error_number, std::string_view message);
  int error_number() const { return error_number_; }

 private:
  int error_number_;
};

template <typename... Args>
[[noreturn]] void fail(Code code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
[[noreturn]] void fail_errno(int error_number, fmt::format_string<Args...> format, Args&&... args) {
  throw SysError(error_number, fmt::format(format, std::forward<Args>(args)...));
}

// Returns `result` unless it is negative; then throws a SysError that says what was tried.
//   const int fd = check(openat(...), "open {}", path);
template <typename Result, typename... Args>
Result check(Result result, fmt::format_string<Args...> format, Args&&... args) {
  static_assert(std::is_signed_v<Result>);
  if (result < 0) [[unlikely]] {
    const int error_number = errno;
    throw SysError(error_number, fmt::format(format, std::forward<Args>(args)...));
  }
  return result;
}

[[noreturn]] void abort_check(const char* condition, const char* file, int line);

}  // namespace veneer

// For our own bugs only, never for input or for what is on disk.
#define VENEER_CHECK(condition) \
  ((condition) ? void(0) : ::veneer::abort_check(#condition, __FILE__, __LINE__))
