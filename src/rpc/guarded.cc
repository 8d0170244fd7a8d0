#include "rpc/guarded.h"

#include <chrono>
#include <new>

#include "base/error.h"
#include "rpc/convert.h"

namespace veneer {

namespace {

Log::Level level_of(Code code) {
  switch (code) {
    case Code::not_found:
    case Code::already_exists:
    case Code::invalid_argument:
    case Code::failed_precondition:
    case Code::unsupported:
      return Log::Level::debug;
    default:
      return Log::Level::error;
  }
}

// gRPC's own words.
std::string_view name_of(grpc::StatusCode code) {
  constexpr std::string_view kNames[] = {"OK",
                                         "CANCELLED",
                                         "UNKNOWN",
                                         "INVALID_ARGUMENT",
                                         "DEADLINE_EXCEEDED",
                                         "NOT_FOUND",
                                         "ALREADY_EXISTS",
                                         "PERMISSION_DENIED",
                                         "RESOURCE_EXHAUSTED",
                                         "FAILED_PRECONDITION",
                                         "ABORTED",
                                         "OUT_OF_RANGE",
                                         "UNIMPLEMENTED",
                                         "INTERNAL",
                                         "UNAVAILABLE",
                                         "DATA_LOSS",
                                         "UNAUTHENTICATED"};
  const auto index = static_cast<size_t>(code);
  return index < std::size(kNames) ? kNames[index] : "UNKNOWN";
}

struct Outcome {
  grpc::StatusCode code = grpc::StatusCode::OK;
  std::string error = {};
  Log::Level level = Log::Level::debug;
};

Outcome run(const std::function<void()>& body) {
  const auto failed = [](Log::Level level, grpc::StatusCode code, std::string error) {
    return Outcome{.code = code, .error = std::move(error), .level = level};
  };
  try {
    body();
    return {};
  } catch (const Cancelled&) {
    return failed(Log::Level::debug, grpc::StatusCode::CANCELLED, "cancelled by the client");
  } catch (const Error& error) {
    return failed(level_of(error.code()), to_status_code(error.code()), error.message());
  } catch (const std::bad_alloc&) {
    return failed(Log::Level::error, grpc::StatusCode::RESOURCE_EXHAUSTED, "out of memory");
  } catch (const std::exception& error) {
    return failed(Log::Level::error, grpc::StatusCode::INTERNAL, error.what());
  }
}

}  // namespace

grpc::Status guarded(const Observer& observer, std::string_view call, std::string_view subject,
                     const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  Outcome outcome = run(body);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  const bool is_ok = outcome.code == grpc::StatusCode::OK;
  if (observer.log.takes(outcome.level)) {
    const LogField what{"call", std::string(call)};
    const LogField whom{"subject", std::string(subject)};
    const LogField time{"ms", fmt::format("{:.1f}", taken.count() * 1e3)};
    if (is_ok)
      observer.log.write(outcome.level, {what, whom, time});
    else
      observer.log.write(outcome.level, {what, whom, time, {"error", outcome.error}});
  }
  if (observer.metrics != nullptr)
    observer.metrics->add_call(call, name_of(outcome.code), taken.count());
  return is_ok ? grpc::Status::OK : to_status(outcome.code, std::move(outcome.error));
}

}  // namespace veneer
