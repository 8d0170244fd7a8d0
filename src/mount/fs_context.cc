#include "mount/fs_context.h"

#include <sys/mount.h>
#include <unistd.h>

#include <array>

#include "base/error.h"
#include "base/failpoint.h"

namespace veneer {

namespace {

int errno_of(int result) {
  return result < 0 ? errno : 0;
}

}  // namespace

FsContext::FsContext(const char* type) : type_(type), fd_(::fsopen(type, FSOPEN_CLOEXEC)) {
  if (fd_) return;
  if (errno == ENODEV)
    fail(Code::unsupported, "this kernel has no {}: load its module, or use one that has it", type);
  fail_errno(errno, "fsopen {}", type);
}

int FsContext::try_set(const char* key, const char* value) {
  const unsigned command = value == nullptr ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
  return errno_of(::fsconfig(fd_.get(), command, key, value, 0));
}

int FsContext::try_set_fd(const char* key, int fd) {
  return errno_of(::fsconfig(fd_.get(), FSCONFIG_SET_FD, key, nullptr, fd));
}

int FsContext::try_create() {
  if (const int error_number = failpoint::hit("fsconfig create")) return error_number;
  return errno_of(::fsconfig(fd_.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0));
}

void FsContext::set(const char* key, const std::string& value) {
  if (const int error_number = try_set(key, value.c_str()))
    fail_with(error_number, fmt::format("{}={}", key, value));
}

void FsContext::set_flag(const char* key) {
  if (const int error_number = try_set(key, nullptr)) fail_with(error_number, key);
}

UniqueFd FsContext::mount(unsigned attributes) {
  failpoint::point("fsmount");
  return UniqueFd(check(::fsmount(fd_.get(), FSMOUNT_CLOEXEC, attributes), "fsmount of {}", type_));
}

// Each read gives one message, "e text\n" (w for a warning, i for information), and ENODATA when
// there are no more.
std::string FsContext::messages() {
  std::string all;
  std::array<char, 1024> line;
  for (;;) {
    const ssize_t size = ::read(fd_.get(), line.data(), line.size());
    if (size <= 0) return all;
    std::string_view text(line.data(), static_cast<size_t>(size));
    if (text.size() > 2 && text[1] == ' ') text.remove_prefix(2);
    while (text.ends_with('\n')) text.remove_suffix(1);
    if (!all.empty()) all += "; ";
    all += text;
  }
}

void FsContext::fail_with(int error_number, std::string_view what) {
  const std::string said = messages();
  if (said.empty()) fail_errno(error_number, "mount {}: {}", type_, what);
  fail_errno(error_number, "mount {}: {}: {}", type_, what, said);
}

}  // namespace veneer
