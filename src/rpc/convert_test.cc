#include "rpc/convert.h"

#include <gtest/gtest.h>

#include "base/limits.h"

namespace veneer {
namespace {

TEST(Convert, SnapshotsComeBack) {
  for (const Kind kind : {Kind::view, Kind::active, Kind::committed}) {
    const SnapshotInfo info{.name = "default/1/a key",
                            .parent = "default/2/sha256:ab",
                            .kind = kind,
                            .created = Time(std::chrono::nanoseconds(1'700'000'000'123'456'789)),
                            .updated = Time(std::chrono::nanoseconds(-1)),
                            .labels = {{"a", "1"}, {"b", ""}}};
    snapshots_v1::Info message;
    to_proto(info, message);
    EXPECT_EQ(message.created_at().nanos(), 123'456'789);
    EXPECT_EQ(message.updated_at().seconds(), -1);
    EXPECT_EQ(message.updated_at().nanos(), 999'999'999);
    const SnapshotInfo back = from_proto(message);
    EXPECT_EQ(back.name, info.name);
    EXPECT_EQ(back.parent, info.parent);
    EXPECT_EQ(back.kind, info.kind);
    EXPECT_EQ(back.created, info.created);
    EXPECT_EQ(back.updated, info.updated);
    EXPECT_EQ(back.labels, info.labels);
  }
  EXPECT_THROW(from_proto(snapshots_v1::Info()), Error);
}

// What is on the wire is what containerd's own programs read: numbers, not names.
TEST(Convert, TheWireIsThatOfContainerd) {
  SnapshotInfo info;
  info.name = "n";
  info.parent = "p";
  info.kind = Kind::committed;
  info.labels = {{"k", "v"}};
  snapshots_v1::Info message;
  to_proto(info, message);
  message.clear_created_at();
  message.clear_updated_at();
  EXPECT_EQ(message.SerializeAsString(), std::string("\x0a\x01n\x12\x01p\x18\x03\x32\x06\x0a\x01k"
                                                     "\x12\x01v"));
  snapshots_v1::PrepareSnapshotResponse answer;
  to_proto({{.type = "bind", .source = "/s", .options = {"ro", "rbind"}}},
           *answer.mutable_mounts());
  EXPECT_EQ(answer.SerializeAsString(), std::string("\x0a\x15\x0a\x04"
                                                    "bind\x12\x02/s\x22\x02ro\x22\x05rbind"));
  snapshots_v1::CommitSnapshotRequest commit;
  commit.set_name("n");
  commit.set_key("k");
  commit.set_parent("p");
  EXPECT_EQ(commit.SerializeAsString(), std::string("\x12\x01n\x1a\x01k\x2a\x01p"));
}

TEST(Convert, MountsComeBack) {
  const std::vector<Mount> mounts{
      {.type = "bind", .source = "/a b", .options = {"ro"}},
      {.type = "overlay", .source = "overlay", .options = {"upperdir=/x", "lowerdir=/y:/z"}}};
  ProtoMounts messages;
  to_proto(mounts, messages);
  EXPECT_EQ(from_proto(messages), mounts);
}

TEST(Convert, EachCodeHasItsStatus) {
  EXPECT_EQ(to_status_code(Code::not_found), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(to_status_code(Code::already_exists), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(to_status_code(Code::invalid_argument), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(to_status_code(Code::failed_precondition), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(to_status_code(Code::corrupt), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(to_status_code(Code::resource_exhausted), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(to_status_code(Code::unsupported), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(to_status_code(Code::unavailable), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(to_status_code(Code::io), grpc::StatusCode::INTERNAL);
}

TEST(Convert, LongMessagesAreCut) {
  using grpc::StatusCode;
  EXPECT_EQ(to_status(StatusCode::INTERNAL, std::string(2048, 'x')).error_message(),
            std::string(2048, 'x'));
  const std::string cut = to_status(StatusCode::INTERNAL, std::string(2049, 'x')).error_message();
  EXPECT_EQ(cut, std::string(2042, 'x') + " [...]");
  // Of two bytes each, the first at an odd place: the one at the cut goes as a whole.
  std::string text = "x";
  while (text.size() < 3000) text += "ö";
  const std::string kept = to_status(StatusCode::INTERNAL, text).error_message();
  EXPECT_EQ(kept, text.substr(0, 2041) + " [...]");
}

TEST(Convert, LabelsAreLimitedTogether) {
  ProtoLabels labels;
  for (int i = 0; i < 256; ++i) labels[fmt::format("{:04}", i)] = std::string(4092, 'v');
  EXPECT_EQ(from_proto(labels).size(), 256u);
  labels["x"] = "";
  EXPECT_THROW(from_proto(labels), Error);
}

}  // namespace
}  // namespace veneer
