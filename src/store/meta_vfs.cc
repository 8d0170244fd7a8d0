#include "store/meta_vfs.h"

#include <sqlite3.h>

#include <array>
#include <mutex>

#include "base/error.h"
#include "base/failpoint.h"

namespace veneer {

namespace {

constexpr const char* kName = "veneer";

// The unix VFS; what is different in ours is how files are opened and deleted. Written once, before
// the first use.
sqlite3_vfs* real_vfs = nullptr;
sqlite3_vfs our_vfs;

// A file stays SQLite's own, but for its table of methods: the unix VFS has one for databases and
// one for logs.
struct Methods {
  sqlite3_io_methods ours;  // first: a file has its address
  const sqlite3_io_methods* real = nullptr;
};
std::mutex methods_mutex;
std::array<Methods, 4> all_methods;

// What SQLite makes of that errno.
int failure(const char* name, int otherwise) {
  const int error_number = failpoint::hit(name);
  if (error_number == 0) return SQLITE_OK;
  return error_number == ENOSPC ? SQLITE_FULL : otherwise;
}

const sqlite3_io_methods& real_methods(const sqlite3_file* file) {
  return *reinterpret_cast<const Methods*>(file->pMethods)->real;
}

int write(sqlite3_file* file, const void* bytes, int size, sqlite3_int64 offset) {
  if (const int result = failure("sqlite write", SQLITE_IOERR_WRITE)) return result;
  return real_methods(file).xWrite(file, bytes, size, offset);
}

int truncate(sqlite3_file* file, sqlite3_int64 size) {
  if (const int result = failure("sqlite truncate", SQLITE_IOERR_TRUNCATE)) return result;
  return real_methods(file).xTruncate(file, size);
}

int sync(sqlite3_file* file, int flags) {
  if (const int result = failure("sqlite sync", SQLITE_IOERR_FSYNC)) return result;
  return real_methods(file).xSync(file, flags);
}

const sqlite3_io_methods* methods_for(const sqlite3_io_methods* real) {
  const std::lock_guard guard(methods_mutex);
  for (Methods& methods : all_methods) {
    if (methods.real == nullptr) {
      methods.ours = *real;
      methods.ours.xWrite = write;
      methods.ours.xTruncate = truncate;
      methods.ours.xSync = sync;
      methods.real = real;
    }
    if (methods.real == real) return &methods.ours;
  }
  return real;  // never: there are as many kinds of files as there is room for
}

int open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags, int* out_flags) {
  if ((flags & SQLITE_OPEN_CREATE) != 0)
    if (const int result = failure("sqlite open", SQLITE_CANTOPEN)) {
      file->pMethods = nullptr;
      return result;
    }
  const int result = real_vfs->xOpen(vfs, path, file, flags, out_flags);
  if (result == SQLITE_OK && file->pMethods != nullptr)
    file->pMethods = methods_for(file->pMethods);
  return result;
}

int remove(sqlite3_vfs* vfs, const char* path, int sync_directory) {
  if (const int result = failure("sqlite unlink", SQLITE_IOERR_DELETE)) return result;
  return real_vfs->xDelete(vfs, path, sync_directory);
}

}  // namespace

const char* failpoint_vfs() {
  static const bool is_registered = [] {
    real_vfs = sqlite3_vfs_find("unix");
    if (real_vfs == nullptr) return false;
    our_vfs = *real_vfs;
    our_vfs.pNext = nullptr;
    our_vfs.zName = kName;
    our_vfs.xOpen = open;
    our_vfs.xDelete = remove;
    return sqlite3_vfs_register(&our_vfs, 0) == SQLITE_OK;
  }();
  if (!is_registered) fail(Code::unsupported, "SQLite {} has no unix VFS", sqlite3_libversion());
  return kName;
}

}  // namespace veneer
