// SQLite's C interface, as thin as store/meta needs it: a connection and its statements.
// For the files of store/meta only. Sources: sqlite.org/c3ref, pragma.html, wal.html.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/digest.h"
#include "base/path.h"
#include "store/layout.h"
#include "store/time.h"

namespace veneer {

inline constexpr PathView kDatabaseName = "store.db";
inline constexpr PathView kMetaLockName = "store.lock";
std::string database_path(const Layout& layout);

// One connection, for one thread at a time. Its statements are compiled once and kept.
class SqlConnection {
 public:
  // Opens or makes the file. Reads and changes nothing in it yet, and never will at closing.
  explicit SqlConnection(const std::string& path);

  const std::string& path() const { return path_; }

  // Statements whose results nobody wants. Not kept.
  void run(const std::string& sql);
  // True between BEGIN and its end. SQLite ends a transaction by itself after some errors.
  bool is_in_transaction() const { return sqlite3_get_autocommit(database_.get()) == 0; }
  int64_t last_id() const { return sqlite3_last_insert_rowid(database_.get()); }
  int64_t changes() const { return sqlite3_changes64(database_.get()); }

  // Throws what the extended result code `result` means, for the last call of this connection.
  [[noreturn]] void fail_with(int result);

 private:
  friend class SqlQuery;
  struct CloseDatabase {
    void operator()(sqlite3* database) const { (void)sqlite3_close_v2(database); }
  };
  struct FinalizeStatement {
    void operator()(sqlite3_stmt* statement) const { (void)sqlite3_finalize(statement); }
  };
  sqlite3_stmt* statement(std::string_view sql);

  std::string path_;
  std::unique_ptr<sqlite3, CloseDatabase> database_;
  std::map<std::string, std::unique_ptr<sqlite3_stmt, FinalizeStatement>, std::less<>> statements_;
};

// One use of a statement: parameters, then rows.
class SqlQuery {
 public:
  template <typename... Values>
  SqlQuery(SqlConnection& connection, std::string_view sql, const Values&... values)
      : connection_(connection), statement_(connection.statement(sql)) {
    int index = 0;
    (bind(++index, values), ...);
  }
  SqlQuery(const SqlQuery&) = delete;
  SqlQuery& operator=(const SqlQuery&) = delete;
  ~SqlQuery();

  // Moves to the next row. False after the last.
  bool next();
  // For statements without rows.
  void run();
  // run() that returns false if a row of that key is there already.
  bool try_run();

  // The columns of the row, from 0. What does not have the type that the column must have, or is
  // not in its range, is corrupt.
  bool is_null(int column) const;
  int64_t integer(int column) const;
  uint64_t size(int column) const;
  bool boolean(int column) const { return integer(column) != 0; }
  std::string text(int column) const;
  Digest digest(int column) const;
  Time time(int column) const;
  std::optional<int64_t> maybe_integer(int column) const;

 private:
  void bind(int index, int64_t value);
  void bind(int index, uint64_t value);
  void bind(int index, bool value) { bind(index, int64_t{value}); }
  void bind(int index, std::string_view value);
  void bind(int index, const Digest& value);
  void bind(int index, Time value) { bind(index, int64_t{value.time_since_epoch().count()}); }
  template <typename Value>
  void bind(int index, const std::optional<Value>& value) {
    if (value) bind(index, *value);  // else it is NULL: bindings are cleared after each use
  }
  void bind_result(int result);

  SqlConnection& connection_;
  sqlite3_stmt* statement_;
};

}  // namespace veneer
