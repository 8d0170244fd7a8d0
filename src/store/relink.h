// Rows that the database lost, made anew from what is left: the configurations of images say which
// layers they have, and the digests of the layers' tars prove that they are these.
//
// What an image stood on comes back: its own row, its snapshots, their layers and variants; and the
// active snapshots of containers. Names of images and containers, containers themselves and labels
// are nowhere else: when their rows go, they are gone.
#pragma once

#include "store/repair.h"

namespace veneer {

// Each image, or container, is a transaction of its own. Reports each action. True if there was
// one. What fails for one image is left to the next check; its reason is added to `failures`. When
// nothing else can be done, names of images that are gone are removed.
bool relink(Store& store, const RepairOptions& options, std::vector<std::string>& failures);

}  // namespace veneer
