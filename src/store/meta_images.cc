// The records of store/meta.h as rows: images, containers and blobs.

#include <utility>

#include "base/error.h"
#include "store/meta.h"
#include "store/meta_sql.h"
#include "store/meta_transaction.h"

namespace veneer {

namespace {

constexpr std::string_view kImageRow = "SELECT i.id, i.config, i.top, i.added FROM images i ";
constexpr std::string_view kContainerRow =
    "SELECT c.id, c.name, i.config, c.snapshot, c.created FROM containers c"
    " JOIN images i ON i.id = c.image ";

// Without its names.
ImageRecord read_image(const SqlQuery& row) {
  ImageRecord image;
  image.id = row.integer(0);
  image.config = row.digest(1);
  image.top = row.maybe_integer(2);
  image.added = row.time(3);
  return image;
}

void read_names(SqlConnection& sql, ImageRecord& image) {
  SqlQuery row(sql, "SELECT name FROM image_names WHERE image = ?1 ORDER BY name", image.id);
  while (row.next()) image.names.push_back(row.text(0));
}

std::optional<ImageRecord> first_image(SqlConnection& sql, SqlQuery& row) {
  if (!row.next()) return std::nullopt;
  ImageRecord image = read_image(row);
  read_names(sql, image);
  return image;
}

ContainerRecord read_container(const SqlQuery& row) {
  return {.id = row.text(0),
          .name = row.text(1),
          .image = row.digest(2),
          .snapshot = row.integer(3),
          .created = row.time(4)};
}

std::optional<ContainerRecord> first_container(SqlQuery& row) {
  if (!row.next()) return std::nullopt;
  return read_container(row);
}

}  // namespace

// --- images ------------------------------------------------------------------------------------

std::optional<ImageRecord> Meta::Transaction::maybe_image(const Digest& config) {
  static const std::string kSql = std::string(kImageRow) + "WHERE i.config = ?1";
  SqlConnection& sql = impl_->sql();
  SqlQuery row(sql, kSql, config);
  return first_image(sql, row);
}

std::optional<ImageRecord> Meta::Transaction::maybe_image_by_name(std::string_view name) {
  static const std::string kSql =
      std::string(kImageRow) + "JOIN image_names n ON n.image = i.id WHERE n.name = ?1";
  SqlConnection& sql = impl_->sql();
  SqlQuery row(sql, kSql, name);
  return first_image(sql, row);
}

std::vector<ImageRecord> Meta::Transaction::list_images() {
  static const std::string kSql = std::string(kImageRow) + "ORDER BY i.added DESC, i.id DESC";
  SqlConnection& sql = impl_->sql();
  std::vector<ImageRecord> images;
  {
    SqlQuery row(sql, kSql);
    while (row.next()) images.push_back(read_image(row));
  }
  for (ImageRecord& image : images) read_names(sql, image);
  return images;
}

int64_t Meta::Transaction::add_image(const ImageRecord& image) {
  SqlConnection& sql = impl_->writer();
  SqlQuery insert(sql, "INSERT INTO images(config, top, added) VALUES (?1, ?2, ?3)", image.config,
                  image.top, image.added);
  if (!insert.try_run())
    fail(Code::already_exists, "image {} is in the store already", image.config.str());
  return sql.last_id();
}

void Meta::Transaction::set_image_name(std::string_view name, int64_t image) {
  SqlQuery(impl_->writer(),
           "INSERT INTO image_names(name, image) VALUES (?1, ?2)"
           " ON CONFLICT (name) DO UPDATE SET image = excluded.image",
           name, image)
      .run();
}

void Meta::Transaction::remove_image_name(std::string_view name) {
  SqlQuery(impl_->writer(), "DELETE FROM image_names WHERE name = ?1", name).run();
}

void Meta::Transaction::remove_image(int64_t id) {
  SqlQuery(impl_->writer(), "DELETE FROM images WHERE id = ?1", id).run();
}

bool Meta::Transaction::is_image_top(int64_t snapshot) {
  SqlQuery row(impl_->sql(), "SELECT 1 FROM images WHERE top = ?1 LIMIT 1", snapshot);
  return row.next();
}

// --- containers --------------------------------------------------------------------------------

std::optional<ContainerRecord> Meta::Transaction::maybe_container(std::string_view id) {
  static const std::string kSql = std::string(kContainerRow) + "WHERE c.id = ?1";
  SqlQuery row(impl_->sql(), kSql, id);
  return first_container(row);
}

std::optional<ContainerRecord> Meta::Transaction::maybe_container_by_name(std::string_view name) {
  static const std::string kSql = std::string(kContainerRow) + "WHERE c.name = ?1";
  SqlQuery row(impl_->sql(), kSql, name);
  return first_container(row);
}

std::vector<ContainerRecord> Meta::Transaction::list_containers() {
  static const std::string kSql =
      std::string(kContainerRow) + "ORDER BY c.created DESC, c.snapshot DESC";
  SqlQuery row(impl_->sql(), kSql);
  std::vector<ContainerRecord> containers;
  while (row.next()) containers.push_back(read_container(row));
  return containers;
}

size_t Meta::Transaction::count_containers(int64_t image) {
  SqlQuery row(impl_->sql(), "SELECT count(*) FROM containers WHERE image = ?1", image);
  return row.next() ? static_cast<size_t>(row.integer(0)) : 0;
}

std::vector<std::string> Meta::Transaction::list_container_ids(std::string_view prefix,
                                                               size_t limit) {
  // "g" is after all digits.
  SqlQuery row(impl_->sql(),
               "SELECT id FROM containers WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT ?2",
               prefix, static_cast<int64_t>(limit));
  std::vector<std::string> ids;
  while (row.next()) ids.push_back(row.text(0));
  return ids;
}

void Meta::Transaction::add_container(const ContainerRecord& container) {
  SqlConnection& sql = impl_->writer();
  const std::optional<ImageRecord> image = maybe_image(container.image);
  if (!image) fail(Code::not_found, "no image {}", container.image.str());
  SqlQuery insert(sql,
                  "INSERT INTO containers(id, name, image, snapshot, created)"
                  " VALUES (?1, ?2, ?3, ?4, ?5)",
                  container.id, container.name, image->id, container.snapshot, container.created);
  if (!insert.try_run())
    fail(Code::already_exists, "container {} is there already", container.name);
}

void Meta::Transaction::remove_container(std::string_view id) {
  SqlQuery(impl_->writer(), "DELETE FROM containers WHERE id = ?1", id).run();
}

// --- blobs -------------------------------------------------------------------------------------

std::optional<uint64_t> Meta::Transaction::maybe_blob(const Digest& digest) {
  SqlQuery row(impl_->sql(), "SELECT size_bytes FROM blobs WHERE digest = ?1", digest);
  if (!row.next()) return std::nullopt;
  return row.size(0);
}

std::vector<Digest> Meta::Transaction::list_blobs() {
  SqlQuery row(impl_->sql(), "SELECT digest FROM blobs ORDER BY digest");
  std::vector<Digest> digests;
  while (row.next()) digests.push_back(row.digest(0));
  return digests;
}

void Meta::Transaction::add_blob(const Digest& digest, uint64_t size_bytes) {
  SqlQuery(impl_->writer(),
           "INSERT INTO blobs(digest, size_bytes) VALUES (?1, ?2) ON CONFLICT DO NOTHING", digest,
           size_bytes)
      .run();
}

void Meta::Transaction::remove_blob(const Digest& digest) {
  SqlQuery(impl_->writer(), "DELETE FROM blobs WHERE digest = ?1", digest).run();
}

}  // namespace veneer
