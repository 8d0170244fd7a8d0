// overlayfs mounts (Documentation/filesystems/overlayfs.rst).
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "mount/mount.h"

namespace veneer {

// As many lower directories as any kernel takes (OVL_MAX_STACK in fs/overlayfs).
inline constexpr size_t kOverlayLowers = 500;

struct OverlaySpec {
  // Absolute paths, the topmost first. At least one; two if there is no upper.
  std::vector<std::string> lower;
  // Both or none (then the mount is read-only).
  std::string upper = {};
  std::string work = {};
  // SELinux label for context=, "" for none. May hold commas. A kernel without SELinux refuses it.
  std::string label = {};
  bool is_volatile = false;
  bool userxattr = false;
  // Further options as "key" or "key=value", e.g. "index=off".
  std::vector<std::string> options = {};
};

// A detached overlay mount, by the new API: lowerdir+ for each lower (Linux 6.8; up to 500), else
// one lowerdir option, which must fit a page. Paths may hold any byte but NUL. invalid_argument for
// a spec that breaks its own rules; resource_exhausted for more lowers than the kernel takes;
// unsupported, naming what is missing, where neither way works. overlayfs tells most of its reasons
// to the kernel log only, so the error of a refused mount names the upper and its file system too.
UniqueFd mount_overlay(const OverlaySpec& spec);

// The second of these ways, which works on every kernel: by mount(2), in a mount namespace that a
// thread makes for itself, so that no mount point is needed and nothing shows up here.
UniqueFd mount_overlay_in_page(const OverlaySpec& spec);

// The same as a value, for those who mount for themselves: type "overlay", source "overlay", with
// colons, commas and backslashes in paths escaped as overlayfs and mount(8) want them. Checks the
// spec's own rules as mount_overlay() does.
Mount to_mount(const OverlaySpec& spec);

// The option of an SELinux label, as libselinux's users write it: context="LABEL". The kernel knows
// no escape for a quote in there: invalid_argument.
std::string label_option(const std::string& label);

}  // namespace veneer
