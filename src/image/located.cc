#include "image/located.h"

#include "base/error.h"
#include "image/select.h"

namespace veneer {

void check_platform(const ImageConfig& config, const Platform& wanted) {
  if (config.platform.architecture.empty()) return;
  if (suitability(config.platform, wanted) == 0)
    fail(Code::not_found, "no image for {}; there is {}", shown(wanted.str()),
         shown(config.platform.str()));
}

void check_diff_ids(const ImageConfig& config, size_t layers) {
  if (config.diff_ids.size() != layers)
    fail(Code::corrupt, "{} diff_ids for {} layers", config.diff_ids.size(), layers);
}

}  // namespace veneer
