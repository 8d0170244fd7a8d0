#include "base/fd.h"

#include <unistd.h>

namespace veneer {

void UniqueFd::reset() {
  if (fd_ >= 0) (void)::close(fd_);
  fd_ = -1;
}

}  // namespace veneer
