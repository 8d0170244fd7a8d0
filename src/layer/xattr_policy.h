// Which xattrs a layer carries, and how they are named on disk.
//
// A layer tar has security.capability, security.ima, the POSIX ACLs, user.*, and, as ordinary data
// of whoever nests overlays, trusted.overlay.*. On disk, overlayfs would act on its own names
// ("trusted.overlay.opaque"), so those of a layer are stored with one more "overlay." as the
// kernel does it since Linux 6.7, and shows them without it
// (Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts"). Names of the host's policy
// (security.selinux, system.nfs4_acl) and all else stay out of layers, in both directions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/idmap.h"

namespace veneer {

// The name in a layer tar of an xattr on disk, or on disk of one in a tar; nothing if it is left
// out.
std::optional<std::string> xattr_name_to_tar(std::string_view name);
std::optional<std::string> xattr_name_to_store(std::string_view name);

// True if a layer can have put this xattr on disk (and may replace or remove it).
bool is_layer_xattr(std::string_view name);

// "opaque" of "trusted.overlay.opaque" and of "user.overlay.opaque", the names that overlayfs acts
// on; nothing for others, the escaped ones ("trusted.overlay.overlay.opaque") among them.
std::optional<std::string_view> overlay_key(std::string_view name);

// Ids inside values: the users and groups of a POSIX ACL are mapped, and a capability of
// version 3, which belongs to one user namespace's root (capabilities(7)), is one of version 2 in
// the tar of that namespace. `name` is the same on both sides. Values that are not of the
// expected form are passed on as they are. Throw invalid_argument for ids that no range holds.
std::string xattr_value_to_tar(std::string_view name, std::string value, const IdMaps& maps);
std::string xattr_value_to_store(std::string_view name, std::string value, const IdMaps& maps);

}  // namespace veneer
