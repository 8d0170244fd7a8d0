// The mounts of packed layers on <layer>/mnt, which overlays share.
#pragma once

#include <string>
#include <vector>

namespace veneer {

// Held by those who mount a layer until the overlay over it is there. Waits for let_go().
void lock_layer(int directory);
void unlock_layer(int directory);

// The lower directories of the overlay on `target`, an absolute path; none if there is no overlay.
// Knows those that were mounted with lowerdir+ (Linux 6.8), as file-backed layers always are.
std::vector<std::string> overlay_lowers(const std::string& target);

// Unmounts those of the paths <layer>/mnt that no overlay of this mount namespace has as a lower
// directory any more. Waits for those who lock the layer.
void let_go(const std::vector<std::string>& lowers);

}  // namespace veneer
