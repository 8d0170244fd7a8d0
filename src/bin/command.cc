#include "bin/command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <climits>

#include "base/error.h"

namespace veneer {

void log(const Context& context, LogLevel level, std::string_view text) {
  if (level <= context.log_level) print_error(fmt::format("{}: {}", context.verb, text));
}

std::string absolute(const std::string& path) {
  if (path.starts_with('/')) return path;
  char directory[PATH_MAX];
  if (getcwd(directory, sizeof(directory)) == nullptr) fail_errno(errno, "getcwd");
  return fmt::format("{}/{}", directory, path);
}

}  // namespace veneer
