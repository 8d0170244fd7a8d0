#include "store/filter.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/limits.h"

namespace veneer {
namespace {

SnapshotInfo sample() {
  SnapshotInfo info;
  info.name = "layer 1";
  info.parent = "base";
  info.kind = Kind::committed;
  info.labels = {{"app", "web"}, {"empty", ""}, {"containerd.io/snapshot.ref", "sha256:00ff"}};
  return info;
}

bool takes(const std::vector<std::string>& filters, const SnapshotInfo& info = sample()) {
  return SnapshotFilter(filters).matches(info);
}

Code code_of(const std::string& filter) {
  try {
    SnapshotFilter({filter});
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << filter << " is taken";
  return Code::io;
}

TEST(Filter, NoFilterTakesAll) {
  EXPECT_TRUE(takes({}));
  EXPECT_TRUE(takes({""}));
  EXPECT_TRUE(takes({"kind==view", ""}));
}

TEST(Filter, FieldsAndOperators) {
  EXPECT_TRUE(takes({"kind==committed"}));
  EXPECT_FALSE(takes({"kind==Committed"}));
  EXPECT_TRUE(takes({"kind!=active"}));
  EXPECT_TRUE(takes({"name==\"layer 1\""}));
  EXPECT_TRUE(takes({"name=='layer 1'"}));
  EXPECT_FALSE(takes({"name!='layer 1'"}));
  EXPECT_TRUE(takes({"parent==base"}));
  EXPECT_TRUE(takes({"labels.app==web"}));
  EXPECT_TRUE(takes({"labels.\"app\"==web"}));
  EXPECT_TRUE(takes({"labels.\"containerd.io/snapshot.ref\"==sha256:00ff"}));
  EXPECT_TRUE(takes({" labels.app == web , kind == committed "}));
}

TEST(Filter, Presence) {
  EXPECT_TRUE(takes({"name"}));
  EXPECT_TRUE(takes({"labels.app"}));
  EXPECT_TRUE(takes({"labels.empty"}));
  EXPECT_FALSE(takes({"labels.none"}));
  EXPECT_FALSE(takes({"labels"}));
  EXPECT_FALSE(takes({"size"}));
  EXPECT_FALSE(takes({"name.x"}));
  // As containerd has it: what is not there differs from every value.
  EXPECT_TRUE(takes({"labels.none!=x"}));
  EXPECT_FALSE(takes({"labels.none==\"\""}));
  EXPECT_TRUE(takes({"labels.empty==\"\""}));
  SnapshotInfo root = sample();
  root.parent = "";
  EXPECT_TRUE(takes({"parent==\"\""}, root));
  EXPECT_TRUE(takes({"parent"}, root));
}

TEST(Filter, AndOr) {
  EXPECT_FALSE(takes({"kind==committed,labels.app==db"}));
  EXPECT_TRUE(takes({"kind==view", "labels.app==web"}));
  EXPECT_FALSE(takes({"kind==view", "labels.app==db"}));
}

TEST(Filter, RegularExpressions) {
  EXPECT_TRUE(takes({"name~=^layer"}));
  EXPECT_TRUE(takes({"name~=yer"}));
  EXPECT_FALSE(takes({"name~=^yer"}));
  EXPECT_TRUE(takes({"name~=\"r [0-9]$\""}));
  EXPECT_TRUE(takes({"name~=/r \\d+$/"}));
  EXPECT_TRUE(takes({"name~=|layer.1|"}));
  EXPECT_TRUE(takes({"labels.app~=(web|db),kind==committed"}));
  EXPECT_TRUE(takes({"labels.none~=.*"}));  // as containerd has it
  EXPECT_FALSE(takes({"labels.none~=.+"}));
  EXPECT_FALSE(takes({"labels.none!=\"\""}));
  EXPECT_FALSE(takes({"labels.none==\"\""}));
  // It ends, and soon.
  SnapshotInfo info = sample();
  info.labels["app"] = std::string(2000, 'a');
  EXPECT_FALSE(takes({"labels.app~=^(a*)*b$"}, info));
}

TEST(Filter, Quotes) {
  SnapshotInfo info = sample();
  info.name = "a\"b\\c\nd\x01\u00e9,";
  EXPECT_TRUE(takes({R"(name=="a\"b\\c\nd\x01\u00e9,")"}, info));
  EXPECT_TRUE(takes({R"(name=="a\"b\134c\012d\001\U000000e9\x2c")"}, info));
  info.name = "it's";
  EXPECT_TRUE(takes({R"(name=='it\'s')"}, info));
  info.name = "\u20ac\U0001f600";
  EXPECT_TRUE(takes({R"(name=="\u20ac\U0001f600")"}, info));
}

TEST(Filter, Refused) {
  for (const char* const bad :
       {"==x",           "name=",        "name=x",          "name==",
        "name==\"x",     "name~=[",      "name~=(",         ",",
        "name,",         ",name",        "name==a b",       "name==a,,kind",
        "labels.==x",    "1==x",         "name==\"\\q\"",   "name==\"\\x0\"",
        "name==\"\\'\"", "name=='\\\"'", "name==\"\\400\"", "name==\"\\ud800\"",
        "name==/x/",     "name==|x|",    "name==\"a\nb\"",  "name<x",
        "name==\"\\",    "name~=(a)\\1"})
    EXPECT_EQ(code_of(bad), Code::invalid_argument) << bad;
  EXPECT_EQ(code_of(std::string("name\0", 5)), Code::invalid_argument);
}

TEST(Filter, Limits) {
  const std::string start = "name==";
  EXPECT_FALSE(takes({start + std::string(limits::kFilterBytes - start.size(), 'x')}));
  EXPECT_EQ(code_of(start + std::string(limits::kFilterBytes - start.size() + 1, 'x')),
            Code::resource_exhausted);
  EXPECT_FALSE(takes({"name~=" + std::string(limits::kFilterPatternBytes, 'x')}));
  EXPECT_EQ(code_of("name~=" + std::string(limits::kFilterPatternBytes + 1, 'x')),
            Code::resource_exhausted);
  const std::string deep(limits::kFilterPatternBytes / 2, '(');
  EXPECT_TRUE(takes({"name~=" + deep + std::string(deep.size(), ')')}));
}

}  // namespace
}  // namespace veneer
