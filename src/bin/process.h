// What a program of Veneer's sees to before it opens a store.
#pragma once

#include <string>
#include <string_view>

namespace veneer {

// What a SIGBUS means: SQLite maps a file that all processes share, and some file systems (btrfs)
// find only when a page of it is written that they are full.
inline constexpr std::string_view kBusError =
    "store.db-shm: its file system is full, at its quota, or failing (SIGBUS)";

// Standard descriptors that are closed become /dev/null, so that no file of the store takes their
// place; SIGPIPE is ignored, so that a reader that goes away is an error of write(); as many
// descriptors as the limit allows. SIGBUS ends the process with status 1 and the line `bus_error`
// on standard error, and leaves what a kill leaves. For main(), once, while there is one thread.
void prepare_process(std::string bus_error);

}  // namespace veneer
