#include "layer/whiteout.h"

#include "base/error.h"

namespace veneer {

TarName parse_tar_name(std::string_view name) {
  if (!name.starts_with(kWhiteoutPrefix)) return {};
  if (name == kOpaqueName) return {TarNameKind::opaque, {}};
  if (name.starts_with(kAufsPrefix)) return {TarNameKind::aufs_metadata, {}};
  const std::string_view target = name.substr(kWhiteoutPrefix.size());
  if (target.empty() || target == "." || target == "..")
    fail(Code::corrupt, "\"{}\" is a whiteout of no name", name);
  return {TarNameKind::whiteout, target};
}

std::string whiteout_name(std::string_view target) {
  std::string name(kWhiteoutPrefix);
  name += target;
  return name;
}

}  // namespace veneer
