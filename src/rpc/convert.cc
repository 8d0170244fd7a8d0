#include "rpc/convert.h"

#include <chrono>

#include "base/limits.h"

namespace veneer {

namespace {

// Each byte may be written as three in the trailer, and clients take 8 KiB of trailers together.
constexpr size_t kStatusBytes = 2048;
constexpr std::string_view kCut = " [...]";

snapshots_v1::Kind to_proto(Kind kind) {
  switch (kind) {
    case Kind::view:
      return snapshots_v1::VIEW;
    case Kind::active:
      return snapshots_v1::ACTIVE;
    case Kind::committed:
      return snapshots_v1::COMMITTED;
  }
  return snapshots_v1::UNKNOWN;
}

Kind kind_from_proto(snapshots_v1::Kind kind) {
  switch (kind) {
    case snapshots_v1::VIEW:
      return Kind::view;
    case snapshots_v1::ACTIVE:
      return Kind::active;
    case snapshots_v1::COMMITTED:
      return Kind::committed;
    default:
      fail(Code::invalid_argument, "no kind of snapshot has the number {}", static_cast<int>(kind));
  }
}

void to_proto(Time time, google::protobuf::Timestamp& out) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  out.set_seconds(seconds.time_since_epoch().count());
  out.set_nanos(static_cast<int32_t>((time - seconds).count()));
}

Time time_from_proto(const google::protobuf::Timestamp& time) {
  return Time(std::chrono::seconds(time.seconds()) + std::chrono::nanoseconds(time.nanos()));
}

}  // namespace

void to_proto(const std::vector<Mount>& mounts, ProtoMounts& out) {
  for (const Mount& mount : mounts) {
    containerd::types::Mount& added = *out.Add();
    added.set_type(mount.type);
    added.set_source(mount.source);
    added.mutable_options()->Add(mount.options.begin(), mount.options.end());
  }
}

std::vector<Mount> from_proto(const ProtoMounts& mounts) {
  std::vector<Mount> result;
  for (const containerd::types::Mount& mount : mounts)
    result.push_back({.type = mount.type(),
                      .source = mount.source(),
                      .options = {mount.options().begin(), mount.options().end()}});
  return result;
}

void to_proto(const SnapshotInfo& info, snapshots_v1::Info& out) {
  out.set_name(info.name);
  out.set_parent(info.parent);
  out.set_kind(to_proto(info.kind));
  to_proto(info.created, *out.mutable_created_at());
  to_proto(info.updated, *out.mutable_updated_at());
  out.mutable_labels()->insert(info.labels.begin(), info.labels.end());
}

SnapshotInfo from_proto(const snapshots_v1::Info& info) {
  return {.name = info.name(),
          .parent = info.parent(),
          .kind = kind_from_proto(info.kind()),
          .created = time_from_proto(info.created_at()),
          .updated = time_from_proto(info.updated_at()),
          .labels = from_proto(info.labels())};
}

Labels from_proto(const ProtoLabels& labels) {
  size_t size_bytes = 0;
  for (const auto& [key, value] : labels) size_bytes += key.size() + value.size();
  if (size_bytes > limits::kLabelsBytes)
    fail(Code::invalid_argument, "labels of {} bytes; {} are allowed", size_bytes,
         limits::kLabelsBytes);
  return {labels.begin(), labels.end()};
}

grpc::StatusCode to_status_code(Code code) {
  switch (code) {
    case Code::not_found:
      return grpc::StatusCode::NOT_FOUND;
    case Code::already_exists:
      return grpc::StatusCode::ALREADY_EXISTS;
    case Code::invalid_argument:
      return grpc::StatusCode::INVALID_ARGUMENT;
    case Code::failed_precondition:
      return grpc::StatusCode::FAILED_PRECONDITION;
    case Code::corrupt:
      return grpc::StatusCode::DATA_LOSS;
    case Code::resource_exhausted:
      return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case Code::unsupported:
      return grpc::StatusCode::UNIMPLEMENTED;
    case Code::unavailable:
      return grpc::StatusCode::UNAVAILABLE;
    case Code::io:
      return grpc::StatusCode::INTERNAL;
  }
  return grpc::StatusCode::UNKNOWN;
}

grpc::Status to_status(grpc::StatusCode code, std::string message) {
  if (message.size() > kStatusBytes) {
    size_t end = kStatusBytes - kCut.size();
    while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xc0U) == 0x80U) --end;
    message.replace(end, std::string::npos, kCut);
  }
  return {code, message};
}

}  // namespace veneer
