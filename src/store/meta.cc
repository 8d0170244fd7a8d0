#include "store/meta.h"

#include <algorithm>
#include <exception>

#include "base/at.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/lock.h"
#include "store/meta_transaction.h"

namespace veneer {

namespace {

constexpr PathView kLogName = "store.db-wal";
constexpr uint64_t kLogRoom = 2 << 20;  // twice what it has when it is written back

// "VNER". SQLite keeps it in the file for file(1) and for us.
constexpr int64_t kApplicationId = 0x564e4552;
constexpr int64_t kSchemaVersion = 3;
constexpr size_t kIdentityBytes = 16;
// Idle connections beyond these are closed.
constexpr size_t kIdleConnections = 8;

// docs/FORMAT.md explains it. Ids are never used again (AUTOINCREMENT): they name directories and
// mounts.
constexpr const char* kTables = R"(
CREATE TABLE store(
  identity TEXT NOT NULL
) STRICT;
CREATE TABLE layers(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  diff_id BLOB NOT NULL UNIQUE CHECK (length(diff_id) = 32),
  tar_bytes INTEGER NOT NULL,
  file_bytes INTEGER NOT NULL,
  depends_on_lower INTEGER NOT NULL,
  checksum INTEGER
) STRICT;
CREATE TABLE variants(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  layer INTEGER NOT NULL REFERENCES layers(id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  form TEXT NOT NULL CHECK (form IN ('packed', 'directory')),
  digest BLOB CHECK (length(digest) = 32),
  size_bytes INTEGER NOT NULL,
  inodes INTEGER NOT NULL,
  UNIQUE (layer, name)
) STRICT;
CREATE TABLE snapshots(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  space TEXT NOT NULL,
  key TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('view', 'active', 'committed')),
  parent INTEGER REFERENCES snapshots(id),
  variant INTEGER REFERENCES variants(id),
  size_bytes INTEGER,
  inodes INTEGER,
  created INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  UNIQUE (space, key)
) STRICT;
CREATE INDEX snapshots_parent ON snapshots(parent) WHERE parent IS NOT NULL;
CREATE INDEX snapshots_variant ON snapshots(variant) WHERE variant IS NOT NULL;
CREATE TABLE labels(
  snapshot INTEGER NOT NULL REFERENCES snapshots(id) ON DELETE CASCADE,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (snapshot, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE images(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  config BLOB NOT NULL UNIQUE CHECK (length(config) = 32),
  top INTEGER REFERENCES snapshots(id),
  added INTEGER NOT NULL
) STRICT;
CREATE INDEX images_top ON images(top) WHERE top IS NOT NULL;
CREATE TABLE image_names(
  name TEXT NOT NULL PRIMARY KEY,
  image INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX image_names_image ON image_names(image);
CREATE TABLE containers(
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  image INTEGER NOT NULL REFERENCES images(id),
  snapshot INTEGER NOT NULL UNIQUE REFERENCES snapshots(id),
  created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX containers_image ON containers(image);
CREATE TABLE blobs(
  digest BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
  size_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
)";
// From older schemas. Who has one open and knows no other goes on: its statements name their
// columns.
constexpr const char* kSinceSchema2 = "ALTER TABLE layers ADD COLUMN checksum INTEGER";
constexpr const char* kSinceSchema3 = R"(
CREATE TABLE layer_blobs(
  digest BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
  layer INTEGER NOT NULL REFERENCES layers(id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX layer_blobs_layer ON layer_blobs(layer);
)";

int64_t query_integer(SqlConnection& sql, std::string_view text) {
  SqlQuery query(sql, text);
  VENEER_CHECK(query.next());
  return query.integer(0);
}

// 0 for an empty database. Throws for one that is not ours to use.
int64_t schema_of(SqlConnection& sql) {
  const int64_t application = query_integer(sql, "PRAGMA application_id");
  const int64_t version = query_integer(sql, "PRAGMA user_version");
  if (application == kApplicationId && version > kSchemaVersion)
    fail(Code::unsupported, "{}: made by a newer Veneer (schema {}, this one knows {})", sql.path(),
         version, kSchemaVersion);
  if (application == kApplicationId && version > 0) return version;
  if (application != 0 || version != 0 ||
      query_integer(sql, "SELECT count(*) FROM sqlite_schema") != 0)
    fail(Code::corrupt, "{}: this is not the database of a store", sql.path());
  return 0;
}

}  // namespace

// --- connections -------------------------------------------------------------------------------

Meta::Connection::Connection(const Layout& layout, bool is_volatile)
    : lock_(open_at(layout.root(), kMetaLockName, O_RDWR | O_CREAT, 0600)),
      sql_((make_file(layout), database_path(layout))) {
  sql_.run("BEGIN");  // another process may be making it: one look at all of it
  const int64_t schema = schema_of(sql_);
  sql_.run("COMMIT");
  sql_.run(is_volatile ? "PRAGMA synchronous = OFF" : "PRAGMA synchronous = FULL");
  // Whoever opens the store alone, as most verbs do, reads the log: keep it short.
  sql_.run(
      "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA wal_autocheckpoint = 256");
  if (schema != kSchemaVersion) make_schema(layout);
}

void Meta::Connection::make_file(const Layout& layout) {
  if (exists_at(layout.root(), kDatabaseName)) return;
  // SQLite would make it with mode 0644. A node is made without a descriptor, as closing one would
  // end all locks that other connections of this process have on the file (fcntl(2)).
  lock();
  if (!exists_at(layout.root(), kDatabaseName))
    make_node_at(layout.root(), kDatabaseName, S_IFREG | 0600, 0);
  unlock();
}

void Meta::Connection::make_schema(const Layout& layout) {
  lock();
  {
    SqlQuery query(sql_, "PRAGMA journal_mode = WAL");
    if (!query.next() || query.text(0) != "wal")
      fail(Code::unsupported, "{}: no write-ahead log on this file system", sql_.path());
  }
  sql_.run("BEGIN IMMEDIATE");
  const int64_t schema = schema_of(sql_);
  if (schema == 0) {
    sql_.run(kTables);
    SqlQuery(sql_, "INSERT INTO store(identity) VALUES (?1)", random_name()).run();
  } else if (schema == 1) {
    sql_.run(kSinceSchema2);
  }
  if (schema < 3) sql_.run(kSinceSchema3);
  sql_.run(fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}", kApplicationId,
                       kSchemaVersion));
  sql_.run("COMMIT");
  // What removes something writes to the log first, and has to be able to when the disk is full.
  const UniqueFd log = open_at(layout.root(), kLogName, O_WRONLY);
  reserve_room(log.get(), kLogRoom);
  unlock();
}

void Meta::Connection::lock() {
  lock_fd(lock_.get());
}

void Meta::Connection::unlock() noexcept {
  unlock_fd(lock_.get());
}

std::unique_ptr<Meta::Connection> Meta::State::take() {
  {
    const std::lock_guard guard(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Connection> connection = std::move(idle_.back());
      idle_.pop_back();
      return connection;
    }
  }
  return std::make_unique<Connection>(layout, is_volatile);
}

void Meta::State::give_back(std::unique_ptr<Connection> connection) {
  const std::lock_guard guard(mutex_);
  if (idle_.size() < kIdleConnections) idle_.push_back(std::move(connection));
}

// --- the database ------------------------------------------------------------------------------

Meta::Meta(const Layout& layout, bool is_volatile)
    : state_(std::make_unique<State>(layout, is_volatile)) {
  std::unique_ptr<Connection> connection = state_->take();
  {
    SqlQuery query(connection->sql(), "SELECT identity FROM store");
    if (query.next()) state_->identity = query.text(0);
  }
  const std::string& identity = state_->identity;
  if (identity.size() != kIdentityBytes ||
      identity.find_first_not_of("0123456789abcdef") != std::string::npos)
    fail(Code::corrupt, "{}: the identity is damaged", connection->sql().path());
  state_->give_back(std::move(connection));
}

Meta::~Meta() = default;

const std::string& Meta::identity() const {
  return state_->identity;
}

Meta::Transaction Meta::read() {
  return Transaction(std::make_unique<Transaction::Impl>(*state_, false));
}

Meta::Transaction Meta::write() {
  return Transaction(std::make_unique<Transaction::Impl>(*state_, true));
}

// --- transactions ------------------------------------------------------------------------------

Meta::Transaction::Impl::Impl(State& the_state, bool writer)
    : state(the_state), is_writer(writer), connection(state.take()) {
  if (is_writer) connection->lock();
  try {
    SqlQuery(connection->sql(), is_writer ? "BEGIN IMMEDIATE" : "BEGIN").run();
  } catch (const Error&) {
    end();
    throw;
  }
}

SqlConnection& Meta::Transaction::Impl::sql() {
  VENEER_CHECK(connection != nullptr);
  SqlConnection& sql = connection->sql();
  // SQLite ends a transaction by itself after some errors: what came now would stand alone.
  if (!sql.is_in_transaction())
    fail(Code::io, "{}: rolled back after an earlier error", sql.path());
  return sql;
}

SqlConnection& Meta::Transaction::Impl::writer() {
  VENEER_CHECK(is_writer);
  return sql();
}

void Meta::Transaction::Impl::end() noexcept {
  if (!connection) return;
  SqlConnection& sql = connection->sql();
  try {
    if (sql.is_in_transaction()) SqlQuery(sql, "ROLLBACK").run();
  } catch (const std::exception&) {
    // Closing the connection rolls back.
  }
  const bool is_clean = !sql.is_in_transaction();
  if (!is_clean) {
    connection.reset();  // and so the lock
    return;
  }
  if (is_writer) connection->unlock();
  state.give_back(std::move(connection));
}

Meta::Transaction::Transaction(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Meta::Transaction::Transaction(Transaction&&) noexcept = default;
Meta::Transaction::~Transaction() = default;

void Meta::Transaction::commit() {
  SqlConnection& sql = impl_->sql();
  failpoint::point("meta.commit");
  SqlQuery(sql, "COMMIT").run();  // the commit point
  impl_->end();
  failpoint::point("meta.committed");
}

}  // namespace veneer
