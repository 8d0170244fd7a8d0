// A file that is written for a person: it appears when it is complete, or not at all.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/path.h"

namespace veneer {

class NewFile {
 public:
  // Makes a file (0600) of a name of its own beside `path`, in which links are followed. What is
  // there and no regular file, like a device or a pipe, is written directly. Throws what open(2)
  // does for the directory; failed_precondition if `path` is one.
  explicit NewFile(const std::string& path);
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile();  // removes it unless published

  int fd() const { return file_.get(); }
  // Puts it in place of what is there, which no power cut may cost: then it is synced before. A
  // file of a new name is written out when the kernel likes, as cp(1) leaves it.
  void publish();

 private:
  UniqueFd directory_;
  RelPath name_;
  RelPath temporary_name_;  // "" once published, and for what is written directly
  UniqueFd file_;
};

}  // namespace veneer
