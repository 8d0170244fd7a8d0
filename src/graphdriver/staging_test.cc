#include "graphdriver/staging.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <stop_token>
#include <thread>

#include "base/at.h"
#include "base/error.h"

namespace veneer {
namespace {

class StagingTest : public testing::Test {
 protected:
  StagingTest() {
    std::string name = "/var/tmp/veneer-staging-XXXXXX";
    path_ = ::mkdtemp(name.data());
    dir_ = open_root(path_);
  }
  ~StagingTest() override {
    remove_children(dir_.get());
    (void)::rmdir(path_.c_str());
  }
  int dir() const { return dir_.get(); }

 private:
  std::string path_;
  UniqueFd dir_;
};

TEST_F(StagingTest, WhatIsNotPublishedIsRemoved) {
  {
    const Staging staging(dir(), "x-");
    write_file_at(staging.fd(), "f", "", 0600);
    EXPECT_EQ(list_dir(dir()).size(), 1u);
  }
  EXPECT_TRUE(list_dir(dir()).empty());
}

TEST_F(StagingTest, PublishingNeverReplaces) {
  make_dir_at(dir(), "taken", 0700);
  Staging staging(dir(), "x-");
  EXPECT_THROW(staging.publish(dir(), "taken"), SysError);
  staging.publish(dir(), "free");
  EXPECT_EQ(list_dir(dir()), (std::vector<std::string>{"free", "taken"}));
}

TEST_F(StagingTest, TheWorkOfTheLivingIsNotStale) {
  make_dir_at(dir(), "x-dead", 0700);
  make_dir_at(dir(), "y-other", 0700);
  const Staging alive(dir(), "x-");
  remove_stale(dir(), "x-");
  EXPECT_EQ(list_dir(dir()), (std::vector<std::string>{alive.name().str(), "y-other"}));
}

TEST_F(StagingTest, MakersAndCleanersMayMeet) {
  std::jthread cleaner([this](const std::stop_token& stop) {
    while (!stop.stop_requested()) remove_stale(dir(), "x-");
  });
  for (int i = 0; i < 2000; ++i) {
    const Staging alive(dir(), "x-");
    EXPECT_TRUE(exists_at(dir(), alive.name()));
  }
}

}  // namespace
}  // namespace veneer
