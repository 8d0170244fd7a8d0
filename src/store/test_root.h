// A directory for the stores of a test, gone with it.
#pragma once

#include <string>

#include "base/at.h"

namespace veneer {

class TestRoot {
 public:
  TestRoot() {
    make_dir_at(above_.get(), name_, 0700);
    dir_ = open_dir_at(above_.get(), name_);
  }
  TestRoot(const TestRoot&) = delete;
  TestRoot& operator=(const TestRoot&) = delete;
  ~TestRoot() { (void)remove_tree_at(above_.get(), name_); }

  std::string path() const { return path_of(dir_.get()); }
  int dir() const { return dir_.get(); }

 private:
  UniqueFd above_ = open_root("/var/tmp");
  RelPath name_ = RelPath::parse_name("veneer-store-" + random_name(), "name");
  UniqueFd dir_;
};

}  // namespace veneer
