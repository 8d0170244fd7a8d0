// The differ: blobs of all media types, layers that are there already, what must not be applied,
// cancellation; and layers written, compressed and labelled.
#include "tests/suite/rpc_diff.h"
#include "base/failpoint.h"
#include "rpc/extraction.h"
#include "store/check.h"

namespace veneer::test {
namespace {

// --- applying ---

TEST_F(RpcDiff, AppliesAllMediaTypes) {
  const std::string tar = base_tar();
  const std::vector<std::pair<std::string, Compression>> kinds = {
      {kGzip, Compression::gzip},
      {kOciZstd, Compression::zstd},
      {kTar, Compression::none},
      {kDockerTar, Compression::none},
      {kDockerTar, Compression::gzip},  // it lies
      {std::string(kDockerTar) + ".gzip", Compression::gzip},
      {"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Compression::gzip}};
  std::optional<std::map<std::string, std::string>> first;
  for (const auto& [media_type, compression] : kinds) {
    SCOPED_TRACE(media_type);
    const int before = containerd_.reads();
    const DiffAnswer answer = unpack(add_blob(compress(tar, compression), media_type), "base", "");
    ASSERT_EQ(answer.code, StatusCode::OK) << answer.message;
    EXPECT_EQ(answer.media_type, kTar);
    EXPECT_EQ(answer.digest, Sha256::of(tar).str());
    EXPECT_EQ(answer.size, tar.size());
    EXPECT_EQ(containerd_.reads(), before + 1);
    const auto seen = tree("base");
    EXPECT_TRUE(seen.contains("d/one"));
    if (!first) first = seen;
    EXPECT_EQ(seen, *first);
    snapshots_->remove("base");
    EXPECT_EQ(count_layers(), 0u);
  }
}

TEST_F(RpcDiff, LayersLieOverOneAnother) {
  ASSERT_EQ(unpack(add_blob(compress(base_tar(), Compression::gzip), kGzip), "base", "").code,
            StatusCode::OK);
  ASSERT_EQ(unpack(add_blob(compress(top_tar(), Compression::zstd), kOciZstd), "top", "base").code,
            StatusCode::OK);
  EXPECT_EQ(names("base"), "d d/one f");
  EXPECT_EQ(names("top"), "d f g");
  const ClientMount container = mount(snapshots_->prepare("container", "top", {}));
  EXPECT_EQ(read_file_at(container.dir(), "f", 10), "top");
  EXPECT_EQ(stat_at(container.dir(), "g").st_uid, 7u);
  EXPECT_EQ(count_staging(), 0u);
}

TEST_F(RpcDiff, WhatAnApplyMadeIsCommittedWithoutASync) {
  LayerTar tar;
  for (int number = 0; number < 100; ++number) tar.file(fmt::format("file-{}", number), "data");
  const Blob blob = add_blob(tar.bytes(), kTar);
  for (const std::string name : {"fsync", "fdatasync", "syncfs"}) {
    const std::string key = "extract " + name;
    const auto mounts = snapshots_->prepare(key, "", {});
    ASSERT_EQ(apply(blob, mounts).code, StatusCode::OK);
    EXPECT_EQ(snapshots_->stat(key).kind, Kind::active);
    // Nothing of the snapshot's own is left that could be synced.
    EXPECT_TRUE(list_dir(store_.layout().snapshots()).empty());
    failpoint::arm({.at = UINT64_MAX, .error_number = 0, .name = name});
    snapshots_->commit("layer " + name, key, {});
    EXPECT_EQ(failpoint::disarm(), 0u) << name;
    EXPECT_GT(snapshots_->usage("layer " + name).size_bytes, 0u);
  }
}

TEST_F(RpcDiff, AKnownLayerIsAttachedUnread) {
  const std::string tar = base_tar();
  const std::string diff_id = Sha256::of(tar).str();
  ASSERT_EQ(unpack(add_blob(compress(tar, Compression::gzip), kGzip), "one", "").code,
            StatusCode::OK);
  const int reads = containerd_.reads();
  Blob by_label = add_blob("never read", kOciZstd, {{kLabel, diff_id}});
  Blob by_annotation = add_blob("never read either", kGzip);
  by_annotation.annotations[kLabel] = diff_id;
  Blob plain = add_blob(tar, kDockerTar);
  int number = 0;
  for (const Blob& blob : {by_label, by_annotation, plain}) {
    const DiffAnswer answer = unpack(blob, fmt::format("known-{}", ++number), "");
    ASSERT_EQ(answer.code, StatusCode::OK) << answer.message;
    EXPECT_EQ(answer.digest, diff_id);
    EXPECT_EQ(answer.size, tar.size());
    EXPECT_EQ(tree(fmt::format("known-{}", number)), tree("one"));
  }
  // containerd 2.4 says it with the snapshot.
  const auto mounts =
      snapshots_->prepare("extract labelled", "", {{std::string(kDiffIdLabel), diff_id}});
  EXPECT_EQ(apply(add_blob("nor this", kGzip), mounts).digest, diff_id);
  EXPECT_EQ(containerd_.reads(), reads);
  EXPECT_EQ(count_layers(), 1u);
}

// Nor is one whose blob was read before, of which nobody says anything any more.
TEST_F(RpcDiff, AKnownBlobIsAttachedUnread) {
  const Blob blob = add_blob(compress(base_tar(), Compression::gzip), kGzip);
  const Blob other = add_blob(compress(base_tar(), Compression::zstd), kOciZstd);
  const std::string diff_id = Sha256::of(base_tar()).str();
  ASSERT_EQ(unpack(blob, "one", "").digest, diff_id);
  int reads = containerd_.reads();
  EXPECT_EQ(unpack(blob, "two", "").digest, diff_id);
  EXPECT_EQ(containerd_.reads(), reads);
  EXPECT_EQ(tree("two"), tree("one"));
  EXPECT_EQ(unpack(other, "three", "").digest, diff_id);
  EXPECT_GT(containerd_.reads(), reads);
  reads = containerd_.reads();
  EXPECT_EQ(unpack(other, "four", "").digest, diff_id);
  EXPECT_EQ(containerd_.reads(), reads);
  // It is forgotten with its layer.
  for (const char* const name : {"one", "two", "three", "four"}) snapshots_->remove(name);
  EXPECT_EQ(store_.meta().read().maybe_diff_id(blob.digest), std::nullopt);
  EXPECT_EQ(unpack(blob, "one", "").digest, diff_id);
  EXPECT_GT(containerd_.reads(), reads);
}

TEST_F(RpcDiff, AWrongHintIsNoHarm) {
  Blob blob = add_blob(compress(base_tar(), Compression::gzip), kGzip,
                       {{kLabel, Sha256::of("of nothing here").str()}});
  blob.annotations[kLabel] = "nonsense";
  const DiffAnswer answer = unpack(blob, "base", "");
  EXPECT_EQ(answer.code, StatusCode::OK) << answer.message;
  EXPECT_EQ(answer.digest, Sha256::of(base_tar()).str());
}

TEST_F(RpcDiff, TheNamespaceGoesOn) {
  const Blob blob = add_blob(compress(base_tar(), Compression::gzip), kGzip);
  const auto mounts = snapshots_->prepare("extract", "", {});
  EXPECT_EQ(apply(blob, mounts, "other").code, StatusCode::NOT_FOUND);
  EXPECT_EQ(apply(blob, mounts, kNamespace).code, StatusCode::OK);
}

TEST_F(RpcDiff, TheSameCallAgainHasTheSameAnswer) {
  const std::string tar = base_tar();
  const Blob blob = add_blob(tar, kTar);
  const auto mounts = snapshots_->prepare("extract", "", {});
  const DiffAnswer first = apply(blob, mounts);
  const DiffAnswer second = apply(blob, mounts);
  EXPECT_EQ(second.code, StatusCode::OK) << second.message;
  EXPECT_EQ(second.digest, first.digest);
  EXPECT_EQ(second.size, tar.size());
  EXPECT_EQ(apply(add_blob(top_tar(), kTar), mounts).code, StatusCode::FAILED_PRECONDITION);
}

TEST_F(RpcDiff, ReadsTheFilesOfAContentDirectory) {
  const std::string tar = base_tar();
  const std::string bytes = compress(tar, Compression::gzip);
  const Blob blob{.digest = Sha256::of(bytes), .media_type = kGzip, .size = bytes.size()};
  const UniqueFd blobs = open_or_make_root(path("content/blobs/sha256"), 0700).fd;
  write_file_at(blobs.get(), Layout::digest_name(blob.digest), bytes, 0600);
  serve({.space = std::string(kSpace), .content_dir = path("content")});
  EXPECT_EQ(unpack(blob, "base", "").digest, Sha256::of(tar).str());
  EXPECT_EQ(containerd_.reads(), 0);
  // What is not there is asked for, where somebody can be asked.
  const Blob other = add_blob(compress(top_tar(), Compression::gzip), kGzip);
  const auto mounts = snapshots_->prepare("extract", "base", {});
  EXPECT_EQ(apply(other, mounts).code, StatusCode::NOT_FOUND);
  serve({.space = std::string(kSpace),
         .containerd = "unix://" + path("ctd.sock"),
         .content_dir = path("content")});
  EXPECT_EQ(apply(other, mounts).code, StatusCode::OK);
  EXPECT_EQ(containerd_.reads(), 1);
}

// Layers of one image extracted side by side: prepared over nothing, answered with an upper
// directory alone, and put over one another when they are committed.
TEST_F(RpcDiff, ALayerExtractedAloneKeepsItsWhiteouts) {
  const Labels labels{{std::string(kSnapshotRef), "sha256:top"},
                      {std::string(kParentChainId), "sha256:base"}};
  const auto mounts =
      extraction_mounts("extract-1", "", labels, snapshots_->prepare("extract-1", "", labels));
  ASSERT_EQ(mounts.size(), 1u);
  ASSERT_EQ(mounts[0].type, "overlay");
  const DiffAnswer answer = apply(add_blob(compress(top_tar(), Compression::gzip), kGzip), mounts);
  ASSERT_EQ(answer.code, StatusCode::OK) << answer.message;
  ASSERT_EQ(unpack(add_blob(compress(base_tar(), Compression::gzip), kGzip), "base", "").code,
            StatusCode::OK);
  snapshots_->commit("top", "extract-1", {.labels = labels, .parent = "base"});
  EXPECT_EQ(names("top"), "d f g");
  // It shows what one shows that was made there.
  ASSERT_EQ(unpack(add_blob(top_tar(), kTar), "in turn", "base").code, StatusCode::OK);
  EXPECT_EQ(tree("top"), tree("in turn"));
  EXPECT_EQ(snapshots_->usage("top"), snapshots_->usage("in turn"));
}

// What an archive does not say of its directories, or where they lead, the parent says, and that
// comes only with the commit.
TEST_F(RpcDiff, ALayerExtractedAloneTakesAfterItsParent) {
  LayerTar base;
  base.dir("d", {.mode = 0710, .uid = 5, .gid = 6}).dir("usr/lib").symlink("lib", "usr/lib");
  LayerTar top;
  top.file("d/new", "1").file("lib/so", "2").whiteout("nothing");
  const Blob blob = add_blob(compress(top.bytes(), Compression::gzip), kGzip);
  const auto mounts = snapshots_->prepare("extract-1", "", {});
  ASSERT_EQ(apply(blob, mounts).code, StatusCode::OK);
  ASSERT_EQ(unpack(add_blob(base.bytes(), kTar), "base", "").code, StatusCode::OK);
  snapshots_->commit("top", "extract-1", {.labels = {}, .parent = "base"});
  EXPECT_EQ(names("top"), "d d/new lib usr usr/lib usr/lib/so");
  ASSERT_EQ(unpack(blob, "in turn", "base").code, StatusCode::OK);
  EXPECT_EQ(tree("top"), tree("in turn"));
  EXPECT_EQ(snapshots_->usage("top"), snapshots_->usage("in turn"));
  EXPECT_EQ(count_layers(), 2u);
  // Alone it is what it is: a directory that nobody knows.
  const auto alone = snapshots_->prepare("extract-2", "", {});
  ASSERT_EQ(apply(blob, alone).code, StatusCode::OK);
  snapshots_->commit("alone", "extract-2", {});
  EXPECT_EQ(names("alone"), "d d/new lib lib/so");
}

// Hard links to files that only the parent has: they are made when the parent comes, by every way
// that a layer extracted alone comes in. The labels are those of containerd 2.2, then 2.3,
// then 2.4.
TEST_F(RpcDiff, ALayerExtractedAloneMayLinkIntoItsParent) {
  LayerTar top;
  top.hard_link("linked", "f").dir("e").hard_link("e/again", "d/one").file("own", "1");
  const std::string tar = top.bytes();
  const Blob blob = add_blob(compress(tar, Compression::gzip), kGzip);
  const std::string diff_id = Sha256::of(tar).str();
  Labels labels{{std::string(kSnapshotRef), "sha256:top"}};
  ASSERT_EQ(unpack(add_blob(base_tar(), kTar), "base", "").code, StatusCode::OK);
  const std::string extra[] = {"", std::string(kParentChainId), std::string(kDiffIdLabel)};
  for (size_t number = 0; number < std::size(extra); ++number) {
    SCOPED_TRACE(number);
    if (!extra[number].empty()) labels[extra[number]] = diff_id;
    const std::string key = fmt::format("default/{}/extract-1 sha256:top", number);
    const std::string name = fmt::format("top-{}", number);
    const auto mounts = extraction_mounts(key, "", labels, snapshots_->prepare(key, "", labels));
    const DiffAnswer answer = apply(blob, mounts);
    ASSERT_EQ(answer.code, StatusCode::OK) << answer.message;
    EXPECT_EQ(answer.digest, diff_id);
    EXPECT_EQ(apply(blob, mounts).digest, diff_id);
    EXPECT_TRUE(check_store(store_, {}).damages.empty());
    snapshots_->commit(name, key, {.labels = labels, .parent = "base"});
    EXPECT_EQ(names(name), "d d/one e e/again f linked own");
    const ClientMount mounted = mount(snapshots_->view(name + " view", name, {}));
    EXPECT_EQ(read_file_at(mounted.dir(), "linked", 10), "base");
    EXPECT_TRUE(check_store(store_, {}).damages.empty());
  }
  // Staged without being asked for: the store has the layer.
  const std::string key = "default/9/extract-1 sha256:top";
  (void)snapshots_->prepare(key, "", labels);
  attach_known_layer(store_, kSpace, key);
  EXPECT_NE(snapshots_->mounts(key)[0].type, "bind");
  snapshots_->commit("top-9", key, {.labels = labels, .parent = "base"});
  ASSERT_EQ(unpack(blob, "in turn", "base").code, StatusCode::OK);
  for (const char* const name : {"top-0", "top-2", "top-9"}) {
    EXPECT_EQ(tree(name), tree("in turn")) << name;
    EXPECT_EQ(snapshots_->usage(name), snapshots_->usage("in turn")) << name;
  }
  EXPECT_EQ(count_layers(), 2u);
  EXPECT_EQ(count_staging(), 0u);
}

// A link that goes nowhere is found when it is sure that there is nothing: at the commit if the
// layer may have a parent, else at once. The snapshot can be removed then.
TEST_F(RpcDiff, ALinkThatGoesNowhereIsRefused) {
  LayerTar top;
  top.hard_link("linked", "missing");
  const Blob blob = add_blob(top.bytes(), kTar);
  const auto expect_refused = [&](const std::string& message) {
    EXPECT_TRUE(message.contains("a hard link to \"missing\"")) << message;
  };
  const DiffAnswer at_once = apply(blob, snapshots_->prepare("extract-1", "", {}));
  EXPECT_EQ(at_once.code, StatusCode::DATA_LOSS);
  expect_refused(at_once.message);
  snapshots_->remove("extract-1");
  ASSERT_EQ(unpack(add_blob(base_tar(), kTar), "base", "").code, StatusCode::OK);
  for (const std::optional<std::string>& parent :
       {std::optional<std::string>(), std::optional<std::string>("base")}) {
    const Labels labels{{std::string(kSnapshotRef), "sha256:top"}};
    const auto mounts =
        extraction_mounts("extract-2", "", labels, snapshots_->prepare("extract-2", "", labels));
    ASSERT_EQ(apply(blob, mounts).code, StatusCode::OK);
    try {
      snapshots_->commit("top", "extract-2", {.labels = labels, .parent = parent});
      ADD_FAILURE() << "it is committed";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::corrupt);
      expect_refused(error.message());
    }
    snapshots_->remove("extract-2");
    EXPECT_EQ(count_layers(), 1u);
  }
}

// --- what is not applied ---

TEST_F(RpcDiff, LeavesToOthersWhatItCannotDo) {
  const auto mounts = snapshots_->prepare("extract", "", {});
  Blob blob = add_blob(base_tar(), kTar);
  for (const char* const media_type :
       {"application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "", "application/json"}) {
    blob.media_type = media_type;
    EXPECT_EQ(apply(blob, mounts).code, StatusCode::UNIMPLEMENTED) << media_type;
  }
  blob.media_type = kTar;
  const std::string own = store_.layout().path() + "/snapshots/1/fs";
  const auto bind = [](const std::string& source) {
    return Mount{.type = "bind", .source = source, .options = {"rw", "rbind"}};
  };
  const auto upper = [](const std::string& directory) {
    return Mount{.type = "overlay", .source = "overlay", .options = {"upperdir=" + directory}};
  };
  ASSERT_EQ(mounts, std::vector{bind(own)});
  const std::vector<std::vector<Mount>> others = {
      {},
      {mounts[0], mounts[0]},
      {bind("/var/lib/other/snapshots/1/fs")},
      {bind(own + "/")},
      {bind(own + "/../fs")},
      {bind(store_.layout().path() + "/snapshots/1/work")},
      {bind(store_.layout().path() + "/snapshots/01/fs")},
      {bind(store_.layout().path() + "/snapshots/+1/fs")},
      {bind(store_.layout().path() + "/snapshots/-1/fs")},
      {bind(store_.layout().path() + "/snapshots/2/fs")},
      {bind(store_.layout().path() + "/snapshots/99999999999999999999/fs")},
      {bind(store_.layout().path() + "/snapshots//fs")},
      {bind("")},
      {upper(own + "x")},
      {upper("")},
      {upper(std::string(1 << 20, '/'))},
      {Mount{.type = "erofs", .source = own, .options = {}}},
      {Mount{.type = "overlay", .source = "overlay", .options = {"lowerdir=/a:/b"}}},
      {Mount{.type = "overlay", .source = "overlay", .options = {"lowerdir="}}},
  };
  for (const auto& foreign : others)
    EXPECT_EQ(apply(blob, foreign).code, StatusCode::UNIMPLEMENTED) << others.size();
  auto on_target = apply_request(blob, mounts);
  on_target.mutable_mounts(0)->set_target("etc");
  EXPECT_EQ(differ_->apply(on_target, {{"containerd-namespace", kNamespace}}).code,
            StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(containerd_.reads(), 0);
  EXPECT_EQ(apply(blob, {upper(own)}).code, StatusCode::OK);
}

TEST_F(RpcDiff, LeavesToOthersWhatWasWrittenTo) {
  const auto mounts = start("extract", "");
  EXPECT_EQ(apply(add_blob(base_tar(), kTar), mounts).code, StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(names_of(mount(mounts).dir()), "mine");
}

// A container whose files are restored, over an image, goes on with them: nothing of it may be
// staged, which is for reading alone.
TEST_F(RpcDiff, LeavesToOthersWhatIsForMoreThanALayer) {
  ASSERT_EQ(unpack(add_blob(base_tar(), kTar), "base", "").code, StatusCode::OK);
  const Blob blob = add_blob(top_tar(), kTar);
  for (const char* const key : {"n/7/box", "n/7/not extract", "n/7/a/extract-1"}) {
    const auto mounts = snapshots_->prepare(key, "base", {});
    EXPECT_EQ(apply(blob, mounts).code, StatusCode::UNIMPLEMENTED) << key;
    EXPECT_EQ(snapshots_->mounts(key), mounts) << key;
    const ClientMount mounted = mount(mounts);
    write_file_at(mounted.dir(), RelPath::parse("mine"), "written", 0640);
    EXPECT_EQ(names_of(mounted.dir()), "d d/one f mine") << key;
  }
  for (const char* const key : {"n/7/extract-1 sha256:00", "n/8/extract-1-docker.io/library/a:b"})
    EXPECT_EQ(apply(blob, snapshots_->prepare(key, "base", {})).code, StatusCode::OK) << key;
}

TEST_F(RpcDiff, SnapshotsOfAnotherSpaceAreNotFound) {
  const auto mounts = open_snapshotter(store_, "driver")->prepare("image", "", {});
  EXPECT_EQ(apply(add_blob(base_tar(), kTar), mounts).code, StatusCode::UNIMPLEMENTED);
}

TEST_F(RpcDiff, OnlyActiveSnapshotsAreFilled) {
  const Blob blob = add_blob(base_tar(), kTar);
  const auto view = snapshots_->view("view", "", {});
  EXPECT_EQ(apply(blob, view).code, StatusCode::FAILED_PRECONDITION);
  const auto mounts = snapshots_->prepare("extract", "", {});
  snapshots_->commit("committed", "extract", {});
  EXPECT_EQ(apply(blob, mounts).code, StatusCode::FAILED_PRECONDITION);
}

TEST_F(RpcDiff, ADamagedBlobChangesNothing) {
  const auto mounts = snapshots_->prepare("extract", "", {});
  const std::string bytes = compress(base_tar(), Compression::gzip);
  const Blob good = add_blob(bytes, kGzip);
  Blob wrong_size = good;
  wrong_size.size += 1;
  EXPECT_EQ(apply(wrong_size, mounts).code, StatusCode::DATA_LOSS);
  wrong_size.size -= 2;
  EXPECT_EQ(apply(wrong_size, mounts).code, StatusCode::DATA_LOSS);
  // Another layer under this name: it is whole, but not what was asked for.
  containerd_.replace(kNamespace, good.digest, compress(top_tar(), Compression::gzip));
  Blob any_size = good;
  any_size.size = 0;
  EXPECT_EQ(apply(any_size, mounts).code, StatusCode::DATA_LOSS);
  containerd_.replace(kNamespace, good.digest, bytes.substr(0, bytes.size() / 2));
  EXPECT_EQ(apply(any_size, mounts).code, StatusCode::DATA_LOSS);
  Blob no_tar = add_blob("this is no tar, and has no end either", kTar);
  EXPECT_EQ(apply(no_tar, mounts).code, StatusCode::DATA_LOSS);
  EXPECT_EQ(count_layers(), 0u);
  EXPECT_EQ(count_staging(), 0u);
  containerd_.replace(kNamespace, good.digest, bytes);
  EXPECT_EQ(apply(good, mounts).code, StatusCode::OK);
}

TEST_F(RpcDiff, AbsurdDescriptorsAreRefused) {
  const auto mounts = snapshots_->prepare("extract", "", {});
  auto request = apply_request(add_blob(base_tar(), kTar), mounts);
  const auto code = [&] {
    return differ_->apply(request, {{"containerd-namespace", kNamespace}}).code;
  };
  request.mutable_diff()->set_size(-1);
  EXPECT_EQ(code(), StatusCode::INVALID_ARGUMENT);
  request.mutable_diff()->set_size(0);
  request.mutable_diff()->set_digest("sha256:../../../etc/passwd");
  EXPECT_EQ(code(), StatusCode::INVALID_ARGUMENT);
  request.mutable_diff()->set_digest("");
  EXPECT_EQ(code(), StatusCode::INVALID_ARGUMENT);
  request.clear_diff();
  EXPECT_NE(code(), StatusCode::OK);
}

TEST_F(RpcDiff, ACancelledApplyLeavesASnapshotToBeRemoved) {
  const std::string tar = large_tar();
  const Blob blob = add_blob(compress(tar, Compression::gzip), kGzip);
  const auto mounts = snapshots_->prepare("extract", "", {});
  grpc::ClientContext context;
  auto answer = apply_held(blob, mounts, context);
  context.TryCancel();
  EXPECT_EQ(answer.get().code, StatusCode::CANCELLED);
  snapshots_->remove("extract");
  server_->drain(std::chrono::seconds(10));  // the call itself has come to its end, too
  EXPECT_TRUE(containerd_.wait_until_released());
  EXPECT_EQ(count_layers(), 0u);
  EXPECT_EQ(count_staging(), 0u);
}

TEST_F(RpcDiff, ASnapshotCanBeRemovedUnderAnApply) {
  const Blob blob = add_blob(compress(large_tar(), Compression::gzip), kGzip);
  const auto mounts = snapshots_->prepare("extract", "", {});
  grpc::ClientContext context;
  auto answer = apply_held(blob, mounts, context);
  snapshots_->remove("extract");
  EXPECT_THROW((void)snapshots_->stat("extract"), Error);
  context.TryCancel();
  EXPECT_NE(answer.get().code, StatusCode::OK);
}

TEST_F(RpcDiff, AnApplyThatWaitsForItsBlobIsInNobodysWay) {
  const Blob known = add_blob(compress(base_tar(), Compression::gzip), kGzip,
                              {{kLabel, Sha256::of(base_tar()).str()}});
  ASSERT_EQ(unpack(known, "base", "").code, StatusCode::OK);
  const Blob blob = add_blob(compress(large_tar(), Compression::gzip), kGzip);
  const auto mounts = snapshots_->prepare("extract", "", {});
  grpc::ClientContext context;
  auto answer = apply_held(blob, mounts, context);
  EXPECT_EQ(unpack(known, "again", "").code, StatusCode::OK);
  (void)start("container", "again");
  snapshots_->commit("changed", "container", {});
  snapshots_->remove("changed");
  snapshots_->cleanup();
  EXPECT_NE(answer.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  context.TryCancel();
  EXPECT_EQ(answer.get().code, StatusCode::CANCELLED);
}

TEST_F(RpcDiff, AnApplyThatFailsAnywhereCanBeRemovedOrMadeAgain) {
  const Blob blob = add_blob(compress(base_tar(), Compression::gzip), kGzip);
  uint64_t at = 1;
  for (;; ++at) {
    SCOPED_TRACE(at);
    ASSERT_LT(at, 200u);
    const auto mounts = snapshots_->prepare("extract", "", {});
    failpoint::arm({.at = at, .error_number = EIO});
    const DiffAnswer answer = apply(blob, mounts);
    const bool is_through = failpoint::disarm() < at;
    if (at % 2 == 0) {
      EXPECT_EQ(apply(blob, mounts).code, StatusCode::OK);
      snapshots_->commit("layer", "extract", {});
      EXPECT_EQ(names("layer"), "d d/one f");
      snapshots_->remove("layer");
      EXPECT_EQ(count_layers(), 0u);
    } else {
      snapshots_->remove("extract");
    }
    empty_trash(store_.layout());
    EXPECT_EQ(count_staging(), 0u);
    EXPECT_TRUE(list_dir(store_.layout().snapshots()).empty());
    if (is_through) {
      EXPECT_EQ(answer.code, StatusCode::OK) << answer.message;
      break;
    }
  }
  EXPECT_GT(at, 10u);
}

TEST_F(RpcDiff, TwoNamespacesUnpackOneLayerAtOnce) {
  const std::string tar = large_tar();
  const Blob blob = add_blob(compress(tar, Compression::gzip), kGzip);
  std::vector<std::future<DiffAnswer>> answers;
  for (int number = 0; number < 4; ++number)
    answers.push_back(std::async(std::launch::async, [&, number] {
      return unpack(blob, fmt::format("layer-{}", number), "");
    }));
  for (auto& answer : answers) EXPECT_EQ(answer.get().digest, Sha256::of(tar).str());
  EXPECT_EQ(count_layers(), 1u);
  EXPECT_EQ(count_staging(), 0u);
}

TEST_F(RpcDiff, WithoutContainerdACallFailsAndTheNextOneWorks) {
  serve({.space = std::string(kSpace), .containerd = path("late.sock")});
  const Blob blob = add_blob(base_tar(), kTar);
  const auto mounts = snapshots_->prepare("extract", "", {});
  EXPECT_EQ(apply(blob, mounts).code, StatusCode::UNAVAILABLE);
  FakeContainerd late(path("late.sock"));
  (void)late.add(kNamespace, base_tar());
  DiffAnswer answer;
  for (int attempt = 0; attempt < 100; ++attempt) {
    answer = apply(blob, mounts);
    if (answer.code != StatusCode::UNAVAILABLE) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(answer.code, StatusCode::OK) << answer.message;
}

// --- writing ---

TEST_F(RpcDiff, WritesWhatAContainerChanged) {
  ASSERT_EQ(unpack(add_blob(base_tar(), kTar), "base", "").code, StatusCode::OK);
  const auto right = start("container", "base");
  const auto left = snapshots_->view("parent", "base", {});
  for (const auto& [asked, expected, compression] :
       std::vector<std::tuple<std::string, std::string, Compression>>{
           {"", kGzip, Compression::gzip},
           {kGzip, kGzip, Compression::gzip},
           {kOciZstd, kOciZstd, Compression::zstd},
           {kTar, kTar, Compression::none}}) {
    SCOPED_TRACE(asked);
    auto request = diff_request(left, right, asked);
    (*request.mutable_labels())["of the client"] = "kept";
    const DiffAnswer answer = diff(request);
    ASSERT_EQ(answer.code, StatusCode::OK) << answer.message;
    EXPECT_EQ(answer.media_type, expected);
    const FakeBlob blob = containerd_.blobs(kNamespace).at(answer.digest);
    EXPECT_EQ(blob.bytes.size(), answer.size);
    EXPECT_EQ(sniff_compression(std::as_bytes(std::span(blob.bytes))), compression);
    const std::string tar = decompress(blob.bytes);
    EXPECT_EQ(blob.labels.at(kLabel), Sha256::of(tar).str());
    EXPECT_EQ(blob.labels.at("of the client"), "kept");
    EXPECT_TRUE(tar.contains("mine"));
    EXPECT_FALSE(tar.contains("base"));  // what lies below
  }
  EXPECT_TRUE(containerd_.aborted().size() <= 1) << "but for what was there already";
}

TEST_F(RpcDiff, WhatItWroteCanBeApplied) {
  ASSERT_EQ(unpack(add_blob(base_tar(), kTar), "base", "").code, StatusCode::OK);
  const auto right = start("container", "base");
  const DiffAnswer written =
      diff(diff_request(snapshots_->view("parent", "base", {}), right, kGzip));
  ASSERT_EQ(written.code, StatusCode::OK) << written.message;
  const Blob blob{.digest = Digest::parse(written.digest),
                  .media_type = written.media_type,
                  .size = written.size};
  ASSERT_EQ(unpack(blob, "image", "base").code, StatusCode::OK);
  EXPECT_EQ(tree("image", {.times = false}), describe_tree(mount(right).dir(), {.times = false}));
}

TEST_F(RpcDiff, TheRefAndTheLeaseAreThoseOfTheClient) {
  const auto right = start("container", "");
  auto request = diff_request(snapshots_->view("nothing", "", {}), right, kGzip);
  request.set_ref("a ref");
  const DiffAnswer leased = diff(request, {{"containerd-lease", "a lease"}});
  ASSERT_EQ(leased.code, StatusCode::OK) << leased.message;
  EXPECT_TRUE(containerd_.written().contains("a ref"));
  EXPECT_EQ(containerd_.blobs(kNamespace).at(leased.digest).lease, "a lease");
  EXPECT_TRUE(containerd_.leases().empty());
  // Without one it gets one that ends by itself.
  request.set_media_type(kTar);
  const DiffAnswer own = diff(request);
  ASSERT_EQ(own.code, StatusCode::OK) << own.message;
  const auto leases = containerd_.leases();
  ASSERT_EQ(leases.size(), 1u);
  EXPECT_EQ(containerd_.blobs(kNamespace).at(own.digest).lease, leases.begin()->first);
  EXPECT_TRUE(leases.begin()->second.contains("containerd.io/gc.expire"));
}

TEST_F(RpcDiff, WhatIsThereAlreadyIsLabelled) {
  const auto right = start("container", "");
  const auto request = diff_request(snapshots_->view("nothing", "", {}), right, kGzip);
  const DiffAnswer first = diff(request);
  ASSERT_EQ(first.code, StatusCode::OK) << first.message;
  const FakeBlob blob = containerd_.blobs(kNamespace).at(first.digest);
  (void)containerd_.add(kNamespace, blob.bytes, {{"older", "label"}});
  const DiffAnswer second = diff(request);
  ASSERT_EQ(second.code, StatusCode::OK) << second.message;
  EXPECT_EQ(second.digest, first.digest);  // reproducible
  EXPECT_EQ(second.size, first.size);
  const Labels labels = containerd_.blobs(kNamespace).at(first.digest).labels;
  EXPECT_EQ(labels.at(kLabel), blob.labels.at(kLabel));
  EXPECT_EQ(labels.at("older"), "label");
}

TEST_F(RpcDiff, TimesAreClampedToTheEpoch) {
  std::vector<std::string> digests;
  for (const char* const key : {"one", "two"}) {
    const auto right = snapshots_->prepare(key, "", {});
    {
      const ClientMount mounted = mount(right);
      write_file_at(mounted.dir(), "file", "data", 0644);
      const timespec time{.tv_sec = 1'600'000'000 + static_cast<time_t>(digests.size()),
                          .tv_nsec = 5};
      set_times_at(mounted.dir(), "file", time, time);
    }
    auto request =
        diff_request(snapshots_->view(fmt::format("nothing-{}", key), "", {}), right, kTar);
    request.mutable_source_date_epoch()->set_seconds(1'500'000'000);
    const DiffAnswer answer = diff(request);
    ASSERT_EQ(answer.code, StatusCode::OK) << answer.message;
    digests.push_back(answer.digest);
    request.clear_source_date_epoch();
    EXPECT_NE(diff(request).digest, answer.digest);
  }
  EXPECT_EQ(digests[0], digests[1]);
}

TEST_F(RpcDiff, ACommittedLayerIsWrittenAsItCame) {
  ASSERT_EQ(unpack(add_blob(base_tar(), kTar), "base", "").code, StatusCode::OK);
  ASSERT_EQ(unpack(add_blob(top_tar(), kTar), "top", "base").code, StatusCode::OK);
  // Under other names too.
  ASSERT_EQ(unpack(add_blob(base_tar(), kTar), "base again", "").code, StatusCode::OK);
  const auto base = snapshots_->view("view of base", "base again", {});
  const auto top = snapshots_->view("view of top", "top", {});
  const auto nothing = snapshots_->view("nothing", "", {});
  EXPECT_EQ(diff(diff_request(base, top, kTar)).digest, Sha256::of(top_tar()).str());
  EXPECT_EQ(diff(diff_request(nothing, base, kTar)).digest, Sha256::of(base_tar()).str());
  // Two layers as one.
  const DiffAnswer both = diff(diff_request(nothing, top, kTar));
  ASSERT_EQ(both.code, StatusCode::OK) << both.message;
  const Blob blob{
      .digest = Digest::parse(both.digest), .media_type = both.media_type, .size = both.size};
  ASSERT_EQ(unpack(blob, "flat", "").code, StatusCode::OK);
  EXPECT_EQ(names("flat"), "d f g");
}

TEST_F(RpcDiff, DirectoriesAreWrittenAsWell) {
  (void)start("container", "");
  snapshots_->commit("one", "container", {});
  const auto right = start("over it", "one", "another");
  const auto left = snapshots_->view("view", "one", {});
  EXPECT_EQ(left[0].type, "bind");
  const DiffAnswer answer = diff(diff_request(left, right, kTar));
  EXPECT_EQ(answer.code, StatusCode::OK) << answer.message;
  EXPECT_EQ(diff(diff_request(snapshots_->view("nothing", "", {}), left, kTar)).code,
            StatusCode::OK);
}

TEST_F(RpcDiff, OwnersAreThoseInsideTheNamespace) {
  const Labels labels{{"containerd.io/snapshot/uidmapping", "0:100000:65536"},
                      {"containerd.io/snapshot/gidmapping", "0:200000:65536"}};
  const auto right = snapshots_->prepare("container", "", labels);
  {
    const ClientMount mounted = mount(right);
    chown_fd(mounted.dir(), 100000, 200000);
    write_file_at(mounted.dir(), "file", "", 0644);
    chown_at(mounted.dir(), "file", 100005, 200006);
  }
  const DiffAnswer answer = diff(diff_request(snapshots_->view("nothing", "", {}), right, kTar));
  ASSERT_EQ(answer.code, StatusCode::OK) << answer.message;
  const Blob blob{.digest = Digest::parse(answer.digest), .media_type = kTar, .size = 0};
  ASSERT_EQ(unpack(blob, "image", "").code, StatusCode::OK);
  const ClientMount image = mount(snapshots_->view("view", "image", {}));
  EXPECT_EQ(stat_at(image.dir(), "file").st_uid, 5u);
  EXPECT_EQ(stat_at(image.dir(), "file").st_gid, 6u);
}

TEST_F(RpcDiff, WhatCannotBeWrittenIsNotHalfThere) {
  const auto left = snapshots_->view("nothing", "", {});
  const auto right = snapshots_->prepare("container", "", {});
  {
    const ClientMount mounted = mount(right);
    write_file_at(mounted.dir(), "large", large_tar(), 0644);
  }
  EXPECT_EQ(diff(diff_request(left, right, "application/x-other")).code, StatusCode::UNIMPLEMENTED);
  const Mount foreign{.type = "bind", .source = "/etc", .options = {"ro", "rbind"}};
  EXPECT_EQ(diff(diff_request(left, {foreign}, kTar)).code, StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(diff(diff_request({foreign}, right, kTar)).code, StatusCode::UNIMPLEMENTED);
  containerd_.fail_writes_at(2 << 20);
  const DiffAnswer full = diff(diff_request(left, right, kGzip));
  EXPECT_EQ(full.code, StatusCode::UNAVAILABLE);
  EXPECT_TRUE(full.message.contains("disk full")) << full.message;
  EXPECT_EQ(containerd_.aborted(), containerd_.written());
  EXPECT_TRUE(containerd_.blobs(kNamespace).empty());
  serve({.space = std::string(kSpace)});
  EXPECT_EQ(diff(diff_request(left, right, kTar)).code, StatusCode::UNIMPLEMENTED);
}

}  // namespace
}  // namespace veneer::test
