// Rows of store/meta.h that were lost, by what is left of those that referred to them.

#include <utility>

#include "base/error.h"
#include "base/limits.h"
#include "store/meta.h"
#include "store/meta_sql.h"
#include "store/meta_transaction.h"

namespace veneer {

namespace {

std::vector<std::string> texts_of(SqlConnection& sql, std::string_view query, int64_t id) {
  std::vector<std::string> texts;
  SqlQuery row(sql, query, id);
  while (row.next()) texts.push_back(row.text(0));
  return texts;
}

}  // namespace

std::vector<Meta::Transaction::Link> Meta::Transaction::list_links(const ImageRecord& image) {
  std::vector<Link> links;
  std::optional<int64_t> next = image.top;
  while (next && links.size() <= limits::kSnapshotDepth) {
    links.push_back({.snapshot = *next, .variant = {}});
    SqlQuery row(impl_->sql(), "SELECT parent, variant FROM snapshots WHERE id = ?1", *next);
    if (!row.next()) break;
    next = row.maybe_integer(0);
    links.back().variant = row.maybe_integer(1);
  }
  return links;
}

std::vector<Meta::Transaction::LostImage> Meta::Transaction::list_lost_images() {
  SqlConnection& sql = impl_->sql();
  std::vector<LostImage> lost;
  {
    SqlQuery row(sql,
                 "SELECT image FROM image_names WHERE image NOT IN (SELECT id FROM images) UNION"
                 " SELECT image FROM containers WHERE image NOT IN (SELECT id FROM images)");
    while (row.next()) lost.push_back({.id = row.integer(0), .names = {}, .tops = {}});
  }
  for (LostImage& image : lost) {
    image.names =
        texts_of(sql, "SELECT name FROM image_names WHERE image = ?1 ORDER BY name", image.id);
    image.tops = texts_of(sql,
                          "SELECT DISTINCT p.key FROM containers c"
                          " JOIN snapshots s ON s.id = c.snapshot"
                          " JOIN snapshots p ON p.id = s.parent WHERE c.image = ?1",
                          image.id);
  }
  return lost;
}

int64_t Meta::Transaction::restore_snapshot(const SnapshotRecord& snapshot) {
  SqlConnection& sql = impl_->writer();
  const auto id = [&]() -> std::optional<int64_t> {
    SqlQuery row(sql, "SELECT id FROM snapshots WHERE space = ?1 AND key = ?2", snapshot.space,
                 snapshot.info.name);
    if (!row.next()) return std::nullopt;
    return row.integer(0);
  }();
  const VariantRecord& variant = snapshot.variant.value();
  if (!id) {
    std::optional<int64_t> wanted;
    if (snapshot.id != 0) wanted = snapshot.id;
    SqlQuery(sql,
             "INSERT INTO snapshots(id, space, key, kind, parent, variant, size_bytes, inodes,"
             " created, updated) VALUES (?1, ?2, ?3, 'committed', ?4, ?5, ?6, ?7, ?8, ?8)",
             wanted, snapshot.space, snapshot.info.name, snapshot.parent, variant.id,
             variant.usage.size_bytes, variant.usage.inodes, snapshot.info.created)
        .run();
    return sql.last_id();
  }
  // Others may have had the same variant.
  SqlQuery(sql,
           "UPDATE snapshots SET variant = ?2 WHERE variant ="
           " (SELECT variant FROM snapshots WHERE id = ?1) AND variant NOT IN"
           " (SELECT v.id FROM variants v JOIN layers l ON l.id = v.layer)",
           *id, variant.id)
      .run();
  SqlQuery(sql,
           "UPDATE snapshots SET parent = ?2, variant = ?3, size_bytes = ?4, inodes = ?5"
           " WHERE id = ?1",
           *id, snapshot.parent, variant.id, variant.usage.size_bytes, variant.usage.inodes)
      .run();
  if (snapshot.id != 0 && snapshot.id != *id)
    SqlQuery(sql,
             "UPDATE snapshots SET parent = ?2 WHERE parent = ?1"
             " AND ?1 NOT IN (SELECT id FROM snapshots)",
             snapshot.id, *id)
        .run();
  return *id;
}

void Meta::Transaction::restore_image(const ImageRecord& image) {
  SqlQuery(impl_->writer(),
           "INSERT INTO images(id, config, top, added) VALUES (?1, ?2, ?3, ?4)"
           " ON CONFLICT (id) DO UPDATE SET top = excluded.top",
           image.id, image.config, image.top, image.added)
      .run();
}

std::vector<Meta::Transaction::LostSnapshot> Meta::Transaction::list_lost_snapshots() {
  std::vector<LostSnapshot> lost;
  SqlQuery row(impl_->sql(),
               "SELECT c.snapshot, c.name FROM containers c JOIN images i ON i.id = c.image"
               " WHERE c.snapshot NOT IN (SELECT id FROM snapshots)"
               " AND (i.top IS NULL OR i.top IN (SELECT id FROM snapshots))");
  while (row.next()) lost.push_back({.id = row.integer(0), .container = row.text(1)});
  return lost;
}

void Meta::Transaction::restore_container_snapshot(int64_t id) {
  SqlQuery(impl_->writer(),
           "INSERT INTO snapshots(id, space, key, kind, parent, created, updated)"
           " SELECT c.snapshot, 'local', c.id, 'active', i.top, c.created, c.created"
           " FROM containers c JOIN images i ON i.id = c.image WHERE c.snapshot = ?1",
           id)
      .run();
}

}  // namespace veneer
