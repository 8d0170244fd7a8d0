// What SQLite does to files, behind failpoints: each write, truncation, sync and deletion, as the
// calls of base/at have them.
#pragma once

namespace veneer {

// The name of SQLite's own unix VFS with failpoints in it, registered at the first call.
const char* failpoint_vfs();

}  // namespace veneer
