// What a tree of files takes on disk.
#pragma once

#include "store/snapshotter.h"

namespace veneer {

// Walks the tree below an open directory, itself included: blocks of 512 bytes, an inode counted
// once however many names it has. The tree may change meanwhile: what goes is not counted. Mounts
// in it are not entered. resource_exhausted for trees deeper than limits::kPathDepth.
Usage measure_tree(int dir);

// Makes a tree durable: data, names and attributes. `usage` says how large it is: a small one is
// synced file by file, where the file system's journal keeps the order (the whole file system may
// have gigabytes of others to write), everything else with its file system.
void sync_tree(int dir, const Usage& usage);

}  // namespace veneer
