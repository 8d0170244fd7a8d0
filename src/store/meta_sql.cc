#include "store/meta_sql.h"

#include <cstring>
#include <limits>

#include "base/at.h"
#include "base/error.h"
#include "store/meta_vfs.h"

namespace veneer {

namespace {

constexpr int kBusyTimeoutMs = 30'000;

Code to_code(int result) {
  switch (result) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID:
      return Code::already_exists;
    case SQLITE_CONSTRAINT_FOREIGNKEY:
      return Code::failed_precondition;
    default:
      break;
  }
  switch (result & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR:  // the statements are right: the schema that they meet is not
      return Code::corrupt;
    case SQLITE_NOMEM:
    case SQLITE_TOOBIG:
      return Code::resource_exhausted;
    case SQLITE_BUSY:
      return Code::unavailable;
    default:
      return Code::io;
  }
}

SysError full_error(const std::string& path) {
  SysError error(ENOSPC, path);
  const std::string directory = path.substr(0, path.find_last_of('/'));
  error.add_context(describe_room(directory, directory));
  return error;
}

}  // namespace

std::string database_path(const Layout& layout) {
  return fmt::format("{}/{}", layout.path(), kDatabaseName.c_str());
}

SqlConnection::SqlConnection(const std::string& path) : path_(path) {
  sqlite3* database = nullptr;
  const int result = sqlite3_open_v2(
      path.c_str(), &database,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
      failpoint_vfs());
  database_.reset(database);
  if (database == nullptr) throw std::bad_alloc();
  if (result != SQLITE_OK) fail_with(sqlite3_extended_errcode(database));
  (void)sqlite3_extended_result_codes(database, 1);
  (void)sqlite3_busy_timeout(database, kBusyTimeoutMs);
  // The last to close would write the log into the database and delete it: three syncs for each
  // command, where a commit is one.
  for (const int option : {SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, SQLITE_DBCONFIG_DEFENSIVE})
    if (sqlite3_db_config(database, option, 1, nullptr) != SQLITE_OK)
      fail(Code::unsupported, "{}: SQLite {} is too old", path_, sqlite3_libversion());
}

void SqlConnection::run(const std::string& sql) {
  const int result = sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  if (result != SQLITE_OK) fail_with(result);
}

void SqlConnection::fail_with(int result) {
  std::string message = fmt::format("{}: {}", path_, sqlite3_errmsg(database_.get()));
  const int error_number = sqlite3_system_errno(database_.get());
  const int primary = result & 0xff;
  if (error_number != 0 && (primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN))
    throw SysError(error_number, message);
  if (primary == SQLITE_FULL) throw full_error(path_);
  throw Error(to_code(result), std::move(message));
}

sqlite3_stmt* SqlConnection::statement(std::string_view sql) {
  auto found = statements_.find(sql);
  if (found == statements_.end()) {
    sqlite3_stmt* made = nullptr;
    const int result = sqlite3_prepare_v3(database_.get(), sql.data(), static_cast<int>(sql.size()),
                                          SQLITE_PREPARE_PERSISTENT, &made, nullptr);
    if (result != SQLITE_OK) fail_with(result);
    found = statements_.emplace(sql, made).first;
  }
  VENEER_CHECK(sqlite3_stmt_busy(found->second.get()) == 0);
  return found->second.get();
}

SqlQuery::~SqlQuery() {
  // The result is that of the last step, which was looked at there.
  (void)sqlite3_reset(statement_);
  (void)sqlite3_clear_bindings(statement_);
}

bool SqlQuery::next() {
  const int result = sqlite3_step(statement_);
  if (result == SQLITE_ROW) return true;
  if (result != SQLITE_DONE) connection_.fail_with(result);
  return false;
}

void SqlQuery::run() {
  VENEER_CHECK(!next());
}

bool SqlQuery::try_run() {
  const int result = sqlite3_step(statement_);
  if (result == SQLITE_DONE) return true;
  if (to_code(result) != Code::already_exists) connection_.fail_with(result);
  return false;
}

bool SqlQuery::is_null(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

int64_t SqlQuery::integer(int column) const {
  if (sqlite3_column_type(statement_, column) != SQLITE_INTEGER)
    fail(Code::corrupt, "{}: {} is no integer", connection_.path_,
         sqlite3_column_name(statement_, column));
  return sqlite3_column_int64(statement_, column);
}

uint64_t SqlQuery::size(int column) const {
  const int64_t value = integer(column);
  if (value < 0)
    fail(Code::corrupt, "{}: {} is negative", connection_.path_,
         sqlite3_column_name(statement_, column));
  return static_cast<uint64_t>(value);
}

std::string SqlQuery::text(int column) const {
  if (sqlite3_column_type(statement_, column) != SQLITE_TEXT)
    fail(Code::corrupt, "{}: {} is no text", connection_.path_,
         sqlite3_column_name(statement_, column));
  const auto* bytes = sqlite3_column_text(statement_, column);
  if (bytes == nullptr) throw std::bad_alloc();
  const auto size = static_cast<size_t>(sqlite3_column_bytes(statement_, column));
  return {bytes, bytes + size};
}

Digest SqlQuery::digest(int column) const {
  const void* blob = sqlite3_column_blob(statement_, column);
  if (sqlite3_column_type(statement_, column) != SQLITE_BLOB ||
      sqlite3_column_bytes(statement_, column) != static_cast<int>(Digest::kBytes))
    fail(Code::corrupt, "{}: {} is no digest", connection_.path_,
         sqlite3_column_name(statement_, column));
  std::array<std::byte, Digest::kBytes> bytes;
  std::memcpy(bytes.data(), blob, bytes.size());
  return Digest(bytes);
}

Time SqlQuery::time(int column) const {
  return Time(std::chrono::nanoseconds(integer(column)));
}

std::optional<int64_t> SqlQuery::maybe_integer(int column) const {
  if (is_null(column)) return std::nullopt;
  return integer(column);
}

void SqlQuery::bind_result(int result) {
  if (result == SQLITE_OK) return;
  (void)sqlite3_clear_bindings(statement_);  // the destructor does not run
  connection_.fail_with(result);
}

void SqlQuery::bind(int index, int64_t value) {
  bind_result(sqlite3_bind_int64(statement_, index, value));
}

void SqlQuery::bind(int index, uint64_t value) {
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    fail(Code::resource_exhausted, "{} is too large a number for {}", value, connection_.path_);
  bind(index, static_cast<int64_t>(value));
}

void SqlQuery::bind(int index, std::string_view value) {
  // An empty view may have no address, which would be NULL.
  const char* data = value.empty() ? "" : value.data();
  bind_result(
      sqlite3_bind_text64(statement_, index, data, value.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
}

void SqlQuery::bind(int index, const Digest& value) {
  bind_result(sqlite3_bind_blob64(statement_, index, value.bytes().data(), value.bytes().size(),
                                  SQLITE_TRANSIENT));
}

}  // namespace veneer
