// The services through a real socket, over a real store: the suite of all snapshotters, and what is
// the server's own: the socket's life, calls beside each other, cancellation, absurd requests.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <condition_variable>
#include <future>
#include <mutex>

#include "base/at.h"
#include "rpc/apply_layer.h"
#include "rpc/extraction.h"
#include "rpc/socket.h"
#include "store/one_layer.h"
#include "store/store.h"
#include "tests/suite/rpc_served.h"
#include "tests/suite/snapshotter_suite.h"
#include "tests/support/code_of.h"
#include "tests/support/layer_tar.h"
#include "tests/support/tree.h"

namespace veneer {
namespace {

using grpc::StatusCode;
using test::code_of;
using test::LayerTar;
using test::RemoteSnapshotter;
using test::Scratch;
using test::Served;

const Log kSilent;

std::shared_ptr<Snapshotter> open_remote(const std::string& scratch) {
  static std::atomic<int> number = 0;
  const auto served =
      std::make_shared<Served>(scratch, fmt::format("{}/socket-{}", scratch, ++number));
  return {served, &served->remote};
}

// A snapshotter that answers as it is told, and can be made to wait.
class Scripted : public Snapshotter {
 public:
  SnapshotInfo stat(std::string_view key) override {
    if (key == "slow") wait();
    if (key == "bad_alloc") throw std::bad_alloc();
    if (key == "foreign") throw std::runtime_error("of a library");
    SnapshotInfo info;
    info.name = key;
    return info;
  }
  SnapshotInfo update(const SnapshotInfo& info, const std::vector<std::string>&) override {
    return info;
  }
  Usage usage(std::string_view) override { return {.size_bytes = 1ULL << 40, .inodes = 7}; }
  std::vector<Mount> mounts(std::string_view) override { return {}; }
  std::vector<Mount> prepare(std::string_view, std::string_view, const Labels&) override {
    return {};
  }
  std::vector<Mount> view(std::string_view, std::string_view, const Labels&) override { return {}; }
  void commit(std::string_view, std::string_view, const CommitOptions&) override {}
  void remove(std::string_view) override {}
  void cleanup() override {}
  // Never ends by itself.
  void walk(const std::vector<std::string>&,
            const std::function<void(const SnapshotInfo&)>& visit) override {
    SnapshotInfo info;
    info.labels["l"] = std::string(4000, 'v');
    const std::shared_ptr<void> left(nullptr, [this](void*) {
      const std::lock_guard lock(mutex_);
      walk_ended_ = true;
      changed_.notify_all();
    });
    for (uint64_t i = 0;; ++i) {
      info.name = std::to_string(i);
      visit(info);
    }
  }

  void wait() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return released_; });
  }
  void await_waiting(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= count; });
  }
  void release() {
    const std::lock_guard lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }
  bool walk_ends_within(std::chrono::seconds time) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, time, [this] { return walk_ended_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  bool released_ = false;
  bool walk_ended_ = false;
};

class Rpc : public testing::Test {
 protected:
  std::unique_ptr<RpcServer> serve() {
    SnapshotsOptions options{.on_removed = [this] { ++removals_; }};
    return std::make_unique<RpcServer>(
        path_, std::vector<RpcService>{make_snapshots_service(scripted_, options, kSilent)});
  }
  static grpc::Status stat(RemoteSnapshotter& remote, const std::string& key) {
    grpc::ClientContext context;
    snapshots_v1::StatSnapshotRequest request;
    request.set_key(key);
    snapshots_v1::StatSnapshotResponse response;
    return remote.stub().Stat(&context, request, &response);
  }
  // The file of a socket that nobody listens on, as SIGKILL leaves it.
  void leave_socket() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    check(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
          "bind {}", path_);
  }

  Scratch scratch_;
  std::string path_ = scratch_.path() + "/dir/a b%41.sock";
  Scripted scripted_;
  std::atomic<int> removals_ = 0;
};

TEST_F(Rpc, TheSocketIsForRootAloneAndGoesWithTheServer) {
  const mode_t before = ::umask(0);
  const auto server = serve();
  EXPECT_EQ(::umask(before), 0u);
  EXPECT_EQ(stat_at(scratch_.dir(), "dir").st_mode & 07777U, 0711u);
  const struct stat socket = stat_at(scratch_.dir(), "dir/a b%41.sock");
  EXPECT_TRUE(S_ISSOCK(socket.st_mode));
  EXPECT_EQ(socket.st_mode & 07777U, 0600u);
  RemoteSnapshotter remote(path_);
  EXPECT_TRUE(stat(remote, "x").ok());
  server->drain(std::chrono::seconds(5));
  EXPECT_FALSE(exists_at(scratch_.dir(), "dir/a b%41.sock"));
  EXPECT_EQ(stat(remote, "x").error_code(), StatusCode::UNAVAILABLE);
}

TEST_F(Rpc, AStaleSocketIsTakenOverALiveOneIsNot) {
  make_dir_at(scratch_.dir(), "dir", 0755);
  leave_socket();
  RemoteSnapshotter remote(path_);
  {
    const auto server = serve();
    EXPECT_TRUE(stat(remote, "x").ok());
    EXPECT_EQ(code_of([&] { serve(); }), Code::unavailable);
    EXPECT_TRUE(stat(remote, "x").ok());
  }
  // A program that knows nothing of our lock.
  leave_socket();
  unlink_at(scratch_.dir(), "dir/a b%41.sock");
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const auto* const any = reinterpret_cast<const sockaddr*>(&address);
  ASSERT_EQ(::bind(listener.get(), any, sizeof(address)), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  EXPECT_EQ(code_of([&] { serve(); }), Code::unavailable);
  EXPECT_TRUE(exists_at(scratch_.dir(), "dir/a b%41.sock"));
}

TEST_F(Rpc, WhatIsNoSocketStays) {
  make_dir_at(scratch_.dir(), "dir", 0755);
  write_file_at(scratch_.dir(), "dir/a b%41.sock", "precious", 0600);
  EXPECT_EQ(code_of([&] { serve(); }), Code::failed_precondition);
  EXPECT_EQ(read_file_at(scratch_.dir(), "dir/a b%41.sock", 100), "precious");
}

TEST_F(Rpc, AddressesAreThoseOfSockets) {
  EXPECT_EQ(socket_path("unix:///run/veneer/ctd.sock"), "/run/veneer/ctd.sock");
  for (const char* const bad : {"", "/run/x", "unix://x", "unix:///x/", "unix:/x", "tcp:///x"})
    EXPECT_EQ(code_of([&] { socket_path(bad); }), Code::invalid_argument) << bad;
  EXPECT_EQ(socket_path("unix:///" + std::string(106, 'x')).size(), 107u);
  EXPECT_EQ(code_of([&] { socket_path("unix:///" + std::string(107, 'x')); }),
            Code::invalid_argument);
}

TEST_F(Rpc, ASlowCallIsInNobodysWay) {
  const auto server = serve();
  RemoteSnapshotter remote(path_);
  std::vector<std::future<grpc::Status>> slow;
  for (int i = 0; i < 64; ++i)
    slow.push_back(std::async(std::launch::async, [&] { return stat(remote, "slow"); }));
  scripted_.await_waiting(64);
  EXPECT_TRUE(stat(remote, "fast").ok());
  scripted_.release();
  for (auto& call : slow) EXPECT_TRUE(call.get().ok());
}

TEST_F(Rpc, DrainingWaitsForWhatRuns) {
  const auto server = serve();
  RemoteSnapshotter remote(path_);
  auto slow = std::async(std::launch::async, [&] { return stat(remote, "slow"); });
  scripted_.await_waiting(1);
  auto drained = std::async(std::launch::async, [&] { server->drain(std::chrono::seconds(60)); });
  RemoteSnapshotter other(path_);
  while (stat(other, "x").ok()) continue;  // until no more calls are taken
  scripted_.release();
  EXPECT_TRUE(slow.get().ok());
  drained.get();
}

TEST_F(Rpc, AListEndsWithItsReader) {
  const auto server = serve();
  RemoteSnapshotter remote(path_);
  grpc::ClientContext context;
  const auto reader = remote.stub().List(&context, {});
  snapshots_v1::ListSnapshotsResponse page;
  ASSERT_TRUE(reader->Read(&page));
  EXPECT_EQ(page.info_size(), 100);
  context.TryCancel();
  while (reader->Read(&page)) continue;
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::CANCELLED);
  EXPECT_TRUE(scripted_.walk_ends_within(std::chrono::seconds(20)));
}

TEST_F(Rpc, ErrorsBecomeStatuses) {
  const auto server = serve();
  RemoteSnapshotter remote(path_);
  EXPECT_EQ(stat(remote, "bad_alloc").error_code(), StatusCode::RESOURCE_EXHAUSTED);
  const grpc::Status foreign = stat(remote, "foreign");
  EXPECT_EQ(foreign.error_code(), StatusCode::INTERNAL);
  EXPECT_EQ(foreign.error_message(), "of a library");
}

TEST_F(Rpc, TheHealthServiceIsThere) {
  const auto server = serve();
  EXPECT_EQ(test::call_raw(path_, "/grpc.health.v1.Health/Check", ""), "\x08\x01");  // serving
  EXPECT_ANY_THROW(test::call_raw(path_, "/grpc.health.v1.Health/Check", "\x0a\x01x"));
}

TEST_F(Rpc, RemovalsAreTold) {
  const auto server = serve();
  RemoteSnapshotter remote(path_);
  remote.remove("x");
  EXPECT_EQ(removals_, 1);
  remote.cleanup();
  EXPECT_EQ(removals_, 2);
  EXPECT_EQ(remote.usage("x"), (Usage{.size_bytes = 1ULL << 40, .inodes = 7}));
}

TEST_F(Rpc, MessagesAreLimited) {
  const auto server = serve();
  RemoteSnapshotter remote(path_);
  // The key's length takes four bytes, its field's number one.
  EXPECT_TRUE(stat(remote, std::string((16 << 20) - 5, 'k')).error_code() !=
              StatusCode::OK);  // the answer is longer than the question
  EXPECT_EQ(stat(remote, std::string(16 << 20, 'k')).error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(stat(remote, std::string(1 << 20, 'k')).ok());
  EXPECT_TRUE(stat(remote, "x").ok());
}

// --- over a store ---

class RpcStore : public testing::Test {
 protected:
  Scratch scratch_;
  Served served_{scratch_.path(), scratch_.path() + "/socket"};
};

TEST_F(RpcStore, AbsurdRequestsAreRefused) {
  RemoteSnapshotter& remote = served_.remote;
  const std::string odd = "ns/1/ \n../../\x01 é \"quoted\" 'key'";
  remote.prepare(odd, "", {{"", ""}, {"a\nb", std::string(4000, '\t')}});
  EXPECT_EQ(remote.stat(odd).labels.size(), 2u);
  remote.commit("../..", odd, {});
  EXPECT_EQ(remote.prepare("/", "../..", {}).size(), 1u);
  for (const auto& [key, parent] : {std::pair(std::string(), std::string()),
                                    {std::string(4097, 'k'), ""},
                                    {"x", std::string(1 << 20, 'p')}}) {
    try {
      remote.prepare(key, parent, {});
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_LE(error.message().size(), 2048u);
    }
  }
  // Strings of the protocol are UTF-8; what is not is no message.
  EXPECT_ANY_THROW(remote.prepare("\xff\xfe", "", {}));
  // Without a snapshot at all.
  grpc::ClientContext context;
  snapshots_v1::UpdateSnapshotResponse response;
  EXPECT_EQ(remote.stub().Update(&context, {}, &response).error_code(), StatusCode::NOT_FOUND);
  size_t count = 0;
  remote.walk({}, [&](const SnapshotInfo&) { ++count; });
  EXPECT_EQ(count, 2u);
}

TEST_F(RpcStore, ListsOfAnySizeComeInPages) {
  RemoteSnapshotter& remote = served_.remote;
  for (int i = 0; i < 201; ++i) remote.prepare(std::to_string(i), "", {});
  grpc::ClientContext context;
  const auto reader = remote.stub().List(&context, {});
  std::vector<int> sizes;
  snapshots_v1::ListSnapshotsResponse page;
  while (reader->Read(&page)) sizes.push_back(page.info_size());
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(sizes, (std::vector<int>{100, 100, 1}));
  // As many labels as one may have; together they are more than one message takes.
  Labels labels;
  for (int i = 0; i < 256; ++i) labels[fmt::format("{:04}", i)] = std::string(4092, 'v');
  for (int i = 0; i < 20; ++i) remote.prepare(fmt::format("large {}", i), "", labels);
  size_t count = 0;
  remote.walk({}, [&](const SnapshotInfo& info) { count += info.labels.size(); });
  EXPECT_EQ(count, 20u * 256u);
}

// The remote snapshots protocol, as containerd's metadata asks after ALREADY_EXISTS.
TEST_F(RpcStore, WhatOneNamespaceExtractedServesAnother) {
  RemoteSnapshotter& remote = served_.remote;
  const Labels first{{"containerd.io/snapshot.ref", "sha256:one"}};
  const Labels second{{"containerd.io/snapshot.ref", "sha256:two"}};
  remote.prepare("a/1/extract-1 sha256:one", "", first);
  remote.commit("a/2/sha256:one", "a/1/extract-1 sha256:one", {.labels = first, .parent = {}});
  remote.prepare("a/3/extract-2 sha256:two", "a/2/sha256:one", second);
  remote.commit("a/4/sha256:two", "a/3/extract-2 sha256:two", {.labels = second, .parent = {}});

  const auto code_of_prepare = [&](const std::string& parent, const Labels& labels) {
    try {
      remote.prepare("b/5/extract-3 x", parent, labels);
      remote.remove("b/5/extract-3 x");
    } catch (const Error& error) {
      return error.code();
    }
    return Code::io;  // it was made
  };
  EXPECT_EQ(code_of_prepare("", first), Code::already_exists);
  EXPECT_EQ(code_of_prepare("a/2/sha256:one", second), Code::already_exists);
  EXPECT_EQ(code_of_prepare("", second), Code::io);
  EXPECT_EQ(code_of_prepare("a/2/sha256:one", first), Code::io);
  std::vector<std::string> found;
  remote.walk({"labels.\"containerd.io/snapshot.ref\"==sha256:two,parent==\"a/2/sha256:one\""},
              [&](const SnapshotInfo& info) { found.push_back(info.name); });
  EXPECT_EQ(found, std::vector<std::string>{"a/4/sha256:two"});
  // One that is being extracted is not there yet.
  remote.prepare("a/6/extract-4 y", "a/4/sha256:two",
                 {{"containerd.io/snapshot.ref", "sha256:three"}});
  EXPECT_EQ(code_of_prepare("a/4/sha256:two", {{"containerd.io/snapshot.ref", "sha256:three"}}),
            Code::io);
}

// The calls of containerd's unpacker when it works side by side (rebase): what is written into the
// upper directory, whiteouts as overlayfs has them, counts over the parent that comes later.
TEST_F(RpcStore, LayersExtractedSideBySideKeepTheirWhiteouts) {
  RemoteSnapshotter& remote = served_.remote;
  const auto upper_of = [&](const std::vector<Mount>& mounts) {
    EXPECT_EQ(mounts.size(), 1u);
    EXPECT_EQ(mounts.at(0).type, "overlay");
    EXPECT_EQ(mounts.at(0).options.size(), 1u);
    const std::string option = mounts.at(0).options.at(0);
    EXPECT_TRUE(option.starts_with("upperdir="));
    return open_root(option.substr(option.find('=') + 1));
  };
  const Labels low{{"containerd.io/snapshot.ref", "sha256:low"}};
  const Labels high{{"containerd.io/snapshot.ref", "sha256:high"},
                    {"containerd.io/snapshot/parent-chain-id", "sha256:low"}};
  const UniqueFd lower = upper_of(remote.prepare("n/1/extract-1-a sha256:low", "", low));
  const UniqueFd upper = upper_of(remote.prepare("n/2/extract-1-b sha256:high", "", high));
  write_file_at(lower.get(), "gone", "", 0644);
  write_file_at(lower.get(), "kept", "", 0644);
  make_node_at(upper.get(), "gone", S_IFCHR, 0);
  remote.commit("low", "n/1/extract-1-a sha256:low", {.labels = low, .parent = {}});
  remote.commit("high", "n/2/extract-1-b sha256:high", {.labels = high, .parent = "low"});
  EXPECT_EQ(remote.stat("high").parent, "low");
  const test::ClientMount seen(remote.prepare("container", "high", {}), scratch_.path() + "/m");
  EXPECT_EQ(test::names_of(seen.dir()), "kept");
}

// Layers that came into the store in another way: by the command line, or in another space.
class RpcKnown : public RpcStore {
 protected:
  RpcKnown() {
    LayerTar base;
    base.dir("d").file("d/low", "1").file("f", "base");
    base_ = add("", base);
    LayerTar top;
    top.whiteout("d/low").file("d/high", "2");  // what d is follows from the layer below
    top_ = add(chain_id({}, base_).str(), top);
    chain_ = chain_id(chain_id({}, base_), top_);
  }
  Digest add(const std::string& parent, LayerTar& tar) {
    const std::string bytes = tar.bytes();
    MemorySource source(std::as_bytes(std::span(bytes)));
    std::optional<int64_t> below;
    if (!parent.empty()) below = store().meta().read().maybe_snapshot("other", parent)->id;
    OneLayer layer(store(), below, blob_of(source));
    Meta::Transaction transaction = store().meta().write();
    SnapshotRecord snapshot;
    snapshot.space = "other";
    const Digest diff_id = layer.layer().diff_id;
    const auto chain = parent.empty() ? std::nullopt : std::optional(Digest::parse(parent));
    snapshot.info.name = chain_id(chain, diff_id).str();
    snapshot.info.parent = parent;
    snapshot.info.kind = Kind::committed;
    snapshot.parent = below;
    snapshot.variant = layer.publish(transaction);
    snapshot.usage = snapshot.variant->usage;
    transaction.add_snapshot(snapshot);
    transaction.commit();
    return diff_id;
  }
  Store& store() { return served_.store; }
  static Labels reference(const std::string& chain) {
    return {{"containerd.io/snapshot.ref", chain}};
  }
  // The name of the snapshot that containerd would adopt; "" if the layer is to be extracted.
  std::string offered(const std::string& parent, const std::string& chain) {
    RemoteSnapshotter& remote = served_.remote;
    try {
      remote.prepare("n/1/extract-1 x", parent, reference(chain));
      remote.remove("n/1/extract-1 x");
      return "";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::already_exists) << error.what();
    }
    std::vector<std::string> names;
    remote.walk({"labels.\"containerd.io/snapshot.ref\"==" + chain + ",parent==\"" + parent + "\""},
                [&](const SnapshotInfo& info) { names.push_back(info.name); });
    EXPECT_EQ(names.size(), 1u);
    return names.at(0);
  }

  Digest base_;
  Digest top_;
  Digest chain_;
};

TEST_F(RpcKnown, ALayerOfTheStoreNeedsNoExtraction) {
  RemoteSnapshotter& remote = served_.remote;
  const std::string low = offered("", base_.str());
  ASSERT_NE(low, "");
  EXPECT_EQ(offered("", base_.str()), low);  // the same again
  const std::string high = offered(low, chain_.str());
  ASSERT_NE(high, "");
  EXPECT_EQ(remote.stat(high).parent, low);
  EXPECT_EQ(remote.stat(high).kind, Kind::committed);
  EXPECT_GT(remote.usage(high).inodes, 0u);
  {
    const test::ClientMount seen(remote.prepare("container", high, {}), scratch_.path() + "/m");
    EXPECT_EQ(test::names_of(seen.dir()), "d d/high f");
  }
  // What nobody adopts can be removed.
  for (const std::string& name : {std::string("container"), high, low}) remote.remove(name);
  EXPECT_NE(offered("", base_.str()), "");
}

TEST_F(RpcKnown, OtherLayersAreExtracted) {
  const std::string low = offered("", base_.str());
  EXPECT_EQ(offered("", chain_.str()), "");  // side by side: its parent is not known
  EXPECT_EQ(offered(low, top_.str()), "");   // a DiffID is no ChainID up here
  EXPECT_EQ(offered(low, base_.str()), "");
  EXPECT_EQ(offered("", "sha256:short"), "");
  EXPECT_EQ(offered("", "nonsense"), "");
  // Over a snapshot of which nobody says what it is.
  served_.remote.prepare("key", "", {});
  served_.remote.commit("nameless", "key", {});
  EXPECT_EQ(offered("nameless", chain_.str()), "");
}

// --- limits and counts ---

TEST_F(RpcStore, ALimitThatIsNotKeptIsRefused) {
  RemoteSnapshotter& remote = served_.remote;
  const auto code_with = [&](const std::string& limit) {
    try {
      remote.prepare("key", "", {{std::string(kMaxSize), limit}});
    } catch (const Error& error) {
      EXPECT_TRUE(error.message().contains(kMaxSize)) << error.message();
      return error.code();
    }
    return Code::io;  // it was made
  };
  EXPECT_EQ(code_with("1073741824"), Code::failed_precondition);
  for (const char* const bad : {"", "0", "-1", "1G", "99999999999999999999"})
    EXPECT_EQ(code_with(bad), Code::invalid_argument) << bad;
  size_t count = 0;
  remote.walk({}, [&](const SnapshotInfo&) { ++count; });
  EXPECT_EQ(count, 0u);
}

TEST_F(RpcStore, CallsAndWhatThereIsAreCounted) {
  RemoteSnapshotter& remote = served_.remote;
  remote.prepare("a", "", {});
  remote.prepare("b", "", {});
  remote.commit("c", "b", {});
  EXPECT_ANY_THROW(remote.stat("none"));
  // An answer may be on its way before its call is counted.
  std::string text;
  for (int i = 0; i < 1000 && !text.contains("\"Stat\",code=\"NOT_FOUND\"} 1\n"); ++i)
    text = served_.metrics.text(served_.store);
  for (const char* const line :
       {"veneer_calls_total{call=\"Stat\",code=\"NOT_FOUND\"} 1\n",
        "veneer_calls_total{call=\"Prepare\",code=\"OK\"} 2\n",
        "veneer_call_seconds_count{call=\"Commit\"} 1\n", "veneer_layers 0\n",
        "veneer_layer_mounts 0\n", "veneer_snapshots{kind=\"active\"} 1\n",
        "veneer_snapshots{kind=\"committed\"} 1\n"})
    EXPECT_TRUE(text.contains(line)) << line << text;
}

// --- staged layers ---

// The calls of containerd 2.4 when layers are unpacked side by side: a layer whose mounts cannot be
// written to is not fetched, and committed at once.
TEST_F(RpcKnown, ALayerThatIsNamedIsStaged) {
  RemoteSnapshotter& remote = served_.remote;
  const std::string low = offered("", base_.str());
  Labels labels = reference(chain_.str());
  labels[std::string(kParentChainId)] = base_.str();
  labels[std::string(kDiffIdLabel)] = top_.str();
  const std::string key = "n/2/extract-2 " + chain_.str();
  const auto mounts = remote.prepare(key, "", labels);
  ASSERT_EQ(mounts.size(), 1u);
  EXPECT_EQ(mounts[0].type, "overlay");
  for (const std::string& option : mounts[0].options) EXPECT_FALSE(option.contains("upperdir="));
  EXPECT_EQ(remote.mounts(key), mounts);
  EXPECT_EQ(remote.stat(key).kind, Kind::active);
  EXPECT_EQ(remote.stat(key).labels, labels);
  remote.commit(chain_.str(), key, {.labels = reference(chain_.str()), .parent = low});
  EXPECT_EQ(remote.stat(chain_.str()).parent, low);
  {
    const test::ClientMount seen(remote.view("look", chain_.str(), {}), scratch_.path() + "/m");
    EXPECT_EQ(test::names_of(seen.dir()), "d d/high f");
  }
  EXPECT_EQ(store().meta().read().list_layers().size(), 2u);
}

TEST_F(RpcKnown, AStagedLayerOverItsParentCanBeRemoved) {
  RemoteSnapshotter& remote = served_.remote;
  const std::string low = offered("", base_.str());
  const Labels labels{{std::string(kDiffIdLabel), top_.str()}};
  const auto mounts = remote.prepare("extract", low, labels);
  {
    const test::ClientMount seen(mounts, scratch_.path() + "/m");
    EXPECT_EQ(test::names_of(seen.dir()), "d d/high f");
    EXPECT_EQ(test::names_of(open_root(store().layout().path() + "/snapshots").get()), "");
  }
  remote.remove("extract");
  EXPECT_EQ(remote.prepare("extract", low, labels), mounts);  // the store has it still
}

TEST_F(RpcKnown, OtherLayersAreNotStaged) {
  RemoteSnapshotter& remote = served_.remote;
  const auto is_writable = [&](const std::string& diff_id) {
    const auto mounts = remote.prepare("extract", "", {{std::string(kDiffIdLabel), diff_id}});
    remote.remove("extract");
    return mounts.at(0).type == "bind" &&
           mounts.at(0).options == std::vector<std::string>{"rw", "rbind"};
  };
  EXPECT_TRUE(is_writable(chain_.str()));  // no DiffID of the store's
  EXPECT_TRUE(is_writable(""));
  EXPECT_TRUE(is_writable("sha256:short"));
  EXPECT_FALSE(is_writable(base_.str()));
  // A container's, whatever its labels say.
  const auto mounts = remote.prepare("n/1/box", "", {{std::string(kDiffIdLabel), base_.str()}});
  EXPECT_EQ(mounts.at(0).options, (std::vector<std::string>{"rw", "rbind"}));
}

}  // namespace
}  // namespace veneer

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  veneer::test::register_snapshotter_suite("RemoteSuite", veneer::open_remote);
  return RUN_ALL_TESTS();
}
