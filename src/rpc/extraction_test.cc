#include "rpc/extraction.h"

#include <gtest/gtest.h>

namespace veneer {
namespace {

const std::vector<Mount> kBind{{.type = "bind", .source = "/s/1/fs", .options = {"rw", "rbind"}}};
const std::vector<Mount> kUpperOnly{
    {.type = "overlay", .source = "overlay", .options = {"upperdir=/s/1/fs"}}};
const Labels kRef{{"containerd.io/snapshot.ref", "sha256:t"}};
const Labels kSideBySide{{"containerd.io/snapshot.ref", "sha256:t"},
                         {"containerd.io/snapshot/parent-chain-id", "sha256:p"}};
constexpr std::string_view kKey = "default/41/extract-396062706-zx5f sha256:e294";

TEST(Extraction, WithoutTheLayersBelowWhiteoutsAreKept) {
  EXPECT_EQ(extraction_mounts("any", "", kSideBySide, kBind), kUpperOnly);
  EXPECT_EQ(extraction_mounts(kKey, "", kRef, kBind), kUpperOnly);
  EXPECT_EQ(extraction_mounts("extract-1-a sha256:e2", "", kRef, kBind), kUpperOnly);
}

TEST(Extraction, OtherMountsStayAsTheyAre) {
  EXPECT_EQ(extraction_mounts("default/1/container", "", kRef, kBind), kBind);
  EXPECT_EQ(extraction_mounts("default/1/not-extract-1", "", kRef, kBind), kBind);
  EXPECT_EQ(extraction_mounts(kKey, "", {}, kBind), kBind);
  EXPECT_EQ(extraction_mounts(kKey, "parent", kSideBySide, kBind), kBind);
  const std::vector<Mount> overlay{
      {.type = "overlay", .source = "overlay", .options = {"upperdir=/u", "lowerdir=/l"}}};
  EXPECT_EQ(extraction_mounts(kKey, "", kSideBySide, overlay), overlay);
}

// Has what it is given, and can only be walked.
class Listed final : public Snapshotter {
 public:
  explicit Listed(std::vector<SnapshotInfo> all) : all_(std::move(all)) {}
  SnapshotInfo stat(std::string_view) override { throw std::logic_error("stat"); }
  SnapshotInfo update(const SnapshotInfo&, const std::vector<std::string>&) override {
    throw std::logic_error("update");
  }
  Usage usage(std::string_view) override { throw std::logic_error("usage"); }
  std::vector<Mount> mounts(std::string_view) override { throw std::logic_error("mounts"); }
  std::vector<Mount> prepare(std::string_view, std::string_view, const Labels&) override {
    throw std::logic_error("prepare");
  }
  std::vector<Mount> view(std::string_view, std::string_view, const Labels&) override {
    throw std::logic_error("view");
  }
  void commit(std::string_view, std::string_view, const CommitOptions&) override {
    throw std::logic_error("commit");
  }
  void remove(std::string_view) override { throw std::logic_error("remove"); }
  void cleanup() override { throw std::logic_error("cleanup"); }
  void walk(const std::vector<std::string>& filters,
            const std::function<void(const SnapshotInfo&)>& visit) override {
    EXPECT_EQ(filters,
              std::vector<std::string>{"kind==committed,labels.\"containerd.io/snapshot.ref\""});
    for (const SnapshotInfo& info : all_) visit(info);
  }

 private:
  std::vector<SnapshotInfo> all_;
};

TEST(Extraction, WhatIsThereIsFoundByItsLabelAndParent) {
  const auto committed = [](std::string name, std::string parent, const Labels& labels) {
    SnapshotInfo info;
    info.name = std::move(name);
    info.parent = std::move(parent);
    info.kind = Kind::committed;
    info.labels = labels;
    return info;
  };
  Listed listed({committed("a", "p", kRef), committed("b", "", kRef),
                 committed("c", "p", {{"containerd.io/snapshot.ref", "sha256:u"}})});
  EXPECT_EQ(maybe_extracted(listed, "p", kRef), "a");
  EXPECT_EQ(maybe_extracted(listed, "", kRef), "b");
  EXPECT_EQ(maybe_extracted(listed, "q", kRef), std::nullopt);
  EXPECT_EQ(maybe_extracted(listed, "p", {{"containerd.io/snapshot.ref", "sha256:v"}}),
            std::nullopt);
  // Nothing is asked for, so nothing is looked for.
  EXPECT_EQ(maybe_extracted(listed, "p", {}), std::nullopt);
}

}  // namespace
}  // namespace veneer
