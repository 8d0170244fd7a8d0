#include "layer/diff.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <functional>
#include <map>

#include "base/at.h"
#include "base/error.h"
#include "base/limits.h"
#include "tar/reader.h"

namespace veneer {
namespace {

using Lines = std::vector<std::string>;

constexpr timespec kTime{1700000000, 0};

// One layer's directory. Paths are relative to it; everything gets one time unless told.
class Layer {
 public:
  explicit Layer(int dir) : dir_(dir) { stamp("."); }
  int fd() const { return dir_; }

  Layer& dir(const std::string& path, mode_t mode = 0755) {
    make_dir_at(fd(), RelPath::parse(path), mode);
    return stamp(path);
  }
  Layer& file(const std::string& path, std::string_view text = "", timespec time = kTime) {
    write_file_at(fd(), RelPath::parse(path), text, 0644);
    return stamp(path, time);
  }
  Layer& symlink(const std::string& path, const std::string& target) {
    make_symlink_at(target, fd(), RelPath::parse(path));
    return stamp(path);
  }
  Layer& fifo(const std::string& path) {
    make_node_at(fd(), RelPath::parse(path), S_IFIFO | 0600, 0);
    return stamp(path);
  }
  Layer& link(const std::string& path, const std::string& to) {
    link_at(fd(), RelPath::parse(to), fd(), RelPath::parse(path));
    return stamp(path.contains('/') ? path.substr(0, path.rfind('/')) : ".");
  }
  Layer& whiteout(const std::string& path) {
    make_node_at(fd(), RelPath::parse(path), S_IFCHR, 0);
    return *this;
  }
  Layer& xattr(const std::string& path, const std::string& name, std::string_view value) {
    set_xattr_at(fd(), RelPath::parse(path), name.c_str(), value);
    return *this;
  }
  Layer& mark(const std::string& path, const std::string& key, std::string_view value = "y") {
    return xattr(path, "user.overlay." + key, value);
  }
  Layer& chmod(const std::string& path, mode_t mode) {
    chmod_at(fd(), RelPath::parse(path), mode);
    return *this;
  }
  // Also the directories above, whose time the change before has moved.
  Layer& stamp(const std::string& path, timespec time = kTime) {
    const RelPath at = RelPath::parse(path);
    set_times_at(fd(), at, time, time);
    for (RelPath up = at; !up.empty();) {
      up.pop();
      set_times_at(fd(), up, kTime, kTime);
    }
    return *this;
  }

 private:
  int dir_;  // the fixture's
};

class Diff : public testing::Test {
 protected:
  Diff() {
    std::string name = "/var/tmp/veneer-diff-XXXXXX";
    path_ = ::mkdtemp(name.data());
    dir_ = open_root(path_);
  }
  ~Diff() override {
    remove_children(dir_.get());
    (void)::rmdir(path_.c_str());
  }

  Layer layer() {
    const RelPath name = RelPath::parse(std::to_string(layers_.size()));
    make_dir_at(dir_.get(), name, 0755);
    layers_.push_back(open_dir_at(dir_.get(), name));
    return Layer(layers_.back().get());
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  UniqueFd dir_;
  std::vector<UniqueFd> layers_;
};

// Nobody may set trusted.overlay.* here.
View view(std::initializer_list<const Layer*> layers) {
  View view{.layers = {}, .marks = Marks::user};
  for (const Layer* layer : layers) view.layers.push_back(layer->fd());
  return view;
}

Lines listed(const View& now, const std::optional<View>& before) {
  Lines lines;
  for (const Change& change : list_changes(now, before))
    lines.push_back("CAD"[static_cast<int>(change.kind)] + (" " + change.path));
  return lines;
}

// Everything that a view shows.
Lines shown(const View& now) {
  Lines lines;
  for (const Change& change : list_changes(now, std::nullopt)) lines.push_back(change.path);
  return lines;
}

std::string tar_of(const View& now, const std::optional<View>& before,
                   const DiffOptions& options = {}) {
  StringSink sink;
  write_diff(now, before, options, sink);
  return sink.text();
}

// One line an entry: path, what it is, and what `more` adds.
Lines entries(const std::string& archive,
              const std::function<std::string(const tar::Entry&)>& more = {}) {
  MemorySource source(std::as_bytes(std::span(archive)));
  tar::Reader reader(source);
  Lines lines;
  while (const tar::Entry* entry = reader.next()) {
    std::string line = entry->path;
    if (entry->type == tar::EntryType::hard_link) line += " == " + entry->link_target;
    if (entry->type == tar::EntryType::symlink) line += " -> " + entry->link_target;
    if (entry->type == tar::EntryType::fifo) line += " fifo";
    if (entry->size > 0) line += " ";
    const std::string rest = more ? more(*entry) : "";
    while (const std::optional<tar::Piece> piece = reader.read())
      line.append(reinterpret_cast<const char*>(piece->bytes.data()),
                  std::min<size_t>(piece->bytes.size(), 20));
    lines.push_back(line + rest);
  }
  return lines;
}

std::optional<Code> code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

TEST_F(Diff, NothingChanged) {
  const Layer lower = layer().dir("d").file("d/f", "x").symlink("l", "d");
  const Layer upper = layer();
  EXPECT_EQ(listed(view({&lower}), view({&lower})), Lines{});
  EXPECT_EQ(listed(view({&upper, &lower}), view({&lower})), Lines{});
  EXPECT_EQ(entries(tar_of(view({&upper, &lower}), view({&lower}))), Lines{});
}

TEST_F(Diff, ParentsOfChangesAreModified) {
  const Layer lower =
      layer().dir("a").dir("a/b").file("a/b/f", "x").file("a/b/gone").dir("other").file("a.b");
  const Layer upper = layer()
                          .dir("a")
                          .dir("a/b")
                          .file("a/b/f", "y")
                          .file("a/b/new")
                          .whiteout("a/b/gone")
                          .stamp("a/b/new")
                          .file("a.b", "longer")
                          .dir("other")
                          .stamp("other");
  EXPECT_EQ(listed(view({&upper, &lower}), view({&lower})),
            (Lines{"C /a", "C /a.b", "C /a/b", "C /a/b/f", "D /a/b/gone", "A /a/b/new"}));
  EXPECT_EQ(entries(tar_of(view({&upper, &lower}), view({&lower}))),
            (Lines{"a/", "a/b/", "a/b/.wh.gone", "a/b/f y", "a/b/new", "a.b longer"}));
}

TEST_F(Diff, NewDirectoriesWithAllTheyHold) {
  const Layer lower = layer().dir("gone").dir("gone/sub").file("gone/sub/f");
  const Layer upper = layer().whiteout("gone").dir("n").dir("n/m").file("n/m/f", "1").fifo("n/p");
  EXPECT_EQ(listed(view({&upper, &lower}), view({&lower})),
            (Lines{"D /gone", "A /n", "A /n/m", "A /n/m/f", "A /n/p"}));
}

TEST_F(Diff, TheTimeOfADirectoryIsInTheTarOnly) {
  const Layer lower = layer().dir("d").dir("e");
  const Layer upper = layer().dir("d").dir("e").stamp("d", {5, 0}).stamp("e", {kTime.tv_sec, 9});
  EXPECT_EQ(listed(view({&upper, &lower}), view({&lower})), Lines{});
  const auto time = [](const tar::Entry& entry) {
    return fmt::format(" @{}.{}", entry.modified.seconds, entry.modified.nanoseconds);
  };
  EXPECT_EQ(entries(tar_of(view({&upper, &lower}), view({&lower})), time), Lines{"d/ @5.0"});
}

TEST_F(Diff, TheTopDirectory) {
  const Layer lower = layer().file("f");
  Layer upper = layer();
  // Of nobody's tree, the owner is worth an entry.
  const Lines whole = ::getuid() == 0 && ::getgid() == 0 ? Lines{"f"} : Lines{"./", "f"};
  EXPECT_EQ(entries(tar_of(view({&upper, &lower}), std::nullopt)), whole);
  upper.stamp(".", {7, 0});
  EXPECT_EQ(entries(tar_of(view({&upper, &lower}), std::nullopt)), whole);
  EXPECT_EQ(entries(tar_of(view({&upper, &lower}), view({&lower}))), Lines{"./"});
  EXPECT_EQ(listed(view({&upper, &lower}), view({&lower})), Lines{});
  upper.stamp(".").chmod(".", 0700);
  EXPECT_EQ(entries(tar_of(view({&upper, &lower}), std::nullopt)), (Lines{"./", "f"}));
  EXPECT_EQ(entries(tar_of(view({&upper, &lower}), view({&lower}))), Lines{"./"});
}

TEST_F(Diff, OpaqueDirectoriesBecomeWhiteouts) {
  const Layer bottom = layer().dir("d").file("d/a").file("d/old").dir("d/sub").file("d/sub/f");
  const Layer lower = layer().dir("d").file("d/z").whiteout("d/old").stamp("d/z");
  const Layer upper = layer().dir("d").file("d/a", "2").file("d/new").mark("d", "opaque");
  EXPECT_EQ(listed(view({&upper, &lower, &bottom}), view({&lower, &bottom})),
            (Lines{"C /d", "C /d/a", "A /d/new", "D /d/sub", "D /d/z"}));
  const std::string archive = tar_of(view({&upper, &lower, &bottom}), view({&lower, &bottom}));
  const auto time = [](const tar::Entry& entry) {
    return fmt::format(" {}", entry.modified.seconds / 100000000);
  };
  EXPECT_EQ(entries(archive, time),
            (Lines{"d/ 17", "d/.wh.sub 0", "d/.wh.z 0", "d/a 2 17", "d/new 17"}));
}

TEST_F(Diff, WhatOnlyTheOtherSideHides) {
  const Layer lower = layer().dir("d").file("d/a", "1").file("d/b").dir("e").file("e/f");
  const Layer hides = layer().dir("d").mark("d", "opaque").whiteout("e");
  EXPECT_EQ(listed(view({&lower}), view({&hides, &lower})),
            (Lines{"C /d", "A /d/a", "A /d/b", "A /e", "A /e/f"}));
}

TEST_F(Diff, WhiteoutsOfNothing) {
  const Layer lower = layer().dir("d");
  const Layer upper = layer().dir("d").whiteout("never").whiteout("d/never").stamp("d").stamp(".");
  EXPECT_EQ(listed(view({&upper, &lower}), view({&lower})), Lines{});
  EXPECT_EQ(entries(tar_of(view({&upper, &lower}), view({&lower}))), Lines{});
}

TEST_F(Diff, XattrWhiteouts) {
  const Layer lower = layer().dir("d").file("d/a").file("d/b").file("d/c").dir("e").file("e/a");
  const Layer upper = layer()
                          .dir("d")
                          .mark("d", "opaque", "x")
                          .file("d/a")
                          .mark("d/a", "whiteout", "")
                          .file("d/b", "not empty")
                          .mark("d/b", "whiteout", "")
                          .file("d/c", "", {8, 0})
                          .dir("e")
                          .file("e/a", "", {8, 0})
                          .mark("e/a", "whiteout", "")
                          .stamp("d")
                          .stamp("e");
  EXPECT_EQ(listed(view({&upper, &lower}), view({&lower})),
            (Lines{"C /d", "D /d/a", "C /d/b", "C /d/c", "C /e", "C /e/a"}));
}

TEST_F(Diff, OneKindOfMarksIsHeeded) {
  const Layer lower = layer().dir("d").file("d/a");
  const Layer upper = layer().dir("d").mark("d", "opaque");
  View now = view({&upper, &lower});
  now.marks = Marks::trusted;
  EXPECT_EQ(shown(now), (Lines{"/d", "/d/a"}));
  now.marks = Marks::user;
  EXPECT_EQ(shown(now), Lines{"/d"});
}

TEST_F(Diff, TopsAreMergedOpaqueOrNot) {
  const Layer lower = layer().file("a");
  const Layer upper = layer().file("b").mark(".", "opaque");
  EXPECT_EQ(shown(view({&upper, &lower})), (Lines{"/a", "/b"}));
}

TEST_F(Diff, ANewTypeIsOneChange) {
  const Layer lower = layer().dir("d").file("d/f").file("f").symlink("l", "d").file("p", "x");
  const Layer upper = layer().file("d", "1").dir("f").file("f/n").dir("l").symlink("p", "d");
  EXPECT_EQ(listed(view({&upper, &lower}), view({&lower})),
            (Lines{"C /d", "C /f", "A /f/n", "C /l", "C /p"}));
  EXPECT_EQ(entries(tar_of(view({&upper, &lower}), view({&lower}))),
            (Lines{"d 1", "f/", "f/n", "l/", "p -> d"}));
}

TEST_F(Diff, WhatIsBelowAFileIsHidden) {
  const Layer bottom = layer().dir("d").file("d/deep");
  const Layer lower = layer().file("d");
  const Layer upper = layer().dir("d").file("d/new");
  EXPECT_EQ(shown(view({&upper, &lower, &bottom})), (Lines{"/d", "/d/new"}));
}

TEST_F(Diff, ContentDecidesWhereAttributesAgree) {
  const std::string big(600000, 'a');
  std::string other = big;
  other.back() = 'b';
  const Layer lower = layer().file("same", big).file("other", big).symlink("l", "ab");
  const Layer upper = layer().file("same", big).file("other", other).symlink("l", "cd");
  EXPECT_EQ(listed(view({&upper, &lower}), view({&lower})), (Lines{"C /l", "C /other"}));
}

TEST_F(Diff, TimesAgreeWhereOneIsWholeSeconds) {
  const Layer lower = layer().file("a", "x", {9, 5}).file("b", "x", {9, 5}).file("c", "x", {9, 0});
  const Layer upper = layer().file("a", "x", {9, 0}).file("b", "x", {9, 6}).file("c", "x", {8, 0});
  EXPECT_EQ(listed(view({&upper, &lower}), view({&lower})), (Lines{"C /b", "C /c"}));
}

TEST_F(Diff, ModesAndXattrsCount) {
  const Layer lower = layer().file("a").file("b").file("c").dir("d").file("e");
  const Layer upper = layer()
                          .file("a")
                          .chmod("a", 0600)
                          .file("b")
                          .xattr("b", "user.x", "1")
                          .file("c")
                          .mark("c", "origin", "handle")
                          .dir("d", 01777)
                          .stamp("d")
                          .file("e")
                          .mark("e", "overlay.origin", "data");
  EXPECT_EQ(listed(view({&upper, &lower}), view({&lower})),
            (Lines{"C /a", "C /b", "C /d", "C /e"}));
  const auto xattrs = [](const tar::Entry& entry) {
    std::string text = fmt::format(" {:o}", entry.mode);
    for (const Xattr& xattr : entry.xattrs) text += " " + xattr.name + "=" + xattr.value;
    return text;
  };
  EXPECT_EQ(entries(tar_of(view({&upper, &lower}), view({&lower})), xattrs),
            (Lines{"a 600", "b 644 user.x=1", "d/ 1777", "e 644 user.overlay.origin=data"}));
}

TEST_F(Diff, RedirectedDirectories) {
  const Layer bottom = layer().dir("p").dir("p/old").file("p/old/deep").dir("p/name");
  const Layer lower = layer().dir("p").dir("p/old").file("p/old/f", "1").dir("p/old/sub");
  const Layer upper = layer()
                          .dir("p")
                          .whiteout("p/old")
                          .dir("p/new")
                          .mark("p/new", "redirect", "old")
                          .dir("moved")
                          .dir("moved/in")
                          .mark("moved/in", "redirect", "/p/old")
                          .dir("p/name")
                          .mark("p/name", "opaque");
  EXPECT_EQ(shown(view({&upper, &lower, &bottom})),
            (Lines{"/moved", "/moved/in", "/moved/in/deep", "/moved/in/f", "/moved/in/sub", "/p",
                   "/p/name", "/p/new", "/p/new/deep", "/p/new/f", "/p/new/sub"}));
  EXPECT_EQ(
      listed(view({&upper, &lower, &bottom}), view({&lower, &bottom})),
      (Lines{"A /moved", "A /moved/in", "A /moved/in/deep", "A /moved/in/f", "A /moved/in/sub",
             "C /p", "A /p/new", "A /p/new/deep", "A /p/new/f", "A /p/new/sub", "D /p/old"}));
}

TEST_F(Diff, RedirectsChain) {
  // /c is /b of the middle layer, which is below /x/a; so its lowest part is /y/a.
  const Layer bottom = layer().dir("y").dir("y/a").file("y/a/deep").dir("c").file("c/wrong");
  const Layer middle =
      layer().dir("x").mark("x", "redirect", "y").dir("x/a").file("x/a/mid").whiteout("y");
  const Layer upper = layer().dir("c").mark("c", "redirect", "/x/a");
  EXPECT_EQ(shown(view({&upper, &middle, &bottom})),
            (Lines{"/c", "/c/deep", "/c/mid", "/x", "/x/a", "/x/a/deep", "/x/a/mid"}));
}

TEST_F(Diff, OpaqueDirectoriesOnTheWayOfARedirect) {
  const Layer bottom = layer().dir("x").dir("x/a").file("x/a/hidden").dir("z").file("z/seen");
  const Layer cut = layer().dir("x").mark("x", "opaque").dir("x/a").file("x/a/f");
  const Layer upper = layer().dir("c").mark("c", "redirect", "/x/a");
  EXPECT_EQ(shown(view({&upper, &cut, &bottom})),
            (Lines{"/c", "/c/f", "/x", "/x/a", "/x/a/f", "/z", "/z/seen"}));
  const Layer onward =
      layer().dir("x").mark("x", "opaque").dir("x/a").mark("x/a", "redirect", "/z");
  EXPECT_EQ(shown(view({&upper, &onward, &bottom})),
            (Lines{"/c", "/c/seen", "/x", "/x/a", "/x/a/seen", "/z", "/z/seen"}));
}

TEST_F(Diff, AFileOnTheWayOfARedirectEndsIt) {
  const Layer bottom = layer().dir("x").dir("x/a").file("x/a/hidden");
  const Layer middle = layer().file("x");
  const Layer upper = layer().dir("c").mark("c", "redirect", "/x/a");
  EXPECT_EQ(shown(view({&upper, &middle, &bottom})), (Lines{"/c", "/x"}));
}

TEST_F(Diff, OneTopOverDifferentLayersIsNotShared) {
  const Layer top = layer().dir("d").dir("d/moved").mark("d/moved", "redirect", "/y");
  const Layer one = layer().dir("y").file("y/one");
  const Layer two = layer().dir("y").file("y/two");
  EXPECT_EQ(listed(view({&top, &one}), view({&top, &two})),
            (Lines{"C /d", "C /d/moved", "A /d/moved/one", "D /d/moved/two", "C /y", "A /y/one",
                   "D /y/two"}));
}

TEST_F(Diff, RedirectsCannotLeaveTheLayers) {
  const Layer lower = layer().dir("d");
  for (const std::string_view target : {"..", "/..", "/../../etc", "a/b", "/", "//d", "/d/", "."}) {
    const Layer upper = layer().dir("d").mark("d", "redirect", target);
    EXPECT_EQ(code_of([&] { shown(view({&upper, &lower})); }), Code::corrupt) << target;
  }
}

TEST_F(Diff, MetacopiesTakeTheirDataFromBelow) {
  const Layer bottom = layer().dir("d").file("d/old", "hello").file("a", "data").file("b", "bytes");
  const Layer middle = layer().file("a", "....").mark("a", "metacopy", "").chmod("a", 0640);
  const Layer upper = layer()
                          .file("a", "....")
                          .mark("a", "metacopy", "")
                          .chmod("a", 0600)
                          .file("moved", ".....")
                          .mark("moved", "metacopy", "")
                          .mark("moved", "redirect", "/d/old")
                          .file("b", ".....")
                          .mark("b", "metacopy", "");
  const auto mode = [](const tar::Entry& entry) { return fmt::format(" {:o}", entry.mode); };
  EXPECT_EQ(entries(tar_of(view({&upper, &middle, &bottom}), view({&middle, &bottom})), mode),
            (Lines{"a data 600", "moved hello 644"}));
  const Layer lost = layer().file("none", ".....").mark("none", "metacopy", "");
  EXPECT_EQ(code_of([&] { tar_of(view({&lost, &bottom}), view({&bottom})); }), Code::corrupt);
  const Layer short_data = layer().file("a", "......").mark("a", "metacopy", "");
  EXPECT_EQ(code_of([&] { tar_of(view({&short_data, &bottom}), view({&bottom})); }),
            Code::failed_precondition);
}

TEST_F(Diff, HardLinksGoToTheFirstName) {
  const Layer lower = layer().dir("d").file("d/same", "x").file("other");
  const Layer upper =
      layer().dir("d").file("d/same", "x").link("d/more", "d/same").link("a", "d/same").stamp("d");
  EXPECT_EQ(listed(view({&upper, &lower}), view({&lower})), (Lines{"A /a", "C /d", "A /d/more"}));
  EXPECT_EQ(entries(tar_of(view({&upper, &lower}), view({&lower}))),
            (Lines{"a x", "d/", "d/more == a", "d/same == a"}));
  EXPECT_EQ(diff_size(view({&upper, &lower}), view({&lower})), 1U);
}

TEST_F(Diff, InodesThatBothHaveAreUnchanged) {
  Layer before = layer().file("f", "x").file("g", "y");
  Layer now = layer().file("h", "new");
  link_at(before.fd(), "f", now.fd(), "f");
  link_at(before.fd(), "g", now.fd(), "renamed");
  now.stamp(".");
  EXPECT_EQ(listed(view({&now}), view({&before})), (Lines{"D /g", "A /h", "A /renamed"}));
  EXPECT_EQ(entries(tar_of(view({&now}), view({&before}))), (Lines{".wh.g", "h new", "renamed y"}));
}

TEST_F(Diff, SizeIsOfRegularFiles) {
  const Layer lower = layer().file("a", "12345");
  const Layer upper = layer().file("a", "123").dir("d").file("d/b", "1234").symlink("l", "target");
  EXPECT_EQ(diff_size(view({&upper, &lower}), view({&lower})), 7U);
  EXPECT_EQ(diff_size(view({&upper, &lower}), std::nullopt), 7U);
  EXPECT_EQ(diff_size(view({&lower}), std::nullopt), 5U);
}

TEST_F(Diff, IdsAndTimesAsAsked) {
  const uint32_t uid = ::getuid();
  const uint32_t gid = ::getgid();
  const Layer empty = layer();
  const Layer upper = layer().file("a", "", {100, 0}).file("b", "", {200, 7}).dir("c");
  const auto line = [](const tar::Entry& entry) {
    return fmt::format(" {}:{} {}.{}", entry.uid, entry.gid, entry.modified.seconds,
                       entry.modified.nanoseconds);
  };
  const DiffOptions options{.id_maps = {IdMap({{5, uid, 1}}), IdMap({{6, gid, 1}})}, .epoch = 150};
  EXPECT_EQ(entries(tar_of(view({&upper}), view({&empty}), options), line),
            (Lines{"a 5:6 100.0", "b 5:6 150.0", "c/ 5:6 150.0"}));
  const DiffOptions unmapped{.id_maps = {IdMap({{5, uid + 1, 1}}), {}}, .epoch = {}};
  EXPECT_EQ(code_of([&] { tar_of(view({&upper}), view({&empty}), unmapped); }),
            Code::invalid_argument);
}

TEST_F(Diff, NamesThatWouldBeWhiteouts) {
  const Layer empty = layer();
  const Layer bad = layer().dir("d").file("d/.wh.x");
  EXPECT_EQ(shown(view({&bad})), (Lines{"/d", "/d/.wh.x"}));
  EXPECT_EQ(code_of([&] { tar_of(view({&bad}), std::nullopt); }), Code::invalid_argument);
  EXPECT_EQ(entries(tar_of(view({&empty}), view({&bad}))), Lines{".wh.d"});
  const Layer top = layer().file(".wh.x");
  EXPECT_EQ(code_of([&] { tar_of(view({&empty}), view({&top})); }), Code::invalid_argument);
}

void make_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
}

TEST_F(Diff, SocketsAreListedButNotInTheTar) {
  const Layer lower = layer().file("f");
  Layer upper = layer();
  make_socket(path() + "/1/f");
  make_socket(path() + "/1/new");
  upper.stamp(".");
  EXPECT_EQ(listed(view({&upper, &lower}), view({&lower})), (Lines{"C /f", "A /new"}));
  EXPECT_EQ(entries(tar_of(view({&upper, &lower}), view({&lower}))), Lines{".wh.f"});
}

// Does something to the tree when the first data of a file passes.
class MeddlingSink : public Sink {
 public:
  explicit MeddlingSink(std::function<void()> meddle) : meddle_(std::move(meddle)) {}
  void write(Bytes bytes) override {
    size_ += bytes.size();
    if (bytes.size() > 4096 && meddle_) std::exchange(meddle_, nullptr)();
  }
  size_t size() const { return size_; }

 private:
  std::function<void()> meddle_;
  size_t size_ = 0;
};

TEST_F(Diff, FilesThatChangeWhileTheyAreRead) {
  const std::string big(3 * kChunkBytes, 'a');
  Layer upper = layer().file("f", big);
  const auto meddle = [&](const std::function<void(int)>& change) {
    return MeddlingSink([&, change] { change(open_at(upper.fd(), "f", O_RDWR).get()); });
  };
  std::vector<std::function<void(int)>> changes;
  changes.emplace_back([](int fd) { set_size(fd, kChunkBytes + 1); });
  changes.emplace_back(
      [&](int fd) { write_all_at(fd, std::as_bytes(std::span("b")), big.size()); });
  changes.emplace_back([](int fd) { write_all_at(fd, std::as_bytes(std::span("b")), 0); });
  changes.emplace_back([&](int fd) {
    write_all_at(fd, std::as_bytes(std::span("b")), 0);
    set_times_fd(fd, kTime, kTime);
  });
  for (const auto& change : changes) {
    remove_tree_at(upper.fd(), "f");
    upper.file("f", big);
    MeddlingSink sink = meddle(change);
    EXPECT_EQ(code_of([&] { write_diff(view({&upper}), std::nullopt, {}, sink); }),
              Code::failed_precondition);
    // The header and data, and never the two blocks at the end.
    EXPECT_LT(sink.size(), 512 + big.size() + 1024);
  }
}

TEST_F(Diff, LinksMadeElsewhereAreNoChange) {
  const std::string big(3 * kChunkBytes, 'a');
  Layer upper = layer().file("f", big);
  const Layer other = layer();
  MeddlingSink sink([&] { link_at(upper.fd(), "f", other.fd(), "f"); });
  write_diff(view({&upper}), std::nullopt, {}, sink);
  EXPECT_EQ(sink.size() % 512, 0U);
}

TEST_F(Diff, TheSameTreeGivesTheSameBytes) {
  const auto build = [&](bool forward) {
    Layer made = layer();
    for (int i = 0; i < 50; ++i) made.file(std::to_string(forward ? i : 49 - i), "text");
    return made;
  };
  const Layer a = build(true);
  const Layer b = build(false);
  EXPECT_EQ(tar_of(view({&a}), std::nullopt), tar_of(view({&b}), std::nullopt));
  EXPECT_EQ(listed(view({&a}), view({&b})), Lines{});
}

// Makes a chain of directories of these names.
void make_chain(const Layer& top, const std::vector<std::string>& names) {
  UniqueFd at = dup_fd(top.fd());
  for (const std::string& name : names) {
    const RelPath path = RelPath::parse_name(name, "name");
    make_dir_at(at.get(), path, 0755);
    at = open_dir_at(at.get(), path);
  }
}

TEST_F(Diff, DepthIsLimited) {
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, 4096);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
  const Layer deeper = layer();
  make_chain(deeper, Lines(limits::kPathDepth + 1, "d"));
  EXPECT_EQ(code_of([&] { shown(view({&deeper})); }), Code::resource_exhausted);
  const UniqueFd deep = open_dir_at(deeper.fd(), "d");
  EXPECT_EQ(list_changes({.layers = {deep.get()}}, std::nullopt).size(), limits::kPathDepth);
}

TEST_F(Diff, PathLengthIsLimited) {
  Lines names(16, std::string(255, 'n'));
  const Layer longest = layer();
  make_chain(longest, names);
  EXPECT_EQ(shown(view({&longest})).back().size(), 1 + limits::kPathBytes);
  names.back().resize(127);
  names.emplace_back(128, 'n');
  const Layer longer = layer();
  make_chain(longer, names);
  EXPECT_EQ(code_of([&] { shown(view({&longer})); }), Code::resource_exhausted);
}

}  // namespace
}  // namespace veneer
