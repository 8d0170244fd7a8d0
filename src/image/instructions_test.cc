#include "image/instructions.h"

#include <gtest/gtest.h>

#include "image/test_image.h"

namespace veneer {
namespace {

// What the instructions make of a config that is empty otherwise.
std::string apply(const std::vector<std::string>& instructions, const std::string& config = "{}") {
  const std::string text = apply_instructions("{\"config\":" + config + "}", instructions);
  const std::string start = "{\"config\":";
  EXPECT_EQ(text.substr(0, start.size()), start);
  return text.substr(start.size(), text.size() - start.size() - 1);
}

TEST(Instructions, Commands) {
  EXPECT_EQ(apply({R"(CMD ["a", "b c"])"}), R"({"Cmd":["a","b c"]})");
  EXPECT_EQ(apply({"cmd echo $A \"b\""}), R"({"Cmd":["/bin/sh","-c","echo $A \"b\""]})");
  EXPECT_EQ(apply({"CMD [a"}), R"({"Cmd":["/bin/sh","-c","[a"]})");
  EXPECT_EQ(apply({"CMD x"}, R"({"Shell":["/bin/ash","-ec"]})"),
            R"({"Shell":["/bin/ash","-ec"],"Cmd":["/bin/ash","-ec","x"]})");
}

TEST(Instructions, AnEntryPointTakesAnOldCommandAway) {
  EXPECT_EQ(apply({R"(ENTRYPOINT ["e"])"}, R"({"Cmd":["old"]})"), R"({"Entrypoint":["e"]})");
  EXPECT_EQ(apply({"CMD [\"c\"]", "ENTRYPOINT [\"e\"]"}, R"({"Cmd":["old"]})"),
            R"({"Cmd":["c"],"Entrypoint":["e"]})");
}

TEST(Instructions, Fields) {
  EXPECT_EQ(apply({"ENV A=1 B=\"2 3\" C=$OLD", "ENV D the rest of it", "ENV E=${B}x"},
                  R"({"Env":["OLD=o","A=0"]})"),
            R"({"Env":["OLD=o","A=1","B=2 3","C=o","D=the rest of it","E=2 3x"]})");
  EXPECT_EQ(apply({"LABEL a=b \"c d\"='e f'", "LABEL g h"}),
            R"({"Labels":{"a":"b","c d":"e f","g":"h"}})");
  EXPECT_EQ(apply({"EXPOSE 80 53/udp 8000-8002"}),
            R"({"ExposedPorts":{"80/tcp":{},"53/udp":{},"8000/tcp":{},"8001/tcp":{},)"
            R"("8002/tcp":{}}})");
  EXPECT_EQ(apply({"VOLUME /a $X/b", "VOLUME [\"/c d\"]"}, R"({"Env":["X=/x"]})"),
            R"({"Env":["X=/x"],"Volumes":{"/a":{},"/x/b":{},"/c d":{}}})");
  EXPECT_EQ(apply({"WORKDIR /a/b", "WORKDIR ../c"}), R"({"WorkingDir":"/a/c"})");
  EXPECT_EQ(apply({"WORKDIR x"}, R"({"WorkingDir":"/w"})"), R"({"WorkingDir":"/w/x"})");
  EXPECT_EQ(apply({"USER u:g", "STOPSIGNAL SIGTERM", "ONBUILD RUN x"}),
            R"({"User":"u:g","StopSignal":"SIGTERM","OnBuild":["RUN x"]})");
}

TEST(Instructions, LeaveEverythingElse) {
  const std::string config =
      R"({"z":1.5,"architecture":"amd64","config":{"Unknown":[null,{"a":-1}],)"
      R"("Env":["A=1"]},"a":""})";
  EXPECT_EQ(apply_instructions(config, {}), config);
  EXPECT_EQ(apply_instructions(config, {"USER u"}),
            R"({"z":1.5,"architecture":"amd64","config":{"Unknown":[null,{"a":-1}],)"
            R"("Env":["A=1"],"User":"u"},"a":""})");
  EXPECT_EQ(apply_instructions(R"({"config":null})", {"USER u"}), R"({"config":{"User":"u"}})");
}

TEST(Instructions, OthersAreRefusedByName) {
  const auto refused = [](const std::string& instruction, const std::string& reason) {
    test::expect_error(Code::invalid_argument, {reason}, [&] { apply({instruction}); });
  };
  refused("RUN x", "\"RUN x\": not one of CMD");
  refused("", "not one of CMD");
  refused("USER", "USER of what?");
  refused("ENV A", "A has no value");
  refused("ENV A=1 B", "B is not name=value");
  refused("ENV A='1", "without its end");
  refused("ENV =1", "=1 is not name=value");
  refused("EXPOSE x", "\"x\" is not a port");
  refused("EXPOSE 65536", "is not a port");
  refused("EXPOSE 9-8", "ends before it begins");
  refused("EXPOSE 80/icmp", "\"icmp\" is not tcp");
  refused("ONBUILD FROM x", "FROM cannot be a trigger");
  refused("USER \xff", "UTF-8");
}

}  // namespace
}  // namespace veneer
