#include "layer/side_by_side.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace veneer {
namespace {

using Sizes = std::vector<uint64_t>;

std::string thrown_by(size_t count, size_t threads, const SideBySide& functions) {
  try {
    run_side_by_side(Sizes(count), threads, functions);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

void wait_for_stop(const std::stop_token& stop) {
  while (!stop.stop_requested()) std::this_thread::yield();
}

TEST(SideBySide, TakesInOrderWhatIsDoneInAnyOrder) {
  std::atomic<bool> second_done = false;
  std::vector<size_t> taken;
  run_side_by_side({1, 1}, 2,
                   {.work =
                        [&](size_t index, const std::stop_token&) {
                          while (index == 0 && !second_done) std::this_thread::yield();
                          if (index == 1) second_done = true;
                        },
                    .take = [&](size_t index) { taken.push_back(index); }});
  EXPECT_EQ(taken, (std::vector<size_t>{0, 1}));
}

TEST(SideBySide, WorksOnAsManyAsThereAreThreads) {
  std::barrier all(3);  // would wait for ever if there were fewer at once
  std::atomic<int> now = 0;
  std::atomic<int> most = 0;
  std::vector<size_t> taken;
  run_side_by_side(Sizes(9), 3,
                   {.work =
                        [&](size_t, const std::stop_token&) {
                          const int at_once = ++now;
                          for (int seen = most;
                               seen < at_once && !most.compare_exchange_weak(seen, at_once);)
                            continue;
                          all.arrive_and_wait();
                          --now;
                        },
                    .take = [&](size_t index) { taken.push_back(index); }});
  EXPECT_EQ(most, 3);
  std::vector<size_t> wanted(9);
  std::iota(wanted.begin(), wanted.end(), size_t{0});
  EXPECT_EQ(taken, wanted);
}

TEST(SideBySide, BeginsWithTheLargest) {
  std::vector<size_t> begun;
  std::vector<size_t> taken;
  run_side_by_side({5, 7, 5, 9}, 1,
                   {.work = [&](size_t index, const std::stop_token&) { begun.push_back(index); },
                    .take = [&](size_t index) { taken.push_back(index); }});
  EXPECT_EQ(begun, (std::vector<size_t>{3, 1, 0, 2}));
  EXPECT_EQ(taken, (std::vector<size_t>{0, 1, 2, 3}));
}

TEST(SideBySide, NothingToDoIsDone) {
  run_side_by_side({}, 3, {.work = nullptr, .take = nullptr});
}

TEST(SideBySide, AFailureStopsTheOthersAndNothingAfterItIsTaken) {
  std::atomic<int> begun = 0;
  std::vector<size_t> taken;
  const std::string why = thrown_by(100, 3,
                                    {.work =
                                         [&](size_t index, const std::stop_token& stop) {
                                           ++begun;
                                           if (index == 1) throw std::runtime_error("one");
                                           wait_for_stop(stop);
                                           throw std::runtime_error("stopped");
                                         },
                                     .take = [&](size_t index) { taken.push_back(index); }});
  EXPECT_EQ(why, "one");
  EXPECT_LE(begun, 3);
  EXPECT_TRUE(taken.empty());
}

TEST(SideBySide, AFailureToTakeStopsTheWork) {
  const std::string why = thrown_by(100, 2,
                                    {.work =
                                         [&](size_t index, const std::stop_token& stop) {
                                           if (index > 0) wait_for_stop(stop);
                                         },
                                     .take = [](size_t) { throw std::runtime_error("taken"); }});
  EXPECT_EQ(why, "taken");
}

}  // namespace
}  // namespace veneer
