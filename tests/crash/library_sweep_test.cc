// Images and containers, swept (tests/crash/sweep.h): every operation of the library.
#include <gtest/gtest.h>

#include "base/error.h"
#include "image/documents.h"
#include "image/library.h"
#include "store/meta_sql.h"
#include "store/repair.h"
#include "tests/crash/store_state.h"
#include "tests/support/fake_archive.h"
#include "tests/support/layer_tar.h"

namespace veneer {
namespace {

using test::FakeArchive;
using test::LayerTar;
using test::Scratch;
using Operation = std::function<void(Library&)>;

std::string base_tar() {
  return LayerTar().dir("etc", {.mode = 0700}).file("etc/conf", "conf").bytes();
}
std::string implicit_tar() {
  return LayerTar().file("etc/more", "more").bytes();
}
std::string other_tar() {
  return LayerTar().file("other", std::string(50'000, 'o')).bytes();
}

void prepare(Library& library) {
  (void)library.load(FakeArchive({base_tar(), implicit_tar()}, {"first:1"}), {});
  (void)library.create("first:1", "box");
  const UniqueFd merged = open_root(library.mount("box"));
  write_file_at(merged.get(), "written", "by the container", 0644);
}

void nothing(Library&) {}

// `settle` is done before each look: what is as good as not done by the operation's contract.
void sweep(const Operation& operation, const Operation& more = nothing,
           const Operation& settle = nothing) {
  const Form form = Form::packed;
  const auto with_library = [](const StoreOptions& options, const Operation& call) {
    Store store(options);
    Library library(store);
    call(library);
  };
  test::sweep({.prepare =
                   [&](const Scratch& scratch) {
                     with_library(test::store_options(scratch, form), prepare);
                     test::reboot(scratch);
                     with_library(test::store_options(scratch, form), more);
                   },
               .operate =
                   [&](const Scratch& scratch, const std::function<void()>& arm) {
                     with_library(test::store_options(scratch, form, false), [&](Library& library) {
                       arm();
                       operation(library);
                     });
                   },
               .observe =
                   [&](const Scratch& scratch, bool was_killed) {
                     (void)test::observe_store(scratch, form, was_killed);
                     with_library(test::store_options(scratch, form), settle);
                     return test::observe_store(scratch, form, false);
                   },
               .clean_up = test::reboot});
}

TEST(LibrarySweep, LoadThreeLayersAtOnce) {
  sweep([](Library& library) {
    const FakeArchive image({other_tar(), base_tar(), implicit_tar()}, {"second:1"},
                            Compression::gzip);
    (void)library.load(image, {});
  });
}
TEST(LibrarySweep, LoadWhatIsThere) {
  sweep([](Library& library) {
    (void)library.load(FakeArchive({base_tar(), implicit_tar()}, {"second:1"}), {});
  });
}
TEST(LibrarySweep, LoadUnderANameThatIsTaken) {
  sweep([](Library& library) { (void)library.load(FakeArchive({other_tar()}, {"first:1"}), {}); });
}
TEST(LibrarySweep, Save) {
  sweep([](Library& library) {
    StringSink sink;
    library.save("first:1", {.compression = SaveOptions::Compression::gzip}, sink);
  });
}
TEST(LibrarySweep, Create) {
  sweep([](Library& library) { (void)library.create("first:1", "new"); });
}
TEST(LibrarySweep, Commit) {
  sweep([](Library& library) {
    // Its id comes from its config, and that has the time of day without this.
    (void)library.commit("box", {.name = "made:1",
                                 .changes = {"CMD true"},
                                 .message = "m",
                                 .author = "a",
                                 .epoch = 1'700'000'000});
  });
}
TEST(LibrarySweep, RemoveAContainer) {
  sweep([](Library& library) { library.remove_container("box"); });
}
TEST(LibrarySweep, RemoveAMountedContainer) {
  const auto unmount_all = [](Library& library) {
    if (!library.containers().empty()) (void)library.unmount("box");
  };
  sweep([](Library& library) { library.remove_container("box"); },
        [](Library& library) { (void)library.mount("box"); }, unmount_all);
}
TEST(LibrarySweep, RemoveAName) {
  sweep([](Library& library) { (void)library.remove_image("second:1"); },
        [](Library& library) {
          (void)library.load(FakeArchive({base_tar(), implicit_tar()}, {"second:1"}), {});
        });
}
TEST(LibrarySweep, RemoveAnImage) {
  sweep([](Library& library) { (void)library.remove_image("second:1"); },
        [](Library& library) { (void)library.load(FakeArchive({other_tar()}, {"second:1"}), {}); });
}
TEST(LibrarySweep, MountAContainer) {
  sweep([](Library& library) { (void)library.mount("box"); });
}
TEST(LibrarySweep, UnmountAContainer) {
  sweep([](Library& library) { EXPECT_TRUE(library.unmount("box")); },
        [](Library& library) { (void)library.mount("box"); });
}
TEST(LibrarySweep, MountAnImage) {
  sweep([](Library& library) { (void)library.mount("first:1"); });
}
TEST(LibrarySweep, UnmountAnImage) {
  const auto unmount = [](Library& library) { (void)library.unmount("first:1"); };
  sweep(unmount, [](Library& library) { (void)library.mount("first:1"); }, unmount);
}

// All rows that an image and a container stand on, made anew. One repair after the other gets
// there, whatever became of the one before.
void repair(Store& store) {
  const auto left = repair_store(
      store, check_store(store, test::kAlone).damages,
      {.parse_layers = [](const std::string& config) { return parse_config(config).diff_ids; },
       .check = test::kAlone});
  if (!left.empty()) fail(Code::io, "{}: {}", left.front().what, left.front().why);
}
TEST(LibrarySweep, RepairLostRows) {
  const Form form = Form::packed;
  test::sweep({.prepare =
                   [&](const Scratch& scratch) {
                     Store store(test::store_options(scratch, form));
                     Library library(store);
                     prepare(library);
                     test::reboot(scratch);
                     SqlConnection database(store.layout().path() + "/store.db");
                     for (const char* const table : {"variants", "layers", "snapshots"})
                       database.run(fmt::format("DELETE FROM {}", table));
                   },
               .operate =
                   [&](const Scratch& scratch, const std::function<void()>& arm) {
                     Store store(test::store_options(scratch, form, false));
                     arm();
                     repair(store);
                   },
               .observe =
                   [&](const Scratch& scratch, bool) {
                     {
                       Store store(test::store_options(scratch, form));
                       repair(store);
                     }
                     test::State state = test::observe_store(scratch, form, false);
                     EXPECT_FALSE(state.contains("damage"));
                     EXPECT_EQ(state["image"].size(), 1U);
                     EXPECT_EQ(state["layer"].size(), 2U);
                     return state;
                   },
               .clean_up = test::reboot});
}

}  // namespace
}  // namespace veneer
