// What a program of Veneer's sees to before it opens a store.
#pragma once

namespace veneer {

// Standard descriptors that are closed become /dev/null, so that no file of the store takes their
// place; SIGPIPE is ignored, so that a reader that goes away is an error of write(); as many
// descriptors as the limit allows. SIGBUS ends the process with status 1 and `bus_error`, a line,
// on standard error: SQLite maps a file that all processes share, and some file systems (btrfs)
// find only when a page of it is written that they are full. What that leaves is what a kill
// leaves. For main(), once, while there is one thread; `bus_error` lives as long as the process.
void prepare_process(const char* bus_error);

}  // namespace veneer
