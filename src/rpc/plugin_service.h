// A graph driver as a plugin of Docker up to 27: the calls of moby's daemon/graphdriver over HTTP.
//
// Errors are `{"Err": ...}` with status 200, where the client looks for them; Diff, whose answer is
// the tar itself, has them with status 500, or breaks off when the tar has begun. Remove of a layer
// that is not there succeeds: the client tries again after a crash.
//
// Docker says once, with Init, where the home is, and not again to a plugin that was restarted. So
// the last Init is kept in the run directory, which ends with Docker itself at a reboot.
//
// Docker repeats a call whose connection breaks, ApplyDiff too, of whose body it then has only the
// rest. So an ApplyDiff whose body broke off leaves a mark on its id, beside the Init, also when
// the process dies; no other is taken for that id until it is removed. And a tar must have its end
// marker, whatever follows that.
#pragma once

#include <memory>
#include <string>

#include "rpc/guarded.h"
#include "rpc/http_server.h"

namespace veneer {

struct PluginOptions {
  std::string driver;  // of the registry
  std::string run;     // absolute
  std::string home;    // instead of Docker's; "" for that
  std::string place;   // of the socket: what is kept is for this plugin
};

// Opens the driver on the home, if it is known already. What `observer` has outlives it.
// invalid_argument for an unknown driver.
HttpHandler make_plugin_service(const PluginOptions& options, const Observer& observer);

}  // namespace veneer
