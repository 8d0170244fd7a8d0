// overlayfs mounts (Documentation/filesystems/overlayfs.rst).
#pragma once

#include <string>
#include <vector>

#include "mount/mount.h"

namespace veneer {

struct OverlaySpec {
  // Absolute paths, the topmost first. At least one; two if there is no upper.
  std::vector<std::string> lower;
  // Both or none (then the mount is read-only).
  std::string upper;
  std::string work;
  // SELinux label for context=, "" for none. May hold commas and quotes.
  std::string label;
  bool is_volatile = false;
  bool userxattr = false;
  // Further options as "key" or "key=value", e.g. "index=off".
  std::vector<std::string> options;
};

// A detached overlay mount, by the new API: lowerdir+ for each lower (Linux 6.8; up to 500), else one
// lowerdir option, which must fit a page. Paths may hold any byte. resource_exhausted for more
// lowers than the kernel takes; unsupported, naming what is missing, where neither way works.
UniqueFd mount_overlay(const OverlaySpec& spec);

// The same as a value, for those who mount for themselves: type "overlay", source "overlay", with
// colons, commas and backslashes in paths escaped as overlayfs and mount(8) want them.
Mount to_mount(const OverlaySpec& spec);

// The option of an SELinux label, as libselinux's users write it: context="LABEL".
std::string label_option(const std::string& label);

}  // namespace veneer
