#include "bin/new_file.h"

#include <sys/stat.h>

#include "base/at.h"
#include "base/error.h"
#include "bin/command.h"

namespace veneer {

namespace {

constexpr mode_t kMode = 0600;  // images may hold secrets

struct Place {
  std::string directory;
  std::string name;
  bool is_regular = true;  // or not there
};

// Where links lead to, so that they stay what they are.
Place place_of(const std::string& path) {
  std::string resolved = absolute(path);
  bool is_regular = true;
  try {
    const UniqueFd there = open_root(path, O_PATH);
    const mode_t type = stat_fd(there.get()).st_mode & S_IFMT;
    if (type == S_IFDIR) fail(Code::failed_precondition, "{} is a directory", path);
    is_regular = type == S_IFREG;
    if (is_regular) resolved = path_of(there.get());
  } catch (const SysError& error) {
    if (error.error_number() != ENOENT) throw;
  }
  const size_t slash = resolved.find_last_of('/');
  return {.directory = resolved.substr(0, slash + 1),
          .name = resolved.substr(slash + 1),
          .is_regular = is_regular};
}

}  // namespace

NewFile::NewFile(const std::string& path) {
  const Place place = place_of(path);
  if (!place.is_regular) {
    file_ = open_root(path, O_WRONLY);
    return;
  }
  directory_ = open_root(place.directory);
  name_ = RelPath::parse_name(place.name, "file name");
  const RelPath temporary =
      RelPath::parse_name(fmt::format(".veneer-{}", random_name()), "file name");
  file_ = open_at(directory_.get(), temporary, O_WRONLY | O_CREAT | O_EXCL, kMode);
  temporary_name_ = temporary;
}

NewFile::~NewFile() {
  if (temporary_name_.empty()) return;
  try {
    unlink_at(directory_.get(), temporary_name_);
  } catch (const Error&) {
    return;  // the error that led here is the one to hear of
  }
}

void NewFile::publish() {
  if (temporary_name_.empty()) return;
  if (exists_at(directory_.get(), name_)) sync_fd(file_.get());
  replace_at(directory_.get(), temporary_name_, directory_.get(), name_);
  temporary_name_ = RelPath();
}

}  // namespace veneer
