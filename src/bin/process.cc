#include "bin/process.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <utility>

#include "base/at.h"

namespace veneer {

namespace {

std::string bus_error_line;  // a handler of a signal has nothing else

void end_at_bus_error(int) {
  (void)!::write(STDERR_FILENO, bus_error_line.data(), bus_error_line.size());
  ::_exit(1);
}

}  // namespace

void prepare_process(std::string bus_error) {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    // Wrongly used, these give EBADF.
    open_root("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY).release();
  }
  (void)std::signal(SIGPIPE, SIG_IGN);
  bus_error_line = std::move(bus_error) + '\n';
  (void)std::signal(SIGBUS, end_at_bus_error);
  // Deep trees and many layers take a descriptor a level; the soft limit is for select() users.
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);  // fewer descriptors are no reason not to start
  }
}

}  // namespace veneer
