#include "mount/features.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "base/at.h"

namespace veneer {
namespace {

class FeaturesTest : public testing::Test {
 protected:
  FeaturesTest() {
    EXPECT_NE(::mkdtemp(path_.data()), nullptr);
    dir_ = open_root(path_);
    write_file_at(dir_.get(), "mine", "", 0600);
  }
  ~FeaturesTest() override {
    remove_children(dir_.get());
    (void)::rmdir(path_.c_str());  // a leftover in /var/tmp fails no test
  }

  std::string path_ = "/var/tmp/features_test.XXXXXX";
  UniqueFd dir_;
};

TEST_F(FeaturesTest, ListsEveryFeatureWithItsReason) {
  const std::vector<Probe> probes = probe_features(dir_.get());
  EXPECT_EQ(probes.size(), 10u);
  for (const Probe& probe : probes) {
    EXPECT_FALSE(probe.enables.empty()) << probe.name;
    EXPECT_EQ(probe.works, probe.why_not.empty()) << probe.name << ": " << probe.why_not;
    EXPECT_EQ(std::ranges::count(probe.why_not, '\n'), 0) << probe.name;
  }
  EXPECT_EQ(list_dir(dir_.get()), std::vector<std::string>{"mine"});
}

TEST_F(FeaturesTest, EntryTypes) {
  EXPECT_TRUE(supports_d_type(dir_.get()));
  EXPECT_EQ(list_dir(dir_.get()), std::vector<std::string>{"mine"});
}

}  // namespace
}  // namespace veneer
