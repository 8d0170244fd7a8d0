// What the files of store/meta share.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/fd.h"
#include "store/layout.h"
#include "store/meta.h"
#include "store/meta_sql.h"

namespace veneer {

// A connection to the database, and to the writers' lock.
class Meta::Connection {
 public:
  // Makes the database if it is not there, and brings one of an older schema up to date.
  Connection(const Layout& layout, bool is_volatile);

  SqlConnection& sql() { return sql_; }
  void lock();
  void unlock() noexcept;

 private:
  void make_file(const Layout& layout);
  void make_schema(const Layout& layout);

  UniqueFd lock_;
  SqlConnection sql_;
};

struct Meta::State {
  State(const Layout& the_layout, bool volatile_store)
      : layout(the_layout), is_volatile(volatile_store) {}

  std::unique_ptr<Connection> take();
  void give_back(std::unique_ptr<Connection> connection);

  const Layout& layout;
  const bool is_volatile;
  std::string identity;

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Connection>> idle_;
};

struct Meta::Transaction::Impl {
  Impl(State& the_state, bool writer);
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() { end(); }

  // To read with, and to write with.
  SqlConnection& sql();
  SqlConnection& writer();
  // Rolls back what was not committed, lets go of the lock and the connection.
  void end() noexcept;

  State& state;
  const bool is_writer;
  std::unique_ptr<Connection> connection;
};

}  // namespace veneer
