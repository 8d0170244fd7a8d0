#include "store/meta_check.h"

#include <array>
#include <string_view>

#include "base/at.h"
#include "base/error.h"
#include "base/lock.h"
#include "store/meta_sql.h"

namespace veneer {

namespace {

constexpr PathView kLockName = "store.lock";

std::string database_path(const Layout& layout) {
  return fmt::format("{}/store.db", layout.path());
}

}  // namespace

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

std::vector<BrokenReference> find_broken_references(const Layout& layout) {
  SqlConnection sql(database_path(layout));
  std::vector<BrokenReference> broken;
  SqlQuery row(sql, "PRAGMA foreign_key_check");
  while (row.next())
    broken.push_back({.table = row.text(0), .row = row.maybe_integer(1), .target = row.text(2)});
  return broken;
}

bool is_removable(const BrokenReference& reference) {
  return reference.table == "labels" || reference.table == "image_names" ||
         reference.table == "variants";
}

// A transaction that writes, with the writers' lock.
class LoneRows::Writer {
 public:
  Writer(const Layout& layout, bool is_volatile)
      : lock_(open_at(layout.root(), kLockName, O_RDWR | O_CREAT, 0600)),
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
      "DELETE FROM image_names WHERE image NOT IN (SELECT id FROM images)",
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

}  // namespace veneer
