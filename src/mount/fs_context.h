// One fsopen(2) context. For the files of mount/ only.
#pragma once

#include <string>
#include <string_view>

#include "base/fd.h"

namespace veneer {

// fsconfig(2) takes string values up to this long (strndup_user(value, 256) in fs/fsopen.c).
inline constexpr size_t kFsOptionBytes = 255;

// An overlay context pins its lower mounts, so it lives no longer than the call that needs it.
class FsContext {
 public:
  // unsupported if the kernel has no such file system, or no fsopen() (Linux 5.2).
  explicit FsContext(const char* type);

  // Give 0 or an errno. A null value is a flag.
  int try_set(const char* key, const char* value);
  int try_set_fd(const char* key, int fd);
  int try_create();

  void set(const char* key, const std::string& value);
  void set_flag(const char* key);

  // The detached mount, after try_create(); `attributes` are MOUNT_ATTR_ flags.
  UniqueFd mount(unsigned attributes);

  // What the kernel has said about this context since it was asked last: "a; b", or "".
  std::string messages();
  // "mount TYPE: WHAT: messages: text of the errno".
  [[noreturn]] void fail_with(int error_number, std::string_view what);

 private:
  const char* type_;
  UniqueFd fd_;
};

}  // namespace veneer
