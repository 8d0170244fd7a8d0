#include "rpc/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/at.h"
#include "mount/mount.h"
#include "store/store.h"

namespace veneer {

namespace {

void describe(std::string& out, std::string_view name, std::string_view type,
              std::string_view help) {
  fmt::format_to(std::back_inserter(out), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

// What a store has. `disk_bytes` are of layers and committed directories: what containers write is
// not known without a walk, which no scrape is worth.
struct Figures {
  uint64_t layers = 0;
  uint64_t disk_bytes = 0;
  std::array<uint64_t, 3> snapshots{};  // by Kind
  uint64_t mounts = 0;
};

void count_snapshots(Meta::Transaction& transaction, Figures& figures) {
  transaction.for_each_snapshot("", [&](const SnapshotRecord& snapshot) {
    ++figures.snapshots.at(static_cast<size_t>(snapshot.info.kind));
    if (!snapshot.variant && snapshot.usage) figures.disk_bytes += snapshot.usage->size_bytes;
  });
}

Figures count(Store& store) {
  Figures figures;
  Meta::Transaction transaction = store.meta().read();
  for (const LayerRecord& layer : transaction.list_layers()) {
    ++figures.layers;
    for (const VariantRecord& variant : transaction.list_variants(layer.id))
      figures.disk_bytes += variant.usage.size_bytes;
  }
  count_snapshots(transaction, figures);
  const UniqueFd lowers = open_root(store.lowers().directory());
  for (const std::string& name : list_dir(lowers.get()))
    if (is_mount_point_at(lowers.get(), RelPath::parse(name))) ++figures.mounts;
  return figures;
}

}  // namespace

void Metrics::add_call(std::string_view call, std::string_view code, double seconds) {
  const auto* const bucket = std::ranges::lower_bound(kCallBuckets, seconds);
  const std::scoped_lock lock(mutex_);
  Calls& calls = calls_.try_emplace(std::string(call)).first->second;
  ++calls.by_code.try_emplace(std::string(code)).first->second;
  ++calls.buckets.at(static_cast<size_t>(bucket - kCallBuckets.begin()));
  calls.seconds += seconds;
}

void Metrics::add_import(const AppliedLayer& layer, double seconds) {
  const std::scoped_lock lock(mutex_);
  Imports& imports = layer.was_read ? read_ : found_;
  ++imports.layers;
  imports.size_bytes += layer.size_bytes;
  imports.seconds += seconds;
  stages_.read += layer.times.read;
  stages_.settle += layer.times.settle;
}

std::string Metrics::text() const {
  const std::scoped_lock lock(mutex_);
  std::string out;
  const auto end = std::back_inserter(out);
  describe(out, "veneer_calls_total", "counter", "Calls that ended, by the code of their answer.");
  for (const auto& [call, calls] : calls_)
    for (const auto& [code, number] : calls.by_code)
      fmt::format_to(end, "veneer_calls_total{{call=\"{}\",code=\"{}\"}} {}\n", call, code, number);
  describe(out, "veneer_call_seconds", "histogram", "How long calls took.");
  for (const auto& [call, calls] : calls_) {
    uint64_t so_far = 0;
    for (size_t i = 0; i < calls.buckets.size(); ++i) {
      so_far += calls.buckets.at(i);
      const std::string bound =
          i < kCallBuckets.size() ? fmt::format("{}", kCallBuckets.at(i)) : "+Inf";
      fmt::format_to(end, "veneer_call_seconds_bucket{{call=\"{}\",le=\"{}\"}} {}\n", call, bound,
                     so_far);
    }
    fmt::format_to(end, "veneer_call_seconds_sum{{call=\"{}\"}} {}\n", call, calls.seconds);
    fmt::format_to(end, "veneer_call_seconds_count{{call=\"{}\"}} {}\n", call, so_far);
  }
  const auto add = [&](std::string_view name, std::string_view help, auto member) {
    describe(out, name, "counter", help);
    fmt::format_to(end, "{}{{from=\"blob\"}} {}\n", name, read_.*member);
    fmt::format_to(end, "{}{{from=\"store\"}} {}\n", name, found_.*member);
  };
  add("veneer_import_layers_total",
      "Layers taken in for containerd: read from blobs, or found in the store.", &Imports::layers);
  add("veneer_import_bytes_total", "Their uncompressed size.", &Imports::size_bytes);
  add("veneer_import_seconds_total", "How long the calls took that asked for them.",
      &Imports::seconds);
  constexpr std::string_view kStages = "veneer_import_stage_seconds_total";
  describe(out, kStages, "counter",
           "How long layers from blobs took, also ahead of their calls: read is with decompression,"
           " verification and writing, settle is the index and the sync.");
  fmt::format_to(end, "{}{{stage=\"read\"}} {}\n", kStages, stages_.read);
  fmt::format_to(end, "{}{{stage=\"settle\"}} {}\n", kStages, stages_.settle);
  return out;
}

std::string Metrics::text(Store& store) const {
  const Figures figures = count(store);
  std::string out = text();
  const auto gauge = [&](std::string_view name, std::string_view help, uint64_t value) {
    describe(out, name, "gauge", help);
    fmt::format_to(std::back_inserter(out), "{} {}\n", name, value);
  };
  gauge("veneer_layers", "Layers in the store.", figures.layers);
  gauge("veneer_layer_mounts", "Mounts of layers, shared by all snapshots over them.",
        figures.mounts);
  gauge("veneer_store_bytes", "Disk space of layers and committed snapshots.", figures.disk_bytes);
  describe(out, "veneer_snapshots", "gauge", "Snapshots of all spaces, by kind.");
  for (const Kind kind : {Kind::view, Kind::active, Kind::committed})
    fmt::format_to(std::back_inserter(out), "veneer_snapshots{{kind=\"{}\"}} {}\n", to_string(kind),
                   figures.snapshots.at(static_cast<size_t>(kind)));
  return out;
}

}  // namespace veneer
