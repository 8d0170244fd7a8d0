#include "stream/prefetch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"

namespace veneer {
namespace {

// A stream made by a function that is asked for one piece after the other.
class FunctionSource : public Source {
 public:
  explicit FunctionSource(std::function<Bytes(Room)> function) : function_(std::move(function)) {}
  Bytes next(Room room) override { return function_(room); }

 private:
  std::function<Bytes(Room)> function_;
};

// Gives out one piece of memory of its own, which it writes anew with each call.
class ReusingSource : public Source {
 public:
  ReusingSource(Bytes bytes, size_t piece) : from_(bytes, piece) {}
  Bytes next(Room room) override {
    const Bytes bytes = from_.next(room);
    own_.resize(std::max(own_.size(), bytes.size()));
    std::ranges::copy(bytes, own_.begin());
    return Bytes(own_).first(bytes.size());
  }

 private:
  MemorySource from_;
  std::vector<std::byte> own_;
};

std::vector<std::byte> pattern(size_t size) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * i / 7 + i);
  return bytes;
}

std::vector<std::byte> collect(Source& source) {
  std::vector<std::byte> all;
  for (Bytes bytes = source.next({}); !bytes.empty(); bytes = source.next({}))
    all.insert(all.end(), bytes.begin(), bytes.end());
  return all;
}

TEST(PrefetchSource, PassesEverythingInOrderWhateverThePieces) {
  const std::vector<std::byte> bytes = pattern(5 * kChunkBytes / 2);
  for (const size_t chunks : {size_t{1}, size_t{2}, size_t{16}}) {
    for (const size_t piece : {size_t{9973}, kChunkBytes, bytes.size()}) {
      ReusingSource from(bytes, piece);
      PrefetchSource source(from, chunks);
      EXPECT_TRUE(collect(source) == bytes) << chunks << " chunks, pieces of " << piece;
      EXPECT_TRUE(source.next({}).empty()) << "the end is not the end";
    }
  }
}

TEST(PrefetchSource, GivesOutItsRoomWithoutCopyingWhatIsInTheMiddle) {
  size_t pieces = 0;
  FunctionSource from([&](Room room) -> Bytes {
    EXPECT_EQ(room.size(), kChunkBytes);
    if (++pieces > 40) return {};
    const Room part = room.subspan(pieces, sizeof(std::byte*));
    const std::byte* place = part.data();
    std::memcpy(part.data(), &place, sizeof(place));
    return part;
  });
  PrefetchSource source(from, 3);
  for (int i = 0; i < 40; ++i) {
    const Bytes bytes = source.next({});
    const std::byte* place = nullptr;
    ASSERT_EQ(bytes.size(), sizeof(place));
    std::memcpy(&place, bytes.data(), sizeof(place));
    EXPECT_EQ(bytes.data(), place);
  }
  EXPECT_TRUE(source.next({}).empty());
}

TEST(PrefetchSource, LentBytesStayUntilTheNextCall) {
  std::latch full(3);  // two pieces and the end, all made while the first one is lent
  uint8_t pieces = 0;
  FunctionSource from([&](Room room) -> Bytes {
    if (pieces > 0) full.count_down();
    if (++pieces > 3) return {};
    std::ranges::fill(room, std::byte{pieces});
    return room;
  });
  PrefetchSource source(from, 4);
  const Bytes first = source.next({});
  full.wait();
  EXPECT_TRUE(std::ranges::all_of(first, [](std::byte b) { return b == std::byte{1}; }));
  EXPECT_EQ(source.next({}).front(), std::byte{2});
  EXPECT_EQ(source.next({}).front(), std::byte{3});
  EXPECT_TRUE(source.next({}).empty());
}

TEST(PrefetchSource, ReadsAheadBeforeItIsAsked) {
  std::latch ahead(4);
  FunctionSource from([&, left = 4](Room room) mutable -> Bytes {
    if (left-- == 0) return {};
    ahead.count_down();
    return room;
  });
  PrefetchSource source(from, 4);
  ahead.wait();
  EXPECT_EQ(collect(source).size(), 4 * kChunkBytes);
}

TEST(PrefetchSource, AnErrorComesAfterAllTheGoodBytesAndAgain) {
  FunctionSource from([left = 3](Room room) mutable -> Bytes {
    if (left-- == 0) fail(Code::corrupt, "damaged");
    return room.first(10);
  });
  PrefetchSource source(from, 8);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(source.next({}).size(), 10U);
  for (int i = 0; i < 2; ++i) {
    try {
      source.next({});
      ADD_FAILURE() << "the error is lost";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::corrupt);
      EXPECT_EQ(error.message(), "damaged");
    }
  }
}

TEST(PrefetchSource, TheDestructorStopsAThreadThatWaitsForRoom) {
  for (const bool own_memory : {false, true}) {
    const std::vector<std::byte> bytes = pattern(8 * kChunkBytes);
    std::latch started(1);
    bool first = true;
    FunctionSource endless([&](Room room) -> Bytes {
      if (std::exchange(first, false)) started.count_down();
      return own_memory ? Bytes(bytes) : Bytes(room);
    });
    auto source = std::make_unique<PrefetchSource>(endless, 2);
    started.wait();
    source->next({});
    source.reset();  // a thread that does not stop hangs here
  }
}

TEST(PrefetchSource, TheDestructorWaitsForTheSourceBelow) {
  std::promise<void> entered;
  std::promise<void> go;
  std::atomic<bool> left = false;
  FunctionSource slow([&](Room) -> Bytes {
    entered.set_value();
    go.get_future().wait();
    left = true;
    return {};
  });
  auto source = std::make_unique<PrefetchSource>(slow);
  entered.get_future().wait();
  std::future<void> destroyed = std::async(std::launch::async, [&] { source.reset(); });
  EXPECT_EQ(destroyed.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  go.set_value();
  destroyed.wait();
  EXPECT_TRUE(left);
}

TEST(PrefetchSource, DigestAndCountOfWhatIsBelowAreThereAtTheEnd) {
  const std::vector<std::byte> bytes = pattern(3 * kChunkBytes + 1);
  MemorySource memory(bytes, 100'000);
  HashingSource hashed(memory);
  PrefetchSource source(hashed, 2);
  drain(source);
  EXPECT_EQ(hashed.count(), bytes.size());
  EXPECT_EQ(hashed.digest(), Sha256::of(bytes));
}

TEST(PrefetchSource, AnEmptyStreamEndsAtOnce) {
  MemorySource memory({});
  PrefetchSource source(memory);
  EXPECT_TRUE(source.next({}).empty());
  EXPECT_TRUE(source.next({}).empty());
}

}  // namespace
}  // namespace veneer
