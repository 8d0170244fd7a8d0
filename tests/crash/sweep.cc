#include "tests/crash/sweep.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/failpoint.h"

namespace veneer::test {

namespace {

// Untouched: it was over before the n-th point. Survived: it got through although that failed.
enum class Outcome { untouched, survived, failed, killed };

constexpr uint64_t kMostPoints = 3000;
constexpr uint64_t kFewestPoints = 1;

Outcome run(const Swept& swept, const Scratch& scratch, const failpoint::Plan& plan) {
  bool is_done = true;
  try {
    swept.operate(scratch, [&] { failpoint::arm(plan); });
  } catch (const Error& error) {
    EXPECT_EQ(error.message().find('\n'), std::string::npos) << error.message();
    is_done = false;
  }
  const bool was_reached = failpoint::disarm() >= plan.at;
  if (!is_done) {
    EXPECT_TRUE(was_reached) << "fails by itself";
    return Outcome::failed;
  }
  return was_reached ? Outcome::survived : Outcome::untouched;
}

Outcome run_in_child(const Swept& swept, const Scratch& scratch, const failpoint::Plan& plan) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(run(swept, scratch, plan) == Outcome::untouched ? 0 : 1);
  int status = 0;
  VENEER_CHECK(::waitpid(child, &status, 0) == child);
  if (WIFSIGNALED(status)) return Outcome::killed;
  EXPECT_EQ(WEXITSTATUS(status), 0);
  return Outcome::untouched;
}

size_t open_descriptors() {
  return list_dir(open_root("/proc/self/fd").get()).size();
}

class Point {
 public:
  explicit Point(const Swept& swept) : swept_(swept) { swept_.prepare(scratch_); }
  ~Point() { swept_.clean_up(scratch_); }
  Point(const Point&) = delete;

  Outcome hit(const failpoint::Plan& plan) const {
    const size_t descriptors = open_descriptors();
    const Outcome outcome =
        plan.error_number == 0 ? run_in_child(swept_, scratch_, plan) : run(swept_, scratch_, plan);
    EXPECT_EQ(open_descriptors(), descriptors);
    return outcome;
  }
  State observe(bool was_killed = false) const { return swept_.observe(scratch_, was_killed); }

 private:
  const Swept& swept_;
  Scratch scratch_;
};

// False when the operation got through untouched.
bool try_point(const Swept& swept, const failpoint::Plan& plan, const State& before,
               const State& after) {
  const Point point(swept);
  const Outcome outcome = point.hit(plan);
  const State now = point.observe(outcome == Outcome::killed);
  if (outcome == Outcome::untouched || outcome == Outcome::survived) {
    EXPECT_EQ(now, after) << "it said that it was done";
    return outcome == Outcome::survived;
  }
  EXPECT_TRUE(now == before || now == after)
      << "neither done nor absent: " << testing::PrintToString(now);
  if (now != before) return true;
  // And it works when tried again.
  EXPECT_EQ(point.hit({.at = kMostPoints + 1, .error_number = EIO}), Outcome::untouched);
  EXPECT_EQ(point.observe(), after);
  return true;
}

}  // namespace

void sweep(const Swept& swept) {
  const State before = Point(swept).observe();
  const State after = [&] {
    const Point whole(swept);
    EXPECT_EQ(whole.hit({.at = kMostPoints + 1, .error_number = EIO}), Outcome::untouched);
    return whole.observe();
  }();
  if (testing::Test::HasFailure()) return;
  for (const int error_number : {EIO, ENOSPC, 0}) {
    uint64_t n = 0;
    bool goes_on = true;
    while (goes_on) {
      ASSERT_LT(++n, kMostPoints);
      SCOPED_TRACE(fmt::format("point {}, errno {} (0 is SIGKILL)", n, error_number));
      goes_on = try_point(swept, {.at = n, .error_number = error_number}, before, after);
      if (testing::Test::HasFailure()) return;
    }
    EXPECT_GT(n, kFewestPoints) << "nothing was swept";
  }
}

}  // namespace veneer::test
