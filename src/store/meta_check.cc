#include "store/meta_check.h"

#include <array>
#include <string_view>

#include "base/at.h"
#include "base/error.h"
#include "base/lock.h"
#include "store/meta_sql.h"

namespace veneer {

std::vector<std::string> find_database_damage(const Layout& layout) {
  SqlConnection sql(database_path(layout));
  std::vector<std::string> damage;
  try {
    SqlQuery row(sql, "PRAGMA integrity_check");
    while (row.next())
      if (const std::string text = row.text(0); text != "ok") damage.push_back(text);
  } catch (const Error& error) {
    if (error.code() != Code::corrupt) throw;
    damage.push_back(error.message());
  }
  return damage;
}

namespace {

// Each reference of the schema: who has it, and what is not there.
struct Reference {
  std::string_view table;
  std::string_view target;
  std::string_view sql;  // id, name, whether it is lone
};
constexpr std::array<Reference, 9> kReferences = {{
    {"variants", "layers",
     "SELECT id, name || ' of a layer', NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.variant ="
     " v.id) FROM variants v WHERE layer NOT IN (SELECT id FROM layers)"},
    {"layer_blobs", "layers",
     "SELECT 0, 'blob ' || lower(hex(digest)) || ' of layer ' || layer, 1 FROM layer_blobs"
     " WHERE layer NOT IN (SELECT id FROM layers)"},
    {"snapshots", "snapshots",
     "SELECT id, 'snapshot ' || space || '/' || key, 0 FROM snapshots WHERE parent IS NOT NULL AND"
     " parent NOT IN (SELECT id FROM snapshots)"},
    {"snapshots", "variants",
     "SELECT id, 'snapshot ' || space || '/' || key, 0 FROM snapshots WHERE variant IS NOT NULL AND"
     " variant NOT IN (SELECT id FROM variants)"},
    {"labels", "snapshots",
     "SELECT 0, 'label ' || key || ' of snapshot ' || snapshot, 1 FROM labels"
     " WHERE snapshot NOT IN (SELECT id FROM snapshots)"},
    {"images", "snapshots",
     "SELECT id, 'image sha256:' || lower(hex(config)), 0 FROM images WHERE top IS NOT NULL AND"
     " top NOT IN (SELECT id FROM snapshots)"},
    {"image_names", "images",
     "SELECT image, 'image name ' || name, 0 FROM image_names"
     " WHERE image NOT IN (SELECT id FROM images)"},
    {"containers", "images",
     "SELECT snapshot, 'container ' || name, 0 FROM containers"
     " WHERE image NOT IN (SELECT id FROM images)"},
    {"containers", "snapshots",
     "SELECT snapshot, 'container ' || name, 0 FROM containers"
     " WHERE snapshot NOT IN (SELECT id FROM snapshots)"},
}};

}  // namespace

std::vector<BrokenReference> find_broken_references(const Layout& layout) {
  SqlConnection sql(database_path(layout));
  std::vector<BrokenReference> broken;
  sql.run("BEGIN");
  for (const Reference& reference : kReferences) {
    SqlQuery row(sql, reference.sql);
    while (row.next())
      broken.push_back({.table = std::string(reference.table),
                        .target = std::string(reference.target),
                        .row = row.integer(0),
                        .name = row.text(1),
                        .is_lone = row.boolean(2),
                        .snapshots = {}});
  }
  for (BrokenReference& one : broken) {
    if (one.table == "snapshots") one.snapshots.push_back(one.row);
    if (one.table != "variants") continue;
    SqlQuery row(sql, "SELECT id FROM snapshots WHERE variant = ?1 ORDER BY id", one.row);
    while (row.next()) one.snapshots.push_back(row.integer(0));
  }
  return broken;
}

// A transaction that writes, with the writers' lock.
class LoneRows::Writer {
 public:
  Writer(const Layout& layout, bool is_volatile)
      : lock_(open_at(layout.root(), kMetaLockName, O_RDWR | O_CREAT, 0600)),
        sql_(database_path(layout)) {
    lock_fd(lock_.get());
    sql_.run(is_volatile ? "PRAGMA synchronous = OFF" : "PRAGMA synchronous = FULL");
    sql_.run("PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; BEGIN IMMEDIATE");
  }

  template <typename... Values>
  int64_t run(std::string_view text, const Values&... values) {
    SqlQuery(sql_, text, values...).run();
    return sql_.changes();
  }
  void commit() { sql_.run("COMMIT"); }  // the commit point; without it, closing rolls back

 private:
  UniqueFd lock_;
  SqlConnection sql_;
};

int64_t LoneRows::remove_lone_rows() const {
  constexpr std::array<std::string_view, 3> kDeletes = {
      "DELETE FROM labels WHERE snapshot NOT IN (SELECT id FROM snapshots)",
      "DELETE FROM layer_blobs WHERE layer NOT IN (SELECT id FROM layers)",
      "DELETE FROM variants WHERE layer NOT IN (SELECT id FROM layers) AND id NOT IN"
      " (SELECT variant FROM snapshots WHERE variant IS NOT NULL)"};
  Writer writer(layout_, is_volatile_);
  int64_t count = 0;
  for (const std::string_view text : kDeletes) count += writer.run(text);
  writer.commit();
  return count;
}

bool LoneRows::remove_variant(int64_t variant) const {
  Writer writer(layout_, is_volatile_);
  const int64_t count = writer.run(
      "DELETE FROM variants WHERE id = ?1 AND NOT EXISTS"
      " (SELECT 1 FROM snapshots WHERE variant = ?1)",
      variant);
  writer.commit();
  return count > 0;
}

void LoneRows::set_digest(int64_t variant, const Digest& digest) const {
  Writer writer(layout_, is_volatile_);
  writer.run("UPDATE variants SET digest = ?2 WHERE id = ?1", variant, digest);
  writer.commit();
}

void LoneRows::set_file_bytes(int64_t layer, uint64_t file_bytes) const {
  Writer writer(layout_, is_volatile_);
  writer.run("UPDATE layers SET file_bytes = ?2 WHERE id = ?1", layer, file_bytes);
  writer.commit();
}

}  // namespace veneer
