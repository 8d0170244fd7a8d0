#include "tests/suite/driver_suite.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <thread>

#include "base/error.h"
#include "base/limits.h"
#include "tests/support/code_of.h"
#include "tests/support/layer_tar.h"
#include "tests/support/tree.h"

namespace veneer::test {

namespace {

using Tree = std::map<std::string, std::string>;

class DriverTest : public testing::Test {
 public:
  DriverTest(DriverFactory open, std::function<void(DriverTest&)> body)
      : open_(std::move(open)), body_(std::move(body)) {}

  void TestBody() override {
    reopen();
    body_(*this);
    for (const std::string& id : driver->list()) driver->remove(id);
    EXPECT_TRUE(driver->list().empty());
  }

  void reopen() {
    driver.reset();
    driver = open_(scratch.path());
  }

  uint64_t apply(const std::string& id, const std::string& parent, const std::string& tar) {
    MemorySource source(std::as_bytes(std::span(tar)), 1000);
    return driver->apply_diff(id, parent, source);
  }
  uint64_t add(const std::string& id, const std::string& parent, const std::string& tar) {
    MemorySource source(std::as_bytes(std::span(tar)), 1000);
    return driver->add_layer(id, parent, source);
  }
  // create() and apply_diff(), as Docker makes an image layer.
  void image(const std::string& id, const std::string& parent, LayerTar& tar) {
    driver->create(id, parent, {});
    apply(id, parent, tar.bytes());
  }
  // A base image with a little of everything, and a second layer over it.
  void two_images() {
    LayerTar base;
    base.dir("d").file("d/one", "1").file("d/two", "22").file("f", "base").symlink("l", "d");
    base.file("owned", "o", {.mode = 0600, .uid = 12, .gid = 34});
    image("base", "", base);
    LayerTar top;
    top.file("f", "top").whiteout("d/one").dir("new").hard_link("new/two", "d/two");
    image("top", "base", top);
  }
  UniqueFd open_mount(const std::string& id) { return open_root(driver->get(id, "")); }
  Tree tree(const std::string& id) {
    const Tree lines = describe_tree(open_mount(id).get());
    driver->put(id);
    return lines;
  }
  std::string names(const std::string& id) {
    const std::string text = names_of(open_mount(id).get());
    driver->put(id);
    return text;
  }
  std::string changes(const std::string& id, const std::string& parent) {
    std::string text;
    for (const Change& change : driver->changes(id, parent))
      text += fmt::format("{} {} ",
                          change.kind == ChangeKind::add      ? 'A'
                          : change.kind == ChangeKind::modify ? 'C'
                                                              : 'D',
                          change.path);
    return text;
  }

  Scratch scratch;
  std::unique_ptr<Driver> driver;

 private:
  DriverFactory open_;
  std::function<void(DriverTest&)> body_;
};

void ids_are_checked(DriverTest& t) {
  t.two_images();
  const std::vector<std::string> bad{"",     ".",
                                     "..",   "a/b",
                                     "/",    std::string("a\0b", 3),
                                     "../x", std::string(limits::kIdBytes + 1, 'x')};
  StringSink sink;
  MemorySource none({});
  for (const std::string& id : bad) {
    EXPECT_EQ(code_of([&] { t.driver->create(id, "", {}); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { t.driver->remove(id); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { t.driver->get(id, ""); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { t.driver->put(id); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { t.driver->metadata(id); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { (void)t.driver->exists(id); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { t.driver->diff(id, "", sink); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { t.driver->apply_diff(id, "", none); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { t.driver->add_layer(id, "", none); }), Code::invalid_argument);
    if (id.empty()) continue;  // no parent
    EXPECT_EQ(code_of([&] { t.driver->create("new", id, {}); }), Code::invalid_argument);
  }
  const std::string longest(limits::kIdBytes, 'x');
  t.driver->create(longest, "", {});
  EXPECT_TRUE(t.driver->exists(longest));
}

void a_layer_is_made_over_one_that_is_not_committed(DriverTest& t) {
  const auto make = [&t](const std::string& id, const std::string& parent, const NewLayer* below,
                         LayerTar& tar) {
    const std::string bytes = tar.bytes();
    MemorySource source(std::as_bytes(std::span(bytes)), 1000);
    return t.driver->make_layer(id, parent, below, source);
  };
  LayerTar base;
  base.dir("d").file("d/one", "1").file("f", "base");
  const std::unique_ptr<NewLayer> lower = make("lower", "", nullptr, base);
  LayerTar top;
  top.file("f", "top").whiteout("d/one");
  const std::unique_ptr<NewLayer> upper = make("upper", "lower", lower.get(), top);
  EXPECT_EQ(lower->size_bytes(), 5U);
  EXPECT_EQ(upper->size_bytes(), 3U);
  lower->commit();
  upper->commit();
  EXPECT_EQ(t.names("lower"), "d d/one f");
  EXPECT_EQ(t.names("upper"), "d f");
  t.driver->remove("upper");
  t.driver->remove("lower");
}

void absence_is_not_found(DriverTest& t) {
  StringSink sink;
  EXPECT_FALSE(t.driver->exists("x"));
  EXPECT_EQ(code_of([&] { t.driver->remove("x"); }), Code::not_found);
  EXPECT_EQ(code_of([&] { t.driver->get("x", ""); }), Code::not_found);
  EXPECT_EQ(code_of([&] { t.driver->put("x"); }), Code::not_found);
  EXPECT_EQ(code_of([&] { t.driver->metadata("x"); }), Code::not_found);
  EXPECT_EQ(code_of([&] { t.driver->diff("x", "", sink); }), Code::not_found);
  EXPECT_EQ(code_of([&] { t.driver->create("new", "x", {}); }), Code::not_found);
  EXPECT_FALSE(t.driver->exists("new"));
  t.driver->create("x", "", {});
  EXPECT_EQ(code_of([&] { t.driver->create("x", "", {}); }), Code::already_exists);
  EXPECT_EQ(code_of([&] { t.add("x", "", LayerTar().bytes()); }), Code::already_exists);
}

void images_hold_the_merged_tree(DriverTest& t) {
  t.two_images();
  EXPECT_EQ(t.names("base"), "d d/one d/two f l owned");
  EXPECT_EQ(t.names("top"), "d d/two f l new new/two owned");
  const Tree top = t.tree("top");
  EXPECT_EQ(top.at("f"), "100644 0:0 1700000000.000000000 3 top");
  EXPECT_EQ(top.at("owned"), "100600 12:34 1700000000.000000000 1 o");
  EXPECT_EQ(t.tree("base").at("f"), "100644 0:0 1700000000.000000000 4 base");
}

void add_layer_is_create_and_apply(DriverTest& t) {
  t.two_images();
  LayerTar base;
  base.dir("d").file("d/one", "1");
  const std::string base_bytes = base.bytes();
  EXPECT_EQ(t.add("b", "", base_bytes), 1u);
  EXPECT_EQ(t.names("b"), "d d/one");
  LayerTar next;
  next.whiteout("d/one").file("d/two", "22");
  EXPECT_EQ(t.add("c", "b", next.bytes()), 2u);
  EXPECT_EQ(t.names("c"), "d d/two");
  // Torn: nothing of it stays.
  EXPECT_EQ(code_of([&] { t.add("torn", "b", base_bytes.substr(0, 700)); }), Code::corrupt);
  EXPECT_FALSE(t.driver->exists("torn"));
}

void a_failed_apply_changes_nothing(DriverTest& t) {
  t.two_images();
  t.driver->create("child", "top", {});
  const Tree before = t.tree("child");
  LayerTar layer;
  layer.file("f", "changed").whiteout("d").file("many", std::string(5000, 'x'));
  const std::string bytes = layer.bytes();
  for (const size_t size : {size_t{100}, size_t{600}, size_t{1500}, size_t{3000}}) {
    EXPECT_EQ(code_of([&] { t.apply("child", "top", bytes.substr(0, size)); }), Code::corrupt);
    EXPECT_EQ(t.tree("child"), before);
  }
  // Over a container's layer and over a base, too.
  t.driver->create_read_write("c", "top", {});
  t.driver->create_read_write("cc", "c", {});
  for (const auto& [id, parent] : {std::pair("cc", "c"), std::pair("base", "")}) {
    const Tree was = t.tree(id);
    EXPECT_EQ(code_of([&] { t.apply(id, parent, bytes.substr(0, 3000)); }), Code::corrupt);
    EXPECT_EQ(t.tree(id), was);
  }
}

void apply_over_a_container(DriverTest& t) {
  t.two_images();
  t.driver->create_read_write("init", "top", {});
  write_file_at(t.open_mount("init").get(), "hostname", "h", 0644);
  t.driver->put("init");
  t.driver->create_read_write("c", "init", {});
  LayerTar layer;
  layer.file("added", "a").whiteout("f").hard_link("again", "hostname");
  EXPECT_EQ(t.apply("c", "init", layer.bytes()), 1u);
  EXPECT_EQ(t.names("c"), "added again d d/two hostname l new new/two owned");
  EXPECT_EQ(t.names("init"), "d d/two f hostname l new new/two owned");
}

void containers_write_for_themselves(DriverTest& t) {
  t.two_images();
  const Tree image = t.tree("top");
  t.driver->create_read_write("c-init", "top", {});
  {
    const UniqueFd root = t.open_mount("c-init");
    write_file_at(root.get(), "hostname", "h", 0644);
    unlink_at(root.get(), "owned");
  }
  t.driver->put("c-init");
  t.driver->create_read_write("c", "c-init", {});
  {
    const UniqueFd root = t.open_mount("c");
    EXPECT_TRUE(exists_at(root.get(), "hostname"));
    EXPECT_FALSE(exists_at(root.get(), "owned"));
    unlink_at(root.get(), "f");
    write_file_at(root.get(), "mine", "m", 0644);
    (void)remove_tree_at(root.get(), "d");
    make_dir_at(root.get(), "d", 0755);
  }
  t.driver->put("c");
  EXPECT_EQ(t.names("c"), "d hostname l mine new new/two");
  EXPECT_EQ(t.names("c-init"), "d d/two f hostname l new new/two");
  EXPECT_EQ(t.tree("top"), image);
  EXPECT_EQ(t.changes("c", "c-init"), "C /d D /d/two D /f A /mine ");
  EXPECT_EQ(t.changes("c-init", "top"), "A /hostname D /owned ");
  EXPECT_EQ(t.driver->diff_size("c", "c-init"), 1u);
}

void gets_are_counted(DriverTest& t) {
  t.two_images();
  t.driver->create_read_write("c", "top", {});
  const std::string path = t.driver->get("c", "");
  EXPECT_EQ(t.driver->get("c", ""), path);
  t.reopen();  // another process
  t.driver->put("c");
  EXPECT_TRUE(exists_at(open_root(path).get(), "f"));
  t.driver->put("c");
  t.driver->put("c");  // once too often is no error
  EXPECT_FALSE(exists_at(AT_FDCWD, RelPath::clamp("nonexistent")));
  t.driver->put("top");
  EXPECT_EQ(t.names("c"), "d d/two f l new new/two owned");
}

void a_mounted_layer_takes_no_diff(DriverTest& t) {
  t.two_images();
  t.driver->create_read_write("c", "top", {});
  t.driver->get("c", "");
  EXPECT_EQ(code_of([&] { t.apply("c", "top", LayerTar().bytes()); }), Code::failed_precondition);
  t.driver->put("c");
}

void a_busy_layer_can_be_removed(DriverTest& t) {
  t.two_images();
  t.driver->create_read_write("c", "top", {});
  const UniqueFd root = t.open_mount("c");
  const UniqueFd file = open_at(root.get(), "f", O_RDONLY);
  t.driver->remove("c");
  EXPECT_FALSE(t.driver->exists("c"));
  std::array<std::byte, 3> buffer;
  EXPECT_EQ(read_some(file.get(), buffer), 3u);
  EXPECT_EQ(t.names("top"), "d d/two f l new new/two owned");
}

void diffs_make_equal_layers(DriverTest& t) {
  t.two_images();
  t.driver->create_read_write("c", "top", {});
  {
    const UniqueFd root = t.open_mount("c");
    unlink_at(root.get(), "d/two");
    write_file_at(root.get(), "d/three", "333", 0600);
    link_at(root.get(), "d/three", root.get(), "new/three");
    const timespec time{.tv_sec = 1234, .tv_nsec = 0};
    for (const PathView name : {PathView("d/three"), PathView("d"), PathView("new")})
      set_times_at(root.get(), name, time, time);
  }
  t.driver->put("c");
  StringSink sink;
  t.driver->diff("c", "top", sink);
  t.add("committed", "top", sink.text());
  Tree c = t.tree("c");
  Tree committed = t.tree("committed");
  c.erase(".");
  committed.erase(".");
  EXPECT_EQ(c, committed);
  // Between images, and from nothing.
  StringSink between;
  t.driver->diff("committed", "top", between);
  EXPECT_EQ(sink.text(), between.text());
  StringSink whole;
  t.driver->diff("committed", "", whole);
  t.add("whole", "", whole.text());
  Tree flat = t.tree("whole");
  flat.erase(".");
  EXPECT_EQ(flat, committed);
}

// As Docker commits: the diff of one layer is what the other is applied from, through a pipe.
void a_diff_can_feed_an_apply(DriverTest& t) {
  t.two_images();
  t.driver->create_read_write("c", "top", {});
  write_file_at(t.open_mount("c").get(), "big", std::string(3 << 20, 'b'), 0644);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  std::thread producer([&] {
    FdSink sink(write_end.get());
    t.driver->diff("c", "top", sink);
    write_end.reset();
  });
  t.driver->create("committed", "top", {});
  FdSource source(read_end.get());
  EXPECT_EQ(t.driver->apply_diff("committed", "top", source), 3u << 20);
  producer.join();
  t.driver->put("c");
  EXPECT_EQ(t.names("committed"), "big d d/two f l new new/two owned");
}

void many_at_once(DriverTest& t) {
  t.two_images();
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&t, i] {
      const std::string id = fmt::format("c{}", i);
      for (int round = 0; round < 5; ++round) {
        t.driver->create_read_write(id, "top", {});
        for (int n = 0; n < 3; ++n) t.driver->get(id, "");
        write_file_at(open_root(t.driver->get(id, "")).get(), "x", id, 0644);
        for (int n = 0; n < 4; ++n) t.driver->put(id);
        EXPECT_EQ(t.changes(id, "top"), "A /x ");
        t.driver->remove(id);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(t.driver->list(), (std::vector<std::string>{"base", "top"}));
}

}  // namespace

void register_driver_suite(const std::string& name, const DriverFactory& open) {
  const std::vector<std::pair<const char*, std::function<void(DriverTest&)>>> tests{
      {"IdsAreChecked", ids_are_checked},
      {"ALayerIsMadeOverOneThatIsNotCommitted", a_layer_is_made_over_one_that_is_not_committed},
      {"AbsenceIsNotFound", absence_is_not_found},
      {"ImagesHoldTheMergedTree", images_hold_the_merged_tree},
      {"AddLayerIsCreateAndApply", add_layer_is_create_and_apply},
      {"AFailedApplyChangesNothing", a_failed_apply_changes_nothing},
      {"ApplyOverAContainer", apply_over_a_container},
      {"ContainersWriteForThemselves", containers_write_for_themselves},
      {"GetsAreCounted", gets_are_counted},
      {"AMountedLayerTakesNoDiff", a_mounted_layer_takes_no_diff},
      {"ABusyLayerCanBeRemoved", a_busy_layer_can_be_removed},
      {"DiffsMakeEqualLayers", diffs_make_equal_layers},
      {"ADiffCanFeedAnApply", a_diff_can_feed_an_apply},
      {"ManyAtOnce", many_at_once}};
  for (const auto& [test, body] : tests)
    testing::RegisterTest(
        name.c_str(), test, nullptr, nullptr, __FILE__, __LINE__,
        [open, body = body]() -> testing::Test* { return new DriverTest(open, body); });
}

}  // namespace veneer::test
