// The store that the global options name, and what every command over it needs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bin/command.h"
#include "bin/json_out.h"
#include "image/library.h"
#include "store/store.h"

namespace veneer {

struct LocalStore {
  // Opens the store, and makes it if it is not there.
  explicit LocalStore(const Context& context);

  Store store;
  Library library;
};

// Deletes what was removed, in a process of its own that nothing waits for; `veneer gc` does the
// same and waits. Call it when the store is closed again and all is printed: nothing can be, after
// it.
void empty_trash_in_background(const Context& context);

// Calls `call` with each of several arguments. What fails is reported on standard error, and does
// not keep the others from being tried. Returns the exit status.
int for_each_argument(const Context& context, const std::vector<std::string>& arguments,
                      const std::function<void(const std::string&)>& call);

// The same for verbs that take something away, each in the store and named in the JSON list that is
// their answer; what was removed is deleted in the background.
int remove_each(const Context& context, const std::vector<std::string>& references,
                const std::function<void(Library&, JsonOut&, const std::string&)>& remove);

}  // namespace veneer
