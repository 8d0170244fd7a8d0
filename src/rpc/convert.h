// Between the store's values and the messages of containerd's services.
#pragma once

#include <google/protobuf/map.h>
#include <grpcpp/support/status.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "rpc/proto/snapshots.pb.h"
#include "store/snapshotter.h"

namespace veneer {

namespace snapshots_v1 = containerd::services::snapshots::v1;
using ProtoMounts = google::protobuf::RepeatedPtrField<containerd::types::Mount>;
using ProtoLabels = google::protobuf::Map<std::string, std::string>;

void to_proto(const std::vector<Mount>& mounts, ProtoMounts& out);
void to_proto(const SnapshotInfo& info, snapshots_v1::Info& out);
std::vector<Mount> from_proto(const ProtoMounts& mounts);
// Of a kind that is not known: invalid_argument.
SnapshotInfo from_proto(const snapshots_v1::Info& info);
// invalid_argument if all of them together are more than a list of snapshots can hold.
Labels from_proto(const ProtoLabels& labels);

// The one place that gives the errors of the store their gRPC codes.
grpc::StatusCode to_status_code(Code code);
// The message is cut to what a trailer may hold, at the end of a UTF-8 character.
grpc::Status to_status(grpc::StatusCode code, std::string message);

}  // namespace veneer
