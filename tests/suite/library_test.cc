#include "image/library.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <future>

#include "base/error.h"
#include "image/json.h"
#include "image/select.h"
#include "store/meta_sql.h"
#include "stream/checksum.h"
#include "stream/compressing_sink.h"
#include "tests/support/fake_archive.h"
#include "tests/support/layer_tar.h"
#include "tests/support/tree.h"

namespace veneer {
namespace {

using test::FakeArchive;
using test::LayerTar;

std::string base_tar() {
  return LayerTar()
      .dir("etc", {.mode = 0700, .uid = 3})
      .file("etc/conf", "conf")
      .dir("bin")
      .file("bin/tool", std::string(5000, 'x'), {.mode = 0755})
      .bytes();
}
std::string top_tar() {
  return LayerTar().dir("etc", {.mode = 0700, .uid = 3}).file("etc/new", "new").bytes();
}
// Does not say what etc is.
std::string implicit_tar() {
  return LayerTar().file("etc/more", "more").bytes();
}

class LibraryTest : public testing::TestWithParam<Form> {
 protected:
  ~LibraryTest() override {
    if (library_) {
      for (const ContainerInfo& container : library_->containers())
        library_->remove_container(container.record.id);
      while (!library_->images().empty()) {
        const std::string id = library_->images().front().record.config.hex();
        (void)library_->unmount(id);
        (void)library_->remove_image(id);
      }
    }
  }

  StoreOptions options() const {
    return {.root = scratch_.path() + "/root",
            .run = scratch_.path() + "/run",
            .is_volatile = false,
            .form = GetParam()};
  }
  Library& library() { return *library_; }
  Store& store() { return *store_; }
  LoadedImage load(const ImageArchive& archive) { return library().load(archive, {}); }

  // How many names there are in layers, snapshots, blobs and staging.
  std::string leftovers() {
    empty_trash(store().layout());
    const Layout& layout = store().layout();
    return fmt::format("{} {} {} {} {}", list_dir(layout.layers()).size(),
                       list_dir(layout.snapshots()).size(), list_dir(layout.blobs()).size(),
                       list_dir(layout.staging()).size(), list_dir(layout.trash()).size());
  }
  size_t count_variants(const std::string& tar) {
    Meta::Transaction transaction = store().meta().read();
    const auto layer = transaction.maybe_layer(Sha256::of(tar));
    return layer ? transaction.list_variants(layer->id).size() : 0;
  }
  // What lies on the way to the file in the image.
  std::map<std::string, std::string> tree_of(const std::string& reference) {
    const std::string path = library().mount(reference);
    auto tree =
        test::describe_tree(open_root(path).get(), {.times = false, .directory_times = false});
    EXPECT_TRUE(library().unmount(reference));
    return tree;
  }

 private:
  test::Scratch scratch_;
  std::unique_ptr<Store> store_ = std::make_unique<Store>(options());
  std::unique_ptr<Library> library_ = std::make_unique<Library>(*store_);
};

TEST_P(LibraryTest, LoadsAndTells) {
  const FakeArchive archive({base_tar(), top_tar()}, {"tool", "x.io/a/b:v1", "NOT A NAME"},
                            Compression::gzip);
  const LoadedImage loaded = load(archive);
  EXPECT_FALSE(loaded.existed);
  EXPECT_EQ(loaded.layers.size(), 2U);
  EXPECT_FALSE(loaded.layers[0].existed);
  const ImageInfo image = library().image("tool");
  EXPECT_EQ(image.record.config, archive.manifest().config_digest);
  EXPECT_EQ(image.names, (std::vector<std::string>{"tool:latest", "x.io/a/b:v1"}));
  EXPECT_EQ(image.platform, "linux/amd64");
  EXPECT_EQ(image.size_bytes, 5007U);
  EXPECT_EQ(image.layers, 2U);
  EXPECT_EQ(image.containers, 0U);
  EXPECT_EQ(library().config(image), archive.manifest().config);
  for (const std::string& reference :
       {image.record.config.hex(), image.record.config.str(),
        image.record.config.hex().substr(0, 4), std::string("docker.io/library/tool:latest")})
    EXPECT_EQ(library().image(reference).record.config, image.record.config) << reference;
  const auto layers = library().layers(image);
  ASSERT_EQ(layers.size(), 2U);
  EXPECT_EQ(layers[0].diff_id, Sha256::of(base_tar()));
  EXPECT_EQ(layers[0].chain_id, layers[0].diff_id);
  EXPECT_EQ(layers[1].chain_id, chain_id(layers[0].diff_id, layers[1].diff_id));
  EXPECT_EQ(layers[0].form, GetParam());
  EXPECT_EQ(layers[0].tar_bytes, base_tar().size());
  EXPECT_EQ(leftovers(), "2 0 1 0 0");
  const auto tree = tree_of("tool");
  EXPECT_TRUE(tree.contains("etc/new") && tree.contains("etc/conf") && tree.contains("bin/tool"));
}

TEST_P(LibraryTest, ASecondLoadReadsNothing) {
  FakeArchive archive({base_tar(), implicit_tar(), top_tar()}, {"tool"});
  load(archive);
  archive.close();
  archive.manifest().names = {"other"};
  const LoadedImage again = load(archive);
  EXPECT_TRUE(again.existed);
  EXPECT_EQ(again.image.names, (std::vector<std::string>{"other:latest", "tool:latest"}));
  for (const Import::Layer& layer : again.layers) EXPECT_TRUE(layer.existed);
  EXPECT_EQ(leftovers(), "3 0 1 0 0");
}

TEST_P(LibraryTest, ANameMoves) {
  load(FakeArchive({base_tar()}, {"a"}));
  const LoadedImage second = load(FakeArchive({top_tar()}, {"a"}));
  EXPECT_EQ(library().image("a").record.config, second.image.record.config);
  EXPECT_EQ(library().images().size(), 2U);
}

TEST_P(LibraryTest, OptionsName) {
  const FakeArchive archive({base_tar()}, {"a"});
  EXPECT_EQ(library().load(archive, {.name = "b:1"}).image.names,
            (std::vector<std::string>{"b:1"}));
  EXPECT_THROW(library().load(archive, {.name = "B"}), Error);
}

TEST_P(LibraryTest, NamesThatAreNearAreTold) {
  load(FakeArchive({base_tar()}, {"busybox"}));
  try {
    (void)library().image("busybx");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::not_found);
    EXPECT_EQ(error.message(), "no image busybx; did you mean busybox:latest?");
  }
}

TEST_P(LibraryTest, ImplicitParentsTakeAfterWhatIsBelow) {
  const std::string other =
      LayerTar().dir("etc", {.mode = 0711, .gid = 9}).file("etc/other", "other").bytes();
  load(FakeArchive({base_tar(), implicit_tar()}, {"one"}));
  EXPECT_EQ(count_variants(implicit_tar()), 1U);
  load(FakeArchive({other, implicit_tar()}, {"two"}));
  EXPECT_EQ(count_variants(implicit_tar()), 2U);
  // The same below: no third variant.
  load(FakeArchive({top_tar(), base_tar(), implicit_tar()}, {"three"}));
  EXPECT_EQ(count_variants(implicit_tar()), 2U);
  load(FakeArchive({implicit_tar()}, {"four"}));
  EXPECT_EQ(count_variants(implicit_tar()), 3U);

  const auto one = tree_of("one");
  const auto two = tree_of("two");
  EXPECT_TRUE(one.contains("etc/conf") && one.contains("etc/more"));
  EXPECT_TRUE(two.contains("etc/other") && two.contains("etc/more"));
  const auto base = tree_of("three");
  EXPECT_EQ(one.at("etc"), base.at("etc"));
  EXPECT_NE(one.at("etc"), two.at("etc"));
  EXPECT_EQ(leftovers(), "4 0 4 0 0");
}

TEST_P(LibraryTest, LinksIntoLowerLayersAreCopies) {
  const std::string link = LayerTar().dir("bin").hard_link("bin/copy", "bin/tool").bytes();
  load(FakeArchive({base_tar(), link}, {"one"}));
  const std::string other = LayerTar().dir("bin").file("bin/tool", "other", {.mode = 0755}).bytes();
  load(FakeArchive({base_tar(), other, link}, {"two"}));
  EXPECT_EQ(count_variants(link), 2U);
  const auto one = tree_of("one");
  const auto two = tree_of("two");
  EXPECT_NE(one.at("bin/copy"), two.at("bin/copy"));
  EXPECT_EQ(library().layers(library().image("one"))[1].form, Form::directory);
}

TEST_P(LibraryTest, WrongDigestsLeaveNothing) {
  FakeArchive archive({base_tar(), top_tar()}, {"tool"}, Compression::gzip);
  archive.manifest().layers[1].diff_id = Sha256::of(std::string_view("else"));
  try {
    load(archive);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::corrupt);
    EXPECT_TRUE(error.message().starts_with("layer 2 (sha256:")) << error.message();
  }
  EXPECT_EQ(leftovers(), "0 0 0 0 0");
  FakeArchive blob({base_tar()}, {"tool"}, Compression::zstd);
  blob.manifest().layers[0].blob_digest = Sha256::of(std::string_view("else"));
  EXPECT_THROW(load(blob), Error);
  FakeArchive size({base_tar()}, {"tool"}, Compression::zstd);
  size.manifest().layers[0].blob_size += 1;
  EXPECT_THROW(load(size), Error);
  EXPECT_EQ(leftovers(), "0 0 0 0 0");
  Meta::Transaction transaction = store().meta().read();
  EXPECT_TRUE(transaction.list_layers().empty());
  EXPECT_TRUE(transaction.list_images().empty());
}

TEST_P(LibraryTest, BrokenTarsNameTheirEntry) {
  const std::string tar = base_tar();
  try {
    load(FakeArchive({top_tar(), tar.substr(0, 512 * 3 + 100)}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::corrupt) << error.message();
    EXPECT_TRUE(error.message().starts_with("layer 2 (sha256:")) << error.message();
  }
  EXPECT_EQ(leftovers(), "0 0 0 0 0");
}

TEST_P(LibraryTest, TheSameLayerTwice) {
  const std::string empty = LayerTar().bytes();
  load(FakeArchive({empty, base_tar(), empty, implicit_tar(), implicit_tar()}, {"tool"}));
  EXPECT_EQ(library().layers(library().image("tool")).size(), 5U);
  EXPECT_EQ(leftovers(), "3 0 1 0 0");
  const std::map<std::string, std::string> tree = tree_of("tool");
  load(FakeArchive({base_tar(), implicit_tar()}, {"once"}));
  EXPECT_EQ(tree, tree_of("once"));
  (void)library().remove_image("tool");
  (void)library().remove_image("once");
  EXPECT_EQ(leftovers(), "0 0 0 0 0");
}

// The lower one is not mounted, and nothing is missed: files, directories and marks between the two
// are undone by the upper one, whether it brings things or hides them.
TEST_P(LibraryTest, TheSameLayerTwiceWithOthersBetween) {
  const auto twice = [&](const std::string& layer, const std::string& between) {
    const std::string lowest = LayerTar()
                                   .dir("etc")
                                   .file("etc/conf", "lowest")
                                   .dir("var")
                                   .file("var/log", "lowest")
                                   .file("var/run", "lowest")
                                   .bytes();
    load(FakeArchive({lowest, layer, between, layer}, {"twice"}));
    const std::map<std::string, std::string> shown = tree_of("twice");
    const ContainerInfo box = library().create("twice", "box");
    write_file_at(open_root(library().mount("box")).get(), "new", "new", 0644);
    (void)library().commit("box", {.name = "more", .changes = {}, .message = {}, .author = {}});
    EXPECT_TRUE(tree_of("more").contains("new"));
    library().remove_container("box");
    load(FakeArchive({lowest, between, layer}, {"once"}));
    EXPECT_EQ(shown, tree_of("once"));
    for (const char* name : {"more", "twice", "once"}) (void)library().remove_image(name);
    return shown;
  };
  const std::string brings =
      LayerTar().dir("etc").file("etc/conf", "layer").file("etc/new", "layer").bytes();
  const std::string hides = LayerTar().dir("var").file("var/.wh.log", "").bytes();
  const std::string replaces = LayerTar().dir("var").file("var/.wh..wh..opq", "").bytes();
  const std::string deletes = LayerTar().file(".wh.etc", "").file("var/log", "between").bytes();
  const std::string adds = LayerTar().file("var/log", "between").file("etc/new", "b").bytes();
  const std::string turns = LayerTar().file("etc", "a file").dir("var/log").bytes();
  for (const std::string& between : {deletes, adds, turns}) {
    EXPECT_TRUE(twice(brings, between).contains("etc/new"));
    EXPECT_FALSE(twice(hides, between).contains("var/log"));
    EXPECT_FALSE(twice(replaces, between).contains("var/run"));
  }
}

TEST_P(LibraryTest, WithoutLayers) {
  load(FakeArchive({}, {"void"}));
  EXPECT_EQ(library().image("void").layers, 0U);
  EXPECT_EQ(library().image("void").record.top, std::nullopt);
  const ContainerInfo container = library().create("void", "c");
  const std::string path = library().mount("c");
  write_file_at(open_root(path).get(), "new", "new", 0644);
  (void)library().commit("c", {.name = "one", .changes = {}, .message = {}, .author = {}});
  EXPECT_TRUE(tree_of("one").contains("new"));
}

TEST_P(LibraryTest, TwoThreadsLoadOneImage) {
  const FakeArchive archive({base_tar(), top_tar(), implicit_tar()}, {"tool"});
  std::vector<std::future<LoadedImage>> loads;
  for (int i = 0; i < 4; ++i)
    loads.push_back(std::async(std::launch::async, [&] { return load(archive); }));
  for (auto& one : loads) EXPECT_EQ(one.get().layers.size(), 3U);
  EXPECT_EQ(library().images().size(), 1U);
  EXPECT_EQ(leftovers(), "3 0 1 0 0");
}

TEST_P(LibraryTest, RemovalFreesEverything) {
  load(FakeArchive({base_tar(), top_tar()}, {"a", "b"}));
  load(FakeArchive({base_tar(), implicit_tar()}, {"c"}));
  EXPECT_EQ(leftovers(), "3 0 2 0 0");
  const Library::Removed name = library().remove_image("a");
  EXPECT_EQ(name.names, (std::vector<std::string>{"a:latest"}));
  EXPECT_EQ(name.image, std::nullopt);
  const Library::Removed image = library().remove_image("b");
  EXPECT_EQ(image.names, (std::vector<std::string>{"b:latest"}));
  EXPECT_TRUE(image.image);
  EXPECT_EQ(leftovers(), "2 0 1 0 0");
  EXPECT_TRUE(tree_of("c").contains("etc/conf"));
  const std::string id = library().image("c").record.config.hex();
  (void)library().remove_image(id.substr(0, 12));
  EXPECT_EQ(leftovers(), "0 0 0 0 0");
  EXPECT_THROW((void)library().remove_image("c"), Error);
}

TEST_P(LibraryTest, AnImageOfAnotherStays) {
  load(FakeArchive({base_tar(), top_tar()}, {"upper"}));
  load(FakeArchive({base_tar()}, {"lower"}));
  (void)library().remove_image("upper");
  EXPECT_TRUE(tree_of("lower").contains("etc/conf"));
  EXPECT_EQ(leftovers(), "1 0 1 0 0");
  load(FakeArchive({base_tar(), top_tar()}, {"upper"}));
  (void)library().remove_image("lower");
  EXPECT_TRUE(tree_of("upper").contains("etc/conf"));
}

TEST_P(LibraryTest, Containers) {
  load(FakeArchive({base_tar()}, {"tool"}));
  const ContainerInfo named = library().create("tool", "mine");
  const ContainerInfo other = library().create("tool", "");
  EXPECT_EQ(named.record.id.size(), 64U);
  EXPECT_EQ(named.image_name, "tool:latest");
  EXPECT_EQ(named.mounted_on, "");
  EXPECT_NE(other.record.name.find('_'), std::string::npos);
  EXPECT_EQ(library().containers().size(), 2U);
  EXPECT_EQ(library().image("tool").containers, 2U);
  EXPECT_EQ(library().container(named.record.id.substr(0, 8)).record.name, "mine");
  EXPECT_THROW((void)library().create("tool", "mine"), Error);
  EXPECT_THROW((void)library().create("tool", "/"), Error);
  EXPECT_THROW((void)library().create("none", "x"), Error);
  EXPECT_EQ(list_dir(store().layout().snapshots()).size(), 2U);

  const std::string path = library().mount("mine");
  EXPECT_EQ(library().mount("mine"), path);
  EXPECT_EQ(library().container("mine").mounted_on, path);
  EXPECT_TRUE(library().unmount("mine"));
  EXPECT_FALSE(library().unmount("mine"));
  try {
    (void)library().remove_image("tool");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::failed_precondition);
    EXPECT_NE(error.message().find("mine"), std::string::npos) << error.message();
  }
  library().remove_container("mine");
  (void)library().mount(other.record.name);
  library().remove_container(other.record.id);
  EXPECT_EQ(leftovers(), "1 0 1 0 0");
  EXPECT_THROW((void)library().container("mine"), Error);
}

TEST_P(LibraryTest, AMountedImageStays) {
  load(FakeArchive({base_tar()}, {"tool"}));
  const std::string path = library().mount("tool");
  EXPECT_EQ(library().mount("tool"), path);
  EXPECT_THROW(write_file_at(open_root(path).get(), "new", "new", 0644), Error);
  EXPECT_THROW((void)library().remove_image("tool"), Error);
  EXPECT_TRUE(library().unmount("tool"));
  EXPECT_FALSE(library().unmount("tool"));
  (void)library().remove_image("tool");
  EXPECT_EQ(leftovers(), "0 0 0 0 0");
}

TEST_P(LibraryTest, LeftoversGoWithTheImage) {
  const LoadedImage loaded = load(FakeArchive({base_tar()}, {"tool"}));
  const auto snapshotter = open_snapshotter(store(), kLocalSpace);
  const std::string top = library().layers(loaded.image).back().chain_id.str();
  (void)snapshotter->prepare("of a maker that died", top, {});
  (void)snapshotter->view("view-" + loaded.image.record.config.hex(), top, {});
  (void)library().remove_image("tool");
  EXPECT_EQ(leftovers(), "0 0 0 0 0");
}

TEST_P(LibraryTest, Commit) {
  load(FakeArchive({base_tar()}, {"tool"}));
  (void)library().create("tool", "c");
  {
    const UniqueFd root = open_root(library().mount("c"));
    unlink_at(root.get(), RelPath::parse("etc/conf"));
    write_file_at(root.get(), "new", "content", 0640);
  }
  EXPECT_EQ(library().changes("c"), (std::vector<Change>{{ChangeKind::modify, "/etc"},
                                                         {ChangeKind::remove, "/etc/conf"},
                                                         {ChangeKind::add, "/new"}}));
  StringSink diff;
  library().write_diff("c", diff);
  const ImageInfo image = library().commit("c", {.name = "made:1",
                                                 .changes = {"CMD [\"x\"]", "ENV B=2"},
                                                 .message = "why",
                                                 .author = "who",
                                                 .epoch = 1000000000});
  EXPECT_EQ(image.names, (std::vector<std::string>{"made:1"}));
  EXPECT_EQ(image.layers, 2U);
  const Json config = Json::parse(library().config(image));
  EXPECT_EQ(config.string("created"), "2001-09-09T01:46:40Z");
  EXPECT_EQ(config.string("author"), "who");
  EXPECT_EQ(config.number("x.unknown"), 7U);
  EXPECT_EQ(config.object("config").strings("Env"), (std::vector<std::string>{"A=1", "B=2"}));
  EXPECT_EQ(config.object("config").strings("Cmd"), (std::vector<std::string>{"x"}));
  const Json& history = config.array("history").back();
  EXPECT_EQ(history.string("created_by"), "veneer commit");
  EXPECT_EQ(history.string("comment"), "why");
  EXPECT_EQ(history.string("created"), "2001-09-09T01:46:40Z");
  EXPECT_TRUE(library().unmount("c"));
  const auto tree = tree_of("made:1");
  EXPECT_FALSE(tree.contains("etc/conf"));
  EXPECT_TRUE(tree.contains("new") && tree.contains("bin/tool"));

  // Times are clamped and nothing else differs, so the same again is the same image.
  const ImageInfo again = library().commit("c", {.name = "again",
                                                 .changes = {"CMD [\"x\"]", "ENV B=2"},
                                                 .message = "why",
                                                 .author = "who",
                                                 .epoch = 1000000000});
  EXPECT_EQ(again.record.config, image.record.config);
  EXPECT_THROW(
      (void)library().commit("c", {.name = "", .changes = {"RUN x"}, .message = {}, .author = {}}),
      Error);
  // The image can go while its container is there, the container's own cannot.
  (void)library().remove_image(image.record.config.hex());
  EXPECT_EQ(leftovers(), "1 1 1 0 0");
}

TEST_P(LibraryTest, AnEmptyDiffIsALayer) {
  load(FakeArchive({base_tar()}, {"tool"}));
  (void)library().create("tool", "c");
  const ImageInfo image =
      library().commit("c", {.name = "", .changes = {}, .message = {}, .author = {}});
  EXPECT_EQ(image.layers, 2U);
  EXPECT_TRUE(image.names.empty());
  EXPECT_EQ(library().layers(image)[1].file_bytes, 0U);
}

// What save() writes, opened as an archive of one.
class Saved {
 public:
  Saved(Library& library, std::string_view reference, const SaveOptions& options) {
    StringSink sink;
    library.save(reference, options, sink);
    text_ = sink.text();
    write_file_at(scratch_.dir(), "image", text_, 0600);
  }
  std::unique_ptr<ImageArchive> open(const OpenImageOptions& options = {}) const {
    return open_image(scratch_.path() + "/image", options, scratch_.path());
  }
  const std::string& text() const { return text_; }

 private:
  test::Scratch scratch_;
  std::string text_;
};

TEST_P(LibraryTest, SaveAndLoad) {
  const FakeArchive archive({base_tar(), implicit_tar(), base_tar(), top_tar()},
                            {"tool", "x.io/a/b:v1"}, Compression::gzip);
  load(archive);
  using enum SaveOptions::Format;
  using enum SaveOptions::Compression;
  for (const SaveOptions::Format format : {oci, docker}) {
    for (const SaveOptions::Compression compression : {none, gzip, zstd}) {
      const SaveOptions options{.format = format, .compression = compression};
      const Saved saved(library(), "tool", options);
      EXPECT_TRUE(Saved(library(), "tool", options).text() == saved.text());
      (void)library().remove_image(archive.manifest().config_digest.hex());
      EXPECT_EQ(leftovers(), "0 0 0 0 0");
      const LoadedImage loaded = load(*saved.open());
      EXPECT_EQ(loaded.image.record.config, archive.manifest().config_digest);
      EXPECT_EQ(loaded.image.names, (std::vector<std::string>{"tool:latest"}));
      EXPECT_EQ(library().config(loaded.image), archive.manifest().config);
    }
  }
}

TEST_P(LibraryTest, SavesAllNamesOfAnId) {
  const LoadedImage loaded = load(FakeArchive({base_tar()}, {"tool", "x.io/a/b:v1"}));
  const std::string id = loaded.image.record.config.hex();
  for (const auto format : {SaveOptions::Format::oci, SaveOptions::Format::docker}) {
    const Saved saved(library(), id, {.format = format});
    EXPECT_EQ(saved.open()->manifest().names.size(), 2U);
    EXPECT_EQ(saved.open({.name = "x.io/a/b:v1", .platform = {}})->manifest().config_digest,
              loaded.image.record.config);
  }
}

// By the checksum, or by the digest where the database has none, or a wrong one.
TEST_P(LibraryTest, SaveNoticesDamage) {
  load(FakeArchive({base_tar()}, {"tool"}));
  const Layout& layout = store().layout();
  const std::string bytes = base_tar();
  const Digest diff_id = Sha256::of(bytes);
  Crc64 checksum;
  checksum.update(std::as_bytes(std::span(bytes)));
  EXPECT_EQ(store().meta().read().maybe_layer(diff_id).value().checksum, checksum.value());

  const UniqueFd layer = open_dir_at(layout.layers(), Layout::digest_name(diff_id));
  const UniqueFd tar = open_at(layer.get(), "layer.tar", O_WRONLY);
  const auto write = [&](std::string_view text) {
    write_all_at(tar.get(), std::as_bytes(std::span(text)), 1024);
  };
  const std::string good = bytes.substr(1024, 1);
  for (const std::string change : {"", "NULL", "checksum + 1"}) {
    if (!change.empty())
      SqlConnection(layout.path() + "/store.db").run("UPDATE layers SET checksum = " + change);
    for (const auto compression :
         {SaveOptions::Compression::none, SaveOptions::Compression::zstd}) {
      const SaveOptions options{.compression = compression};
      StringSink sink;
      write(good);
      EXPECT_NO_THROW(library().save("tool", options, sink)) << change;
      write("y");
      try {
        library().save("tool", options, sink);
        ADD_FAILURE() << change;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::corrupt);
        EXPECT_NE(error.message().find(diff_id.str()), std::string::npos) << error.message();
      }
    }
  }
}

TEST_P(LibraryTest, SaveNoticesATarThatIsShort) {
  load(FakeArchive({base_tar()}, {"tool"}));
  const UniqueFd layer =
      open_dir_at(store().layout().layers(), Layout::digest_name(Sha256::of(base_tar())));
  set_size(open_at(layer.get(), "layer.tar", O_WRONLY).get(), 1500);
  StringSink text;
  const UniqueFd file(::memfd_create("saved", MFD_CLOEXEC));
  FdSink to(file.get());
  for (Sink* sink : std::initializer_list<Sink*>{&text, &to}) {
    try {
      library().save("tool", {}, *sink);
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::corrupt) << error.message();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, LibraryTest, testing::Values(Form::packed, Form::directory),
                         [](const auto& tested) {
                           return tested.param == Form::packed ? "packed" : "directory";
                         });

}  // namespace
}  // namespace veneer
