#include "mount/overlay.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace veneer {
namespace {

using Strings = std::vector<std::string>;

OverlaySpec container() {
  return {.lower = {"/l/2", "/l/1"}, .upper = "/u", .work = "/w", .label = "", .options = {}};
}

Code code_of(const OverlaySpec& spec) {
  try {
    (void)to_mount(spec);
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing thrown";
  return Code::io;
}

TEST(ToMount, Container) {
  EXPECT_EQ(to_mount(container()),
            (Mount{.type = "overlay",
                   .source = "overlay",
                   .options = {"workdir=/w", "upperdir=/u", "lowerdir=/l/2:/l/1"}}));
}

TEST(ToMount, View) {
  OverlaySpec spec;
  spec.lower = {"/l/3", "/l/2", "/l/1"};
  EXPECT_EQ(to_mount(spec).options, Strings{"lowerdir=/l/3:/l/2:/l/1"});
}

TEST(ToMount, AllOptions) {
  OverlaySpec spec = container();
  spec.label = "system_u:object_r:container_file_t:s0:c1,c2";
  spec.is_volatile = true;
  spec.userxattr = true;
  spec.options = {"index=off"};
  EXPECT_EQ(to_mount(spec).options,
            (Strings{"index=off", "volatile", "userxattr",
                     "context=\"system_u:object_r:container_file_t:s0:c1,c2\"", "workdir=/w",
                     "upperdir=/u", "lowerdir=/l/2:/l/1"}));
}

TEST(ToMount, EscapesPaths) {
  const OverlaySpec spec = {.lower = {R"(/a:b)", R"(/c,d)", R"(/e\f)"},
                            .upper = R"(/u:,\)",
                            .work = R"(/w:,\)",
                            .label = "",
                            .options = {}};
  EXPECT_EQ(to_mount(spec).options, (Strings{R"(workdir=/w:\,\\)", R"(upperdir=/u:\,\\)",
                                             R"(lowerdir=/a\:b:/c\,d:/e\\f)"}));
}

TEST(ToMount, RefusesWhatIsNoOverlay) {
  OverlaySpec spec = container();
  spec.lower.clear();
  EXPECT_EQ(code_of(spec), Code::invalid_argument);
  spec = container();
  spec.work.clear();
  EXPECT_EQ(code_of(spec), Code::invalid_argument);
  spec.upper.clear();
  EXPECT_NO_THROW(to_mount(spec));
  spec.lower.pop_back();
  EXPECT_EQ(code_of(spec), Code::invalid_argument);
  for (const std::string& path :
       {std::string("relative"), std::string(), std::string("/a\0b", 4)}) {
    spec = container();
    spec.lower.front() = path;
    EXPECT_EQ(code_of(spec), Code::invalid_argument) << path;
  }
}

TEST(ToMount, LimitsLowers) {
  OverlaySpec spec = container();
  spec.lower.assign(500, "/l");
  EXPECT_NO_THROW(to_mount(spec));
  spec.lower.emplace_back("/l");
  EXPECT_EQ(code_of(spec), Code::resource_exhausted);
}

TEST(LabelOption, Quotes) {
  EXPECT_EQ(label_option("a:b:c:s0:c1,c2"), "context=\"a:b:c:s0:c1,c2\"");
  EXPECT_THROW(label_option("a\",suid,x=\""), Error);
}

}  // namespace
}  // namespace veneer
