// The edge of the services: where errors end, become statuses, and are logged and counted once.
#pragma once

#include <grpcpp/support/status.h>

#include <functional>
#include <string_view>

#include "rpc/log.h"
#include "rpc/metrics.h"

namespace veneer {

// Thrown by a handler whose client does not wait any more.
struct Cancelled {};

// Who is told of each call. A log alone will do. Both outlive it.
struct Observer {
  // Not explicit: a service is given one or the other.
  Observer(const Log& log_given, Metrics* metrics_given = nullptr)
      : log(log_given), metrics(metrics_given) {}
  const Log& log;
  Metrics* metrics;
};

// Runs a call's body and says how it went. `subject` is what it was about, for the log. Answers
// that are part of the protocol (something is there, or is not, or is for another differ) are
// logged as debug, others as errors.
grpc::Status guarded(const Observer& observer, std::string_view call, std::string_view subject,
                     const std::function<void()>& body);

}  // namespace veneer
