#include "bin/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/fd.h"

namespace veneer {
namespace {

using std::chrono::milliseconds;

// A terminal of its own, with a clock that the test moves.
class ProgressTest : public testing::Test {
 protected:
  void SetUp() override {
    int screen = -1;
    int terminal = -1;
    winsize size{};
    size.ws_col = 60;
    ASSERT_EQ(openpty(&screen, &terminal, nullptr, nullptr, &size), 0);
    screen_ = UniqueFd(screen);
    terminal_ = UniqueFd(terminal);
  }

  // What came onto the screen since the last call. The kernel moves it there on its own thread, in
  // order: a mark written now is the last to arrive.
  std::string shown() {
    EXPECT_EQ(write(terminal_.get(), "$", 1), 1);
    std::string text;
    while (!text.ends_with('$')) {
      char byte = 0;
      if (read(screen_.get(), &byte, 1) != 1) return "the screen is gone";
      text += byte;
    }
    text.pop_back();
    return text;
  }
  void pass(milliseconds time) { now_ms_ += time.count(); }
  std::function<Progress::Clock::time_point()> clock() {
    return [this] { return Progress::Clock::time_point(milliseconds(now_ms_)); };
  }

  UniqueFd screen_;
  UniqueFd terminal_;
  std::atomic<int64_t> now_ms_ = 1000;
};

const std::vector<Progress::Layer> kLayers{{.digest = "0123456789abcdef", .size_bytes = 4'000'000},
                                           {.digest = "fedcba9876543210", .size_bytes = 2'000},
                                           {.digest = "ff", .size_bytes = 1}};

TEST_F(ProgressTest, SaysWhatHowMuchAndHowFast) {
  Progress progress(terminal_.get(), kLayers, clock());
  progress.begin(0);
  EXPECT_EQ(shown(), "\rlayer 1/3  0123456789ab  0 B / 4.0 MB\x1b[K");
  pass(milliseconds(500));
  progress.add(0, 1'000'000);
  EXPECT_EQ(shown(), "\rlayer 1/3  0123456789ab  1.0 MB / 4.0 MB  2.0 MB/s\x1b[K");
  pass(milliseconds(100));
  progress.done(0);
  EXPECT_EQ(shown(), "\rlayer 1/3  0123456789ab  done\x1b[K");
  pass(milliseconds(100));
  progress.exists(2);
  EXPECT_EQ(shown(), "\rlayer 3/3  ff  exists\x1b[K");
}

// The terminal's driver writes \r\n for \n.
TEST_F(ProgressTest, HasALineForEachLayerThatIsRead) {
  Progress progress(terminal_.get(), kLayers, clock());
  progress.begin(1);
  shown();
  pass(milliseconds(100));
  progress.begin(0);
  EXPECT_EQ(shown(),
            "\rlayer 1/3  0123456789ab  0 B / 4.0 MB\x1b[K\r\n"
            "layer 2/3  fedcba987654  0 B / 2.0 kB  0 B/s\x1b[K");
  pass(milliseconds(100));
  progress.add(1, 1'000);
  EXPECT_EQ(shown(),
            "\r\x1b[1Alayer 1/3  0123456789ab  0 B / 4.0 MB  0 B/s\x1b[K\r\n"
            "layer 2/3  fedcba987654  1.0 kB / 2.0 kB  5.0 kB/s\x1b[K");
  pass(milliseconds(100));
  progress.done(0);
  EXPECT_EQ(shown(), "\r\x1b[1Alayer 2/3  fedcba987654  1.0 kB / 2.0 kB  3.3 kB/s\x1b[K\x1b[J");
  progress.begin(2);
  pass(milliseconds(100));
  progress.add(2, 1);
  shown();
  progress.clear();
  EXPECT_EQ(shown(), "\r\x1b[1A\x1b[J");
}

TEST_F(ProgressTest, IsClearedAtTheEndAndOnlyIfShown) {
  {
    Progress progress(terminal_.get(), kLayers, clock());
    progress.begin(0);
    shown();
  }
  EXPECT_EQ(shown(), "\r\x1b[K");
  {
    Progress unused(terminal_.get(), kLayers, clock());
  }
  EXPECT_EQ(shown(), "");
}

TEST_F(ProgressTest, WritesAtMostTenTimesASecond) {
  Progress progress(terminal_.get(), kLayers, clock());
  progress.begin(0);
  for (int i = 0; i < 1000; ++i) {
    pass(milliseconds(1));
    progress.add(0, 1);
  }
  const std::string text = shown();
  EXPECT_EQ(std::ranges::count(text, '\r'), 11) << "the first, and ten in a second";
}

TEST_F(ProgressTest, IsNeverWiderThanTheTerminal) {
  Progress progress(terminal_.get(), kLayers, clock());
  progress.begin(0);
  pass(milliseconds(100));
  progress.add(0, 999'999);
  shown();
  pass(milliseconds(100));
  winsize size{};
  size.ws_col = 20;
  ASSERT_EQ(ioctl(terminal_.get(), TIOCSWINSZ, &size), 0);
  progress.add(0, 1);
  EXPECT_EQ(shown(), "\rlayer 1/3  01234567\x1b[K");
}

TEST_F(ProgressTest, HasNoMoreLinesThanTheTerminal) {
  winsize size{};
  size.ws_col = 60;
  size.ws_row = 2;
  ASSERT_EQ(ioctl(terminal_.get(), TIOCSWINSZ, &size), 0);
  Progress progress(terminal_.get(), kLayers, clock());
  for (size_t layer = 0; layer < 3; ++layer) progress.begin(layer);
  shown();
  pass(milliseconds(100));
  progress.add(2, 1);
  const std::string text = shown();
  EXPECT_EQ(std::ranges::count(text, '\n'), 1);
  EXPECT_EQ(text.find("layer 3/3"), text.npos);
}

TEST_F(ProgressTest, CountsFromManyThreads) {
  Progress progress(terminal_.get(), kLayers, clock());
  progress.begin(0);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 1000; ++n) progress.add(0, 1);
      });
    }
  }
  shown();
  pass(milliseconds(1000));
  progress.add(0, 0);
  EXPECT_EQ(shown(), "\rlayer 1/3  0123456789ab  4.0 kB / 4.0 MB  4.0 kB/s\x1b[K");
}

TEST_F(ProgressTest, IsSilentWithoutATerminal) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_NONBLOCK), 0);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  {
    Progress progress(writer.get(), kLayers);
    progress.begin(0);
    progress.add(0, 5);
  }
  writer.reset();
  char byte = 0;
  EXPECT_EQ(read(reader.get(), &byte, 1), 0);
}

}  // namespace
}  // namespace veneer
