// What a layer may not hold, for all who read one: names that climb out, devices that are
// whiteouts.
#pragma once

#include <sys/types.h>

#include <ctime>
#include <string_view>

#include "base/path.h"
#include "tar/entry.h"

namespace veneer {

// As many symbolic links as the kernel follows in one name (MAXSYMLINKS).
inline constexpr int kMaxLinks = 40;

// Of directories that a tar has entries in, but no entry of.
inline constexpr mode_t kImpliedMode = 0755;

timespec to_timespec(const tar::Timestamp& time);

// Normalises a name of the tar into `path`. Absolute names are taken inside the root. Throws
// invalid_argument for one that climbs out with "..", saying that `what` does.
void assign_entry_path(RelPath& path, std::string_view name, std::string_view what);

// True for what aufs kept for itself, wherever it is: no layer can hold such names. Its link
// directory at the top is not among them: the files there are the sources of hard links, and go
// when the layer is done. Throws corrupt for an entry below the name of a whiteout.
bool is_aufs_metadata(const RelPath& path);

// Throws invalid_argument for the ids that no file can have.
void check_entry_owner(const tar::Entry& entry);

// The device number of a device's entry; 0 for other entries. Throws invalid_argument for numbers
// that Linux does not have (12 bits major, 20 bits minor: linux/kdev_t.h), and for a character
// device 0:0: overlayfs would take it for a whiteout.
dev_t entry_device(const tar::Entry& entry);

// xattr(7): the kernel allows user.* on files and directories only.
bool takes_user_xattrs(tar::EntryType type);

}  // namespace veneer
