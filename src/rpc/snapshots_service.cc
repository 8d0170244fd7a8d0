#include "rpc/snapshots_service.h"

#include <charconv>
#include <utility>

#include "base/error.h"
#include "rpc/apply_layer.h"
#include "rpc/calls.h"
#include "rpc/convert.h"
#include "rpc/extraction.h"
#include "rpc/guarded.h"
#include "rpc/proto/snapshots.grpc.pb.h"

namespace veneer {

namespace {

using google::protobuf::Empty;
using grpc::Status;

// One message of a list: as many as containerd's own server sends, or as few as make so many bytes.
constexpr int kListedAtOnce = 100;
constexpr size_t kListedBytes = 1 << 20;

// A limit that is not kept would be worse than none: its user counts on it.
void require_no_limit(const Labels& labels) {
  const auto limit = labels.find(std::string(kMaxSize));
  if (limit == labels.end()) return;
  const std::string& text = limit->second;
  int64_t size_bytes = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size_bytes);
  if (error != std::errc() || end != text.data() + text.size() || size_bytes <= 0)
    fail(Code::invalid_argument, "{}: \"{}\" is no number of bytes", kMaxSize, text.substr(0, 64));
  fail(Code::failed_precondition, "{}: this store cannot limit what is written to a snapshot",
       kMaxSize);
}

class SnapshotsService final : public CallService {
 public:
  SnapshotsService(Snapshotter& snapshotter, SnapshotsOptions options, const Observer& observer)
      : snapshotter_(snapshotter), options_(std::move(options)), observer_(observer) {}

  grpc::Service& service() override { return service_; }
  void listen(CallQueue& queue) override;

 private:
  using Async = snapshots_v1::Snapshots::AsyncService;
  using WritePage = std::function<bool(const snapshots_v1::ListSnapshotsResponse&)>;

  Status prepare(const snapshots_v1::PrepareSnapshotRequest& request,
                 snapshots_v1::PrepareSnapshotResponse& response) {
    return guarded(observer_, "Prepare", request.key(), [&] {
      const Labels labels = from_proto(request.labels());
      require_no_limit(labels);
      if (const auto name = find_extracted(request.parent(), labels))
        fail(Code::already_exists, "the layer is there already: snapshot {}", *name);
      std::vector<Mount> mounts = snapshotter_.prepare(request.key(), request.parent(), labels);
      if (options_.attach_known_layer && labels.contains(std::string(kDiffIdLabel))) {
        options_.attach_known_layer(request.key());
        mounts = snapshotter_.mounts(request.key());
      }
      to_proto(extraction_mounts(request.key(), request.parent(), labels, std::move(mounts)),
               *response.mutable_mounts());
    });
  }

  Status view(const snapshots_v1::ViewSnapshotRequest& request,
              snapshots_v1::ViewSnapshotResponse& response) {
    return guarded(observer_, "View", request.key(), [&] {
      const Labels labels = from_proto(request.labels());
      to_proto(snapshotter_.view(request.key(), request.parent(), labels),
               *response.mutable_mounts());
    });
  }

  Status mounts(const snapshots_v1::MountsRequest& request,
                snapshots_v1::MountsResponse& response) {
    return guarded(observer_, "Mounts", request.key(), [&] {
      to_proto(snapshotter_.mounts(request.key()), *response.mutable_mounts());
    });
  }

  Status commit(const snapshots_v1::CommitSnapshotRequest& request, Empty&) {
    return guarded(observer_, "Commit", request.key(), [&] {
      CommitOptions options{.labels = from_proto(request.labels()), .parent = {}};
      if (!request.parent().empty()) options.parent = request.parent();
      snapshotter_.commit(request.name(), request.key(), options);
    });
  }

  Status remove(const snapshots_v1::RemoveSnapshotRequest& request, Empty&) {
    return guarded(observer_, "Remove", request.key(), [&] {
      snapshotter_.remove(request.key());
      options_.on_removed();
    });
  }

  Status stat(const snapshots_v1::StatSnapshotRequest& request,
              snapshots_v1::StatSnapshotResponse& response) {
    return guarded(observer_, "Stat", request.key(),
                   [&] { to_proto(snapshotter_.stat(request.key()), *response.mutable_info()); });
  }

  Status update(const snapshots_v1::UpdateSnapshotRequest& request,
                snapshots_v1::UpdateSnapshotResponse& response) {
    return guarded(observer_, "Update", request.info().name(), [&] {
      const auto& paths = request.update_mask().paths();
      SnapshotInfo info;
      info.name = request.info().name();
      info.labels = from_proto(request.info().labels());
      to_proto(snapshotter_.update(info, {paths.begin(), paths.end()}), *response.mutable_info());
    });
  }

  Status list(const snapshots_v1::ListSnapshotsRequest& request, const WritePage& write);

  Status usage(const snapshots_v1::UsageRequest& request, snapshots_v1::UsageResponse& response) {
    return guarded(observer_, "Usage", request.key(), [&] {
      const veneer::Usage usage = snapshotter_.usage(request.key());
      response.set_size(static_cast<int64_t>(usage.size_bytes));
      response.set_inodes(static_cast<int64_t>(usage.inodes));
    });
  }

  Status cleanup(const snapshots_v1::CleanupRequest&, Empty&) {
    return guarded(observer_, "Cleanup", "", options_.on_removed);
  }

  std::optional<std::string> find_extracted(std::string_view parent, const Labels& labels) {
    auto name = maybe_extracted(snapshotter_, parent, labels);
    if (!name && options_.add_known_layer) name = options_.add_known_layer(parent, labels);
    return name;
  }

  Snapshotter& snapshotter_;
  const SnapshotsOptions options_;
  const Observer observer_;
  Async service_;
};

void SnapshotsService::listen(CallQueue& queue) {
  using Own = SnapshotsService;
  answer_unary(queue, service_, &Async::RequestPrepare, this, &Own::prepare);
  answer_unary(queue, service_, &Async::RequestView, this, &Own::view);
  answer_unary(queue, service_, &Async::RequestMounts, this, &Own::mounts);
  answer_unary(queue, service_, &Async::RequestCommit, this, &Own::commit);
  answer_unary(queue, service_, &Async::RequestRemove, this, &Own::remove);
  answer_unary(queue, service_, &Async::RequestStat, this, &Own::stat);
  answer_unary(queue, service_, &Async::RequestUpdate, this, &Own::update);
  answer_stream(queue, service_, &Async::RequestList, this, &Own::list);
  answer_unary(queue, service_, &Async::RequestUsage, this, &Own::usage);
  answer_unary(queue, service_, &Async::RequestCleanup, this, &Own::cleanup);
}

Status SnapshotsService::list(const snapshots_v1::ListSnapshotsRequest& request,
                              const WritePage& write) {
  return guarded(observer_, "List", "", [&] {
    snapshots_v1::ListSnapshotsResponse page;
    size_t page_bytes = 0;
    const auto send = [&] {
      if (!write(page)) throw Cancelled{};
      page.Clear();
      page_bytes = 0;
    };
    const auto& filters = request.filters();
    snapshotter_.walk({filters.begin(), filters.end()}, [&](const SnapshotInfo& info) {
      to_proto(info, *page.add_info());
      page_bytes += page.info(page.info_size() - 1).ByteSizeLong();
      if (page.info_size() == kListedAtOnce || page_bytes > kListedBytes) send();
    });
    if (page.info_size() > 0) send();
  });
}

}  // namespace

RpcService make_snapshots_service(Snapshotter& snapshotter, SnapshotsOptions options,
                                  const Observer& observer) {
  return std::make_shared<SnapshotsService>(snapshotter, std::move(options), observer);
}

}  // namespace veneer
