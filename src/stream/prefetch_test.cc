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

// --- several readers ---

TEST(Prefetch, GivesAllBytesToEachReader) {
  const std::vector<std::byte> bytes = pattern(37 * kChunkBytes + 5);
  for (const size_t piece : {size_t{99'991}, kChunkBytes}) {
    ReusingSource from(bytes, piece);
    Prefetch prefetch(from, {{.chunks_at_once = 1}, {.chunks_at_once = 4}}, 5);
    auto other = std::async(std::launch::async, [&] {
      PrefetchReader reader(prefetch, 1);
      return collect(reader);
    });
    PrefetchReader reader(prefetch, 0);
    EXPECT_TRUE(collect(reader) == bytes) << piece;
    EXPECT_TRUE(other.get() == bytes) << piece;
  }
}

TEST(Prefetch, FullChunksBehindOneAnotherAreOnePiece) {
  FunctionSource from([left = 10](Room room) mutable -> Bytes {
    if (left-- == 0) return {};
    return left == 0 ? room.first(7) : room;
  });
  Prefetch prefetch(from, {{.chunks_at_once = 4}}, 6);
  std::vector<size_t> sizes;
  for (Bytes bytes = prefetch.next(0); !bytes.empty(); bytes = prefetch.next(0)) {
    sizes.push_back(bytes.size());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes.data()) % 4096, 0U);
  }
  // Four, two to the end of the ring, and what is left of four and of the last.
  EXPECT_EQ(sizes, (std::vector<size_t>{4 * kChunkBytes, 2 * kChunkBytes, 3 * kChunkBytes + 7}));
}

TEST(Prefetch, ASlowReaderHoldsOnlyItsChunks) {
  std::atomic<size_t> made = 0;
  FunctionSource from([&](Room room) -> Bytes {
    ++made;
    return room;
  });
  Prefetch prefetch(from, {{}, {}}, 4);
  (void)prefetch.next(1);
  for (int i = 0; i < 4; ++i) (void)prefetch.next(0);
  // The fifth lies where the slow one still reads.
  auto fifth = std::async(std::launch::async, [&] { return prefetch.next(0).size(); });
  EXPECT_EQ(fifth.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  EXPECT_EQ(made, 4U);
  (void)prefetch.next(1);
  EXPECT_EQ(fifth.get(), kChunkBytes);
}

TEST(Prefetch, WhatOneAbandonsEndsForAll) {
  FunctionSource from([](Room room) -> Bytes { return room; });
  Prefetch prefetch(from, {{}, {.chunks_at_once = 2}}, 2);
  (void)prefetch.next(0);
  // It waits for room that the other one will not make.
  auto waiting = std::async(std::launch::async, [&] {
    PrefetchReader reader(prefetch, 1);
    drain(reader);
  });
  EXPECT_EQ(waiting.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  prefetch.abandon(std::make_exception_ptr(Error(Code::io, "no more")));
  EXPECT_THROW(waiting.get(), Error);
  EXPECT_THROW((void)prefetch.next(0), Error);
}

// Or what is told would depend on who is faster.
TEST(Prefetch, AFailureBelowComesBeforeTheAbandoning) {
  FunctionSource from([left = 2](Room room) mutable -> Bytes {
    if (left-- == 0) fail(Code::corrupt, "damaged");
    return room;
  });
  Prefetch prefetch(from, {{}, {}}, 4);
  for (int i = 0; i < 2; ++i) EXPECT_FALSE(prefetch.next(1).empty());
  EXPECT_THROW((void)prefetch.next(1), Error);
  prefetch.abandon(std::make_exception_ptr(Error(Code::io, "no more")));
  for (int i = 0; i < 2; ++i) EXPECT_FALSE(prefetch.next(0).empty());
  try {
    (void)prefetch.next(0);
    ADD_FAILURE() << "the error is lost";
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "damaged");
  }
}

}  // namespace
}  // namespace veneer
