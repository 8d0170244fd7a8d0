// The records of store/meta.h as rows: layers, variants and snapshots.

#include <algorithm>
#include <bit>
#include <limits>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/limits.h"
#include "store/meta.h"
#include "store/meta_sql.h"
#include "store/meta_transaction.h"

namespace veneer {

namespace {

constexpr std::string_view kLayerRow =
    "SELECT id, diff_id, tar_bytes, file_bytes, depends_on_lower, checksum FROM layers ";
constexpr std::string_view kVariantRow =
    "SELECT v.id, v.layer, l.diff_id, v.name, v.form, v.digest, v.size_bytes, v.inodes"
    " FROM variants v JOIN layers l ON l.id = v.layer ";
constexpr std::string_view kSnapshotRow =
    "SELECT v.id, v.layer, l.diff_id, v.name, v.form, v.digest, v.size_bytes, v.inodes,"
    " s.id, s.space, s.key, s.kind, s.parent, p.key, s.size_bytes, s.inodes, s.created, s.updated"
    " FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent"
    " LEFT JOIN variants v ON v.id = s.variant LEFT JOIN layers l ON l.id = v.layer ";

std::string_view form_text(Form form) {
  return form == Form::packed ? "packed" : "directory";
}

Form form_of(const std::string& text) {
  if (text == form_text(Form::packed)) return Form::packed;
  if (text == form_text(Form::directory)) return Form::directory;
  fail(Code::corrupt, "store.db: '{}' is no form of a layer", text);
}

Kind kind_of(const std::string& text) {
  for (const Kind kind : {Kind::view, Kind::active, Kind::committed})
    if (text == to_string(kind)) return kind;
  fail(Code::corrupt, "store.db: '{}' is no kind of a snapshot", text);
}

// SQLite's integers have a sign.
std::optional<int64_t> checksum_column(std::optional<uint64_t> checksum) {
  if (!checksum) return std::nullopt;
  return std::bit_cast<int64_t>(*checksum);
}

std::optional<uint64_t> checksum_of(std::optional<int64_t> column) {
  if (!column) return std::nullopt;
  return std::bit_cast<uint64_t>(*column);
}

LayerRecord read_layer(const SqlQuery& row) {
  return {.id = row.integer(0),
          .diff_id = row.digest(1),
          .tar_bytes = row.size(2),
          .file_bytes = row.size(3),
          .depends_on_lower = row.boolean(4),
          .checksum = checksum_of(row.maybe_integer(5))};
}

// The first columns of kVariantRow and kSnapshotRow.
VariantRecord read_variant(const SqlQuery& row) {
  VariantRecord variant;
  variant.id = row.integer(0);
  variant.layer = row.integer(1);
  variant.diff_id = row.digest(2);
  variant.name = row.text(3);
  variant.form = form_of(row.text(4));
  if (!row.is_null(5)) variant.digest = row.digest(5);
  variant.usage = {.size_bytes = row.size(6), .inodes = row.size(7)};
  return variant;
}

// Without its labels.
SnapshotRecord read_snapshot(const SqlQuery& row) {
  SnapshotRecord snapshot;
  if (!row.is_null(0)) snapshot.variant = read_variant(row);
  snapshot.id = row.integer(8);
  snapshot.space = row.text(9);
  snapshot.info.name = row.text(10);
  snapshot.info.kind = kind_of(row.text(11));
  snapshot.parent = row.maybe_integer(12);
  if (snapshot.parent) snapshot.info.parent = row.text(13);
  if (!row.is_null(14)) snapshot.usage = Usage{.size_bytes = row.size(14), .inodes = row.size(15)};
  snapshot.info.created = row.time(16);
  snapshot.info.updated = row.time(17);
  return snapshot;
}

// Without its labels, too.
SnapshotRecord read_snapshot_of(SqlConnection& sql, int64_t id) {
  static const std::string kSql = std::string(kSnapshotRow) + "WHERE s.id = ?1";
  SqlQuery row(sql, kSql, id);
  if (!row.next()) fail(Code::corrupt, "{}: there is no snapshot {}", sql.path(), id);
  return read_snapshot(row);
}

void check_is_no_loop(const SqlConnection& sql, const std::vector<int64_t>& chain) {
  std::set<int64_t> seen;
  for (const int64_t id : chain)
    if (!seen.insert(id).second)
      fail(Code::corrupt, "{}: snapshot {} is its own parent's parent", sql.path(), id);
}

// What a walk from a snapshot to those below it must know of each row.
struct Step {
  std::optional<int64_t> parent;
  Kind kind;
};

// Calls `read`, which returns a Step, with the ids from `id` downwards.
template <typename Read>
void walk_down(const SqlConnection& sql, int64_t id, const Read& read) {
  std::vector<int64_t> chain;
  size_t depth = 0;
  for (std::optional<int64_t> next = id; next;) {
    chain.push_back(*next);
    const Step step = read(*next);
    if (step.kind == Kind::committed) ++depth;
    // Of other kinds there is at most one, at the top. A loop ends here, too.
    if (depth > limits::kSnapshotDepth || chain.size() > limits::kSnapshotDepth + 1) {
      check_is_no_loop(sql, chain);
      fail(Code::resource_exhausted, "more than {} layers, one over the other",
           limits::kSnapshotDepth);
    }
    next = step.parent;
  }
}

VariantRecord read_variant_of(SqlConnection& sql, int64_t id) {
  static const std::string kSql = std::string(kVariantRow) + "WHERE v.id = ?1";
  SqlQuery row(sql, kSql, id);
  if (!row.next()) fail(Code::corrupt, "{}: there is no variant {}", sql.path(), id);
  return read_variant(row);
}

void read_labels(SqlConnection& sql, SnapshotRecord& snapshot) {
  SqlQuery row(sql, "SELECT key, value FROM labels WHERE snapshot = ?1 ORDER BY key", snapshot.id);
  while (row.next()) snapshot.info.labels.emplace(row.text(0), row.text(1));
}

void write_labels(SqlConnection& sql, int64_t snapshot, const Labels& labels) {
  for (const auto& [key, value] : labels)
    SqlQuery(sql, "INSERT INTO labels(snapshot, key, value) VALUES (?1, ?2, ?3)", snapshot, key,
             value)
        .run();
}

std::optional<SnapshotRecord> first_snapshot(SqlConnection& sql, SqlQuery& row) {
  if (!row.next()) return std::nullopt;
  SnapshotRecord snapshot = read_snapshot(row);
  read_labels(sql, snapshot);
  return snapshot;
}

struct SnapshotColumns {
  explicit SnapshotColumns(const SnapshotRecord& snapshot) {
    if (snapshot.variant) variant = snapshot.variant->id;
    if (snapshot.usage) {
      size_bytes = snapshot.usage->size_bytes;
      inodes = snapshot.usage->inodes;
    }
  }
  std::optional<int64_t> variant;
  std::optional<uint64_t> size_bytes;
  std::optional<uint64_t> inodes;
};

}  // namespace

// --- layers ------------------------------------------------------------------------------------

std::optional<LayerRecord> Meta::Transaction::maybe_layer(const Digest& diff_id) {
  static const std::string kSql = std::string(kLayerRow) + "WHERE diff_id = ?1";
  SqlQuery row(impl_->sql(), kSql, diff_id);
  if (!row.next()) return std::nullopt;
  return read_layer(row);
}

std::vector<LayerRecord> Meta::Transaction::list_layers() {
  static const std::string kSql = std::string(kLayerRow) + "ORDER BY id";
  SqlQuery row(impl_->sql(), kSql);
  std::vector<LayerRecord> layers;
  while (row.next()) layers.push_back(read_layer(row));
  return layers;
}

std::vector<VariantRecord> Meta::Transaction::list_variants(int64_t layer) {
  static const std::string kSql = std::string(kVariantRow) + "WHERE v.layer = ?1 ORDER BY v.id";
  SqlQuery row(impl_->sql(), kSql, layer);
  std::vector<VariantRecord> variants;
  while (row.next()) variants.push_back(read_variant(row));
  return variants;
}

std::optional<VariantRecord> Meta::Transaction::maybe_variant(int64_t layer,
                                                              std::string_view name) {
  static const std::string kSql = std::string(kVariantRow) + "WHERE v.layer = ?1 AND v.name = ?2";
  SqlQuery row(impl_->sql(), kSql, layer, name);
  if (!row.next()) return std::nullopt;
  return read_variant(row);
}

int64_t Meta::Transaction::add_layer(const LayerRecord& layer) {
  SqlConnection& sql = impl_->writer();
  SqlQuery insert(sql,
                  "INSERT INTO layers(diff_id, tar_bytes, file_bytes, depends_on_lower, checksum)"
                  " VALUES (?1, ?2, ?3, ?4, ?5)",
                  layer.diff_id, layer.tar_bytes, layer.file_bytes, layer.depends_on_lower,
                  checksum_column(layer.checksum));
  if (!insert.try_run())
    fail(Code::already_exists, "layer {} is in the store already", layer.diff_id.str());
  return sql.last_id();
}

std::optional<Digest> Meta::Transaction::maybe_diff_id(const Digest& blob) {
  SqlQuery row(impl_->sql(),
               "SELECT l.diff_id FROM layer_blobs b JOIN layers l ON l.id = b.layer"
               " WHERE b.digest = ?1",
               blob);
  return row.next() ? std::optional(row.digest(0)) : std::nullopt;
}

void Meta::Transaction::add_layer_blob(const Digest& diff_id, const Digest& blob) {
  SqlQuery(impl_->writer(),
           "INSERT INTO layer_blobs(digest, layer) SELECT ?2, id FROM layers WHERE diff_id = ?1"
           " ON CONFLICT DO NOTHING",
           diff_id, blob)
      .run();
}

int64_t Meta::Transaction::add_variant(const VariantRecord& variant) {
  SqlConnection& sql = impl_->writer();
  SqlQuery insert(sql,
                  "INSERT INTO variants(layer, name, form, digest, size_bytes, inodes)"
                  " VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                  variant.layer, variant.name, form_text(variant.form), variant.digest,
                  variant.usage.size_bytes, variant.usage.inodes);
  if (!insert.try_run())
    fail(Code::already_exists, "{} of layer {} is in the store already", variant.name,
         variant.diff_id.str());
  return sql.last_id();
}

Meta::Transaction::Unused Meta::Transaction::list_unused_layers() {
  static const std::string kSql =
      std::string(kLayerRow) +
      "WHERE NOT EXISTS (SELECT 1 FROM variants v JOIN snapshots s ON s.variant = v.id"
      " WHERE v.layer = layers.id) ORDER BY id";
  Unused unused;
  {
    SqlQuery row(impl_->sql(), kSql);
    while (row.next()) unused.layers.push_back(read_layer(row));
  }
  for (const LayerRecord& layer : unused.layers) {
    std::vector<VariantRecord> variants = list_variants(layer.id);
    unused.variants.insert(unused.variants.end(), std::make_move_iterator(variants.begin()),
                           std::make_move_iterator(variants.end()));
  }
  return unused;
}

Meta::Transaction::Unused Meta::Transaction::remove_unused_layers() {
  Unused unused = list_unused_layers();
  // The variants go with them (ON DELETE CASCADE).
  for (const LayerRecord& layer : unused.layers)
    SqlQuery(impl_->writer(), "DELETE FROM layers WHERE id = ?1", layer.id).run();
  return unused;
}

// --- snapshots ---------------------------------------------------------------------------------

std::optional<SnapshotRecord> Meta::Transaction::maybe_snapshot(std::string_view space,
                                                                std::string_view key) {
  static const std::string kSql = std::string(kSnapshotRow) + "WHERE s.space = ?1 AND s.key = ?2";
  SqlConnection& sql = impl_->sql();
  SqlQuery row(sql, kSql, space, key);
  return first_snapshot(sql, row);
}

SnapshotRecord Meta::Transaction::snapshot(int64_t id) {
  SqlConnection& sql = impl_->sql();
  SnapshotRecord snapshot = read_snapshot_of(sql, id);
  read_labels(sql, snapshot);
  return snapshot;
}

std::vector<SnapshotRecord> Meta::Transaction::list_snapshots(std::string_view space, int64_t after,
                                                              size_t limit) {
  // The plus keeps SQLite from the index of (space, key), by which it would have to sort.
  static const std::string kSql =
      std::string(kSnapshotRow) +
      "WHERE s.id > ?1 AND (?2 = '' OR +s.space = ?2) ORDER BY s.id LIMIT ?3";
  constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  SqlConnection& sql = impl_->sql();
  std::vector<SnapshotRecord> snapshots;
  {
    SqlQuery row(sql, kSql, after, space, std::min<uint64_t>(limit, kMost));
    while (row.next()) snapshots.push_back(read_snapshot(row));
  }
  for (SnapshotRecord& snapshot : snapshots) read_labels(sql, snapshot);
  return snapshots;
}

void Meta::Transaction::for_each_snapshot(std::string_view space,
                                          const std::function<void(const SnapshotRecord&)>& visit) {
  constexpr size_t kAtOnce = 1000;
  int64_t last = 0;
  for (;;) {
    const std::vector<SnapshotRecord> page = list_snapshots(space, last, kAtOnce);
    if (page.empty()) return;
    for (const SnapshotRecord& snapshot : page) visit(snapshot);
    last = page.back().id;
  }
}

std::vector<SnapshotRecord> Meta::Transaction::chain(int64_t id) {
  SqlConnection& sql = impl_->sql();
  std::vector<SnapshotRecord> chain;
  walk_down(sql, id, [&](int64_t at) {
    chain.push_back(read_snapshot_of(sql, at));
    return Step{.parent = chain.back().parent, .kind = chain.back().info.kind};
  });
  return chain;
}

std::vector<Meta::Transaction::Content> Meta::Transaction::list_contents(int64_t id) {
  SqlConnection& sql = impl_->sql();
  std::vector<Content> contents;
  walk_down(sql, id, [&](int64_t at) {
    SqlQuery row(sql, "SELECT parent, kind, variant FROM snapshots WHERE id = ?1", at);
    if (!row.next()) fail(Code::corrupt, "{}: there is no snapshot {}", sql.path(), at);
    Content& content = contents.emplace_back(Content{.snapshot = at, .variant = {}});
    if (!row.is_null(2)) content.variant = read_variant_of(sql, row.integer(2));
    return Step{.parent = row.maybe_integer(0), .kind = kind_of(row.text(1))};
  });
  return contents;
}

bool Meta::Transaction::has_children(int64_t id) {
  SqlQuery row(impl_->sql(), "SELECT 1 FROM snapshots WHERE parent = ?1 LIMIT 1", id);
  return row.next();
}

int64_t Meta::Transaction::add_snapshot(const SnapshotRecord& snapshot) {
  SqlConnection& sql = impl_->writer();
  const SnapshotColumns columns(snapshot);
  const SnapshotInfo& info = snapshot.info;
  int64_t id = 0;
  {
    SqlQuery insert(sql,
                    "INSERT INTO snapshots(space, key, kind, parent, variant, size_bytes, inodes,"
                    " created, updated) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    snapshot.space, info.name, to_string(info.kind), snapshot.parent,
                    columns.variant, columns.size_bytes, columns.inodes, info.created,
                    info.updated);
    if (!insert.try_run()) fail(Code::already_exists, "snapshot {} is there already", info.name);
    id = sql.last_id();
  }
  write_labels(sql, id, info.labels);
  return id;
}

void Meta::Transaction::update_snapshot(const SnapshotRecord& snapshot) {
  SqlConnection& sql = impl_->writer();
  const SnapshotColumns columns(snapshot);
  const SnapshotInfo& info = snapshot.info;
  SqlQuery update(sql,
                  "UPDATE snapshots SET key = ?2, kind = ?3, parent = ?4, variant = ?5,"
                  " size_bytes = ?6, inodes = ?7, created = ?8, updated = ?9 WHERE id = ?1",
                  snapshot.id, info.name, to_string(info.kind), snapshot.parent, columns.variant,
                  columns.size_bytes, columns.inodes, info.created, info.updated);
  if (!update.try_run()) fail(Code::already_exists, "snapshot {} is there already", info.name);
  if (sql.changes() == 0)
    fail(Code::corrupt, "{}: there is no snapshot {}", sql.path(), snapshot.id);
  SqlQuery(sql, "DELETE FROM labels WHERE snapshot = ?1", snapshot.id).run();
  write_labels(sql, snapshot.id, info.labels);
}

void Meta::Transaction::remove_snapshot(int64_t id) {
  SqlQuery(impl_->writer(), "DELETE FROM snapshots WHERE id = ?1", id).run();
}

}  // namespace veneer
