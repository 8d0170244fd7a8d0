// Mounts for real: overlayfs both ways, idmapped mounts, guards, and what the probes say.
#include "mount/mount.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>

#include "base/at.h"
#include "base/error.h"
#include "mount/erofs.h"
#include "mount/features.h"
#include "mount/idmap.h"
#include "mount/mapped_overlay.h"
#include "mount/overlay.h"

namespace veneer {
namespace {

using Strings = std::vector<std::string>;
using MountOverlay = UniqueFd (*)(const OverlaySpec&);

std::string mount_table() {
  const UniqueFd proc = open_root("/proc/self");
  return read_file_at(proc.get(), "mountinfo", 1 << 20);
}

size_t open_fds() {
  const UniqueFd fds = open_root("/proc/self/fd");
  return list_dir(fds.get()).size();
}

Error error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing thrown";
  return Error(Code::io, "nothing thrown");
}

// Every test has a directory on the disk, and must give back what it mounted and opened.
class MountTest : public testing::Test {
 protected:
  MountTest() : fds_before_(open_fds()), mounts_before_(mount_table()) {
    EXPECT_NE(::mkdtemp(path_.data()), nullptr);
    dir_ = open_root(path_);
  }
  ~MountTest() override {
    EXPECT_EQ(mount_table(), mounts_before_);
    remove_children(dir_.get());
    dir_.reset();
    EXPECT_EQ(::rmdir(path_.c_str()), 0);
    EXPECT_EQ(open_fds(), fds_before_);
  }

  std::string make_dir(const std::string& name) {
    make_dir_at(dir(), RelPath::parse(name), 0755);
    return path_ + "/" + name;
  }
  void write(const std::string& name, std::string_view text) {
    write_file_at(dir(), RelPath::parse(name), text, 0644);
  }
  std::string read(int from, const std::string& name) {
    return read_file_at(from, RelPath::parse(name), 4096);
  }
  int dir() const { return dir_.get(); }

  // upper, work, and two lowers that both have "who", under names that start with `name`.
  OverlaySpec make_layers(const std::string& name) {
    OverlaySpec spec;
    spec.lower = {make_dir(name + "2"), make_dir(name + "1")};
    spec.upper = make_dir(name + "u");
    spec.work = make_dir(name + "w");
    write(name + "2/who", "2");
    write(name + "1/who", "1");
    write(name + "1/below", "1");
    return spec;
  }

  MountGuard mount_tmpfs(PathView at) {
    check(::mount("tmpfs", (path_ + "/" + at.c_str()).c_str(), "tmpfs", 0, nullptr), "mount tmpfs");
    return MountGuard(dir(), RelPath::parse(at.c_str()));
  }

  std::string path_ = "/var/tmp/mount_test.XXXXXX";
  UniqueFd dir_;

 private:
  size_t fds_before_;
  std::string mounts_before_;
};

// --- mounts ------------------------------------------------------------------------------------

TEST_F(MountTest, AttachAndUnmount) {
  make_dir("source");
  write("source/file", "here");
  make_dir("target");
  EXPECT_FALSE(unmount_at(dir(), "target"));
  EXPECT_FALSE(unmount_at(dir(), "absent"));
  {
    const UniqueFd mount = clone_mount(dir(), "source");
    attach_mount(mount.get(), dir(), "target");
  }
  EXPECT_TRUE(is_mount_point_at(dir(), "target"));
  EXPECT_FALSE(is_mount_point_at(dir(), "source"));
  EXPECT_EQ(read(dir(), "target/file"), "here");
  EXPECT_TRUE(unmount_at(dir(), "target"));
  EXPECT_FALSE(is_mount_point_at(dir(), "target"));
  EXPECT_FALSE(unmount_at(dir(), "target"));
}

TEST_F(MountTest, LinksAreNotFollowed) {
  make_dir("real");
  make_symlink_at("real", dir(), "link");
  const MountGuard guard = mount_tmpfs("real");
  EXPECT_FALSE(is_mount_point_at(dir(), "link"));
  EXPECT_FALSE(unmount_at(dir(), "link"));
  EXPECT_FALSE(unmount_at(dir(), "link", Unmount::detach));
  EXPECT_TRUE(is_mount_point_at(dir(), "real"));
  const UniqueFd mount = clone_mount(dir(), "real");
  EXPECT_THROW(attach_mount(mount.get(), dir(), "link"), Error);
}

TEST_F(MountTest, BusyIsAPrecondition) {
  make_dir("target");
  MountGuard guard = mount_tmpfs("target");
  {
    const UniqueFd user = open_dir_at(dir(), "target");
    EXPECT_EQ(error_of([&] { unmount_at(dir(), "target"); }).code(), Code::failed_precondition);
    EXPECT_EQ(error_of([&] { guard.unmount(); }).code(), Code::failed_precondition);
    EXPECT_TRUE(is_mount_point_at(dir(), "target"));
    EXPECT_TRUE(unmount_at(dir(), "target", Unmount::detach));
    EXPECT_FALSE(is_mount_point_at(dir(), "target"));
  }
  guard.unmount();
}

TEST_F(MountTest, GuardUnmountsAtItsEnd) {
  make_dir("target");
  {
    MountGuard first = mount_tmpfs("target");
    {
      const MountGuard second = std::move(first);
      EXPECT_TRUE(is_mount_point_at(dir(), "target"));
    }
    EXPECT_FALSE(is_mount_point_at(dir(), "target"));
    // Would be taken by `first` if it still felt responsible.
    mount_tmpfs("target").release();
  }
  EXPECT_TRUE(is_mount_point_at(dir(), "target"));
  EXPECT_TRUE(unmount_at(dir(), "target"));
}

TEST_F(MountTest, MagicOfWhatIsThere) {
  make_dir("target");
  const uint64_t disk = file_system_magic_at(dir(), "target");
  const MountGuard guard = mount_tmpfs("target");
  EXPECT_EQ(file_system_magic_at(dir(), "target"), magic::kTmpfs);
  EXPECT_NE(disk, magic::kTmpfs);
}

// --- overlayfs ---------------------------------------------------------------------------------

class OverlayTest : public MountTest, public testing::WithParamInterface<MountOverlay> {
 protected:
  UniqueFd mount(const OverlaySpec& spec) { return GetParam()(spec); }
};

INSTANTIATE_TEST_SUITE_P(Ways, OverlayTest, testing::Values(mount_overlay, mount_overlay_in_page),
                         [](const auto& way) { return way.index == 0 ? "Fsconfig" : "Page"; });

TEST_P(OverlayTest, MergesTopmostFirstAndWritesToUpper) {
  const UniqueFd merged = mount(make_layers("a"));
  EXPECT_EQ(read(merged.get(), "who"), "2");
  EXPECT_EQ(read(merged.get(), "below"), "1");
  write_file_at(merged.get(), "made", "new", 0644);
  unlink_at(merged.get(), "below");
  EXPECT_EQ(read(dir(), "au/made"), "new");
  EXPECT_TRUE(S_ISCHR(stat_at(dir(), "au/below").st_mode));
  EXPECT_EQ(read(dir(), "a1/below"), "1");
}

TEST_P(OverlayTest, IsAttachedLikeAnyMount) {
  make_dir("merged");
  OverlaySpec spec = make_layers("a");
  spec.is_volatile = true;
  spec.userxattr = true;
  spec.options = {"xino=off"};
  {
    const UniqueFd merged = mount(spec);
    attach_mount(merged.get(), dir(), "merged");
  }
  MountGuard guard(dir(), RelPath::parse("merged"));
  EXPECT_EQ(read(dir(), "merged/who"), "2");
  const std::string table = mount_table();
  const std::string line = table.substr(table.find(path_ + "/merged"));
  EXPECT_TRUE(line.contains("- overlay overlay ")) << line;
  for (const char* const option : {"volatile", "userxattr"})
    EXPECT_TRUE(line.contains(option)) << option << " in " << line;
  guard.unmount();
}

TEST_P(OverlayTest, WithoutAnUpperIsReadOnly) {
  OverlaySpec spec = make_layers("a");
  spec.upper.clear();
  spec.work.clear();
  const UniqueFd view = mount(spec);
  EXPECT_EQ(read(view.get(), "who"), "2");
  const std::string why = error_of([&] { write_file_at(view.get(), "x", "", 0644); }).message();
  EXPECT_TRUE(why.contains("Read-only")) << why;
}

TEST_P(OverlayTest, TakesAnyByteInPaths) {
  std::string every;
  for (int c = 1; c < 256; ++c)
    if (c != '/') every += static_cast<char>(c);
  const auto half = static_cast<std::ptrdiff_t>(every.size() / 2);
  for (const std::string& name :
       {std::string(R"(:a\:b\,,\\"c" d)"), std::string(every.begin(), every.begin() + half),
        std::string(every.begin() + half, every.end())}) {
    const UniqueFd merged = mount(make_layers(name));
    EXPECT_EQ(read(merged.get(), "who"), "2");
    EXPECT_EQ(read(merged.get(), "below"), "1");
    write_file_at(merged.get(), "made", "new", 0644);
    EXPECT_EQ(read(dir(), name + "u/made"), "new");
  }
}

TEST_P(OverlayTest, TakesLongPaths) {
  make_dir(std::string(255, 'x'));
  const std::string deep = std::string(255, 'x') + "/" + std::string(200, 'y');
  const UniqueFd merged = mount(make_layers(deep));
  EXPECT_EQ(read(merged.get(), "who"), "2");
  write_file_at(merged.get(), "made", "new", 0644);
  EXPECT_EQ(read(dir(), deep + "u/made"), "new");
}

TEST_P(OverlayTest, FailuresNameTheCauseAndLeaveNothing) {
  OverlaySpec spec = make_layers("a");
  const MountGuard guard = mount_tmpfs("a1");

  OverlaySpec missing = spec;
  missing.lower.front() = path_ + "/absent";
  const Error error = error_of([&] { mount(missing); });
  EXPECT_TRUE(error.message().contains("No such file")) << error.message();

  OverlaySpec unknown = spec;
  unknown.options = {"no_such_option=1"};
  EXPECT_THROW(mount(unknown), SysError);

  OverlaySpec twice = spec;
  twice.lower.push_back(twice.lower.front());
  const std::string said = error_of([&] { mount(twice); }).message();
  EXPECT_TRUE(said.contains("are one directory")) << said;

  make_dir("other");
  const MountGuard other = mount_tmpfs("other");
  OverlaySpec split = spec;
  split.work = path_ + "/other";
  const std::string why = error_of([&] { mount(split); }).message();
  EXPECT_TRUE(why.contains("must be on one mount")) << why;
  // Nothing of the failed attempts keeps the lower busy.
  EXPECT_TRUE(unmount_at(dir(), "a1"));
}

TEST_F(MountTest, KernelMessagesComeThrough) {
  OverlaySpec spec = make_layers("a");
  spec.options = {"no_such_option=1"};
  const std::string why = error_of([&] { mount_overlay(spec); }).message();
  EXPECT_TRUE(why.contains("Unknown parameter 'no_such_option'")) << why;
}

// 500 lowers of 26 bytes and more are many pages of options.
TEST_F(MountTest, FiveHundredLowers) {
  OverlaySpec spec = make_layers("a");
  spec.lower.clear();
  for (int i = 0; i < 500; ++i) {
    const std::string name = fmt::format("layer{}", i);
    spec.lower.push_back(make_dir(name));
    write(fmt::format("{}/file{}", name, i), "");
  }
  const UniqueFd merged = mount_overlay(spec);
  EXPECT_TRUE(exists_at(merged.get(), "file0"));
  EXPECT_TRUE(exists_at(merged.get(), "file499"));
  EXPECT_EQ(error_of([&] { mount_overlay_in_page(spec); }).code(), Code::resource_exhausted);
  spec.lower.push_back(make_dir("one-more"));
  EXPECT_EQ(error_of([&] { mount_overlay(spec); }).code(), Code::resource_exhausted);
}

TEST_F(MountTest, PageIsFilledToItsLastByte) {
  OverlaySpec spec = make_layers("a");
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const auto size = [&] {
    return fmt::format("{}", fmt::join(to_mount(spec).options, ",")).size();
  };
  while (page - 1 - size() > 300)
    spec.lower.push_back(make_dir(std::string(200, 'x') + std::to_string(spec.lower.size())));
  const size_t rest = page - 1 - size() - path_.size() - 2;  // the colon and the slash
  ASSERT_LT(rest, 255u);
  spec.lower.push_back(make_dir(std::string(rest, 'y')));
  write(std::string(rest, 'y') + "/last", "");
  ASSERT_EQ(size(), page - 1);
  EXPECT_TRUE(exists_at(mount_overlay_in_page(spec).get(), "last"));
  spec.lower.back() = make_dir(std::string(rest + 1, 'y'));
  EXPECT_EQ(error_of([&] { mount_overlay_in_page(spec); }).code(), Code::resource_exhausted);
}

// What to_mount() says, given to mount(8), which splits the options itself.
TEST_F(MountTest, MountCommandTakesTheValue) {
  make_dir("merged");
  const Mount value = to_mount(make_layers(R"(:a\b,c)"));
  std::string options = fmt::format("{}", fmt::join(value.options, ","));
  std::string target = path_ + "/merged";
  std::string words[] = {"mount", "-t", value.type, "-o", options, value.source, target};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t pid = 0;
  ASSERT_EQ(::posix_spawnp(&pid, "mount", nullptr, nullptr, arguments.data(), environ), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  ASSERT_EQ(status, 0);
  MountGuard guard(dir(), RelPath::parse("merged"));
  EXPECT_EQ(read(dir(), "merged/who"), "2");
  EXPECT_EQ(read(dir(), "merged/below"), "1");
  guard.unmount();
}

// --- idmapped mounts ---------------------------------------------------------------------------

const IdMap kMap = IdMap::parse("0:100000:1000,1000:5:1");

TEST_F(MountTest, IdmapShowsAndWritesMappedOwners) {
  make_dir("tree");
  const std::pair<uid_t, uid_t> cases[] = {{0, 100000}, {999, 100999}, {1000, 5}, {1001, 65534}};
  for (const auto& [disk, shown] : cases) {
    const RelPath name = RelPath::parse(fmt::format("tree/{}", disk));
    write(name.str(), "");
    chown_at(dir(), name, disk, disk);
  }
  const UniqueFd mount = clone_mount(dir(), "tree");
  idmap_mount(mount.get(), {.uids = kMap, .gids = kMap});
  for (const auto& [disk, shown] : cases) {
    const struct stat st = stat_at(mount.get(), RelPath::parse(std::to_string(disk)));
    EXPECT_EQ(st.st_uid, shown) << disk;
    EXPECT_EQ(st.st_gid, shown) << disk;
  }
  chown_at(mount.get(), "0", 5, 100007);
  EXPECT_EQ(stat_at(dir(), "tree/0").st_uid, 1000u);
  EXPECT_EQ(stat_at(dir(), "tree/0").st_gid, 7u);
}

TEST_F(MountTest, IdmapOfGroupsOnly) {
  make_dir("tree");
  const UniqueFd mount = clone_mount(dir(), "tree");
  idmap_mount(mount.get(), {.uids = {}, .gids = kMap});
  EXPECT_EQ(stat_at(mount.get(), ".").st_uid, 0u);
  EXPECT_EQ(stat_at(mount.get(), ".").st_gid, 100000u);
  const UniqueFd same = clone_mount(dir(), "tree");
  idmap_mount(same.get(), {});
  EXPECT_EQ(stat_at(same.get(), ".").st_gid, 0u);
}

TEST_F(MountTest, IdmappedLowersUnderAnOverlay) {
  OverlaySpec spec = make_layers("a");
  make_dir("mapped");
  {
    const UniqueFd mapped = clone_mount(dir(), "a2");
    idmap_mount(mapped.get(), {.uids = kMap, .gids = kMap});
    attach_mount(mapped.get(), dir(), "mapped");
  }
  const MountGuard guard(dir(), RelPath::parse("mapped"));
  spec.lower.front() = path_ + "/mapped";
  const UniqueFd merged = mount_overlay(spec);
  EXPECT_EQ(stat_at(merged.get(), "who").st_uid, 100000u);
  EXPECT_EQ(stat_at(merged.get(), "below").st_uid, 0u);
}

TEST_F(MountTest, IdmapOfAnOverlayIsUnsupported) {
  const UniqueFd merged = mount_overlay(make_layers("a"));
  const auto call = [&] { idmap_mount(merged.get(), {.uids = kMap, .gids = kMap}); };
  EXPECT_EQ(error_of(call).code(), Code::unsupported);
}

TEST_F(MountTest, AnOverlayOverMappedLayers) {
  make_dir("c");
  OverlaySpec spec = make_layers("c/a:b,");  // as paths they are no place to put anything
  chown_at(dir(), "c/a:b,1/below", 1000, 7);
  const IdMaps maps{.uids = kMap, .gids = kMap};
  const IdMaps own{.uids = kMap.with_host_root(), .gids = kMap.with_host_root()};
  const UniqueFd merged = mount_mapped_overlay(spec, {.lower = {{}, maps}, .upper = own});
  EXPECT_EQ(stat_at(merged.get(), "who").st_uid, 0u) << "each by its own map";
  EXPECT_EQ(stat_at(merged.get(), "below").st_uid, 5u);
  EXPECT_EQ(stat_at(merged.get(), "below").st_gid, 100007u);
  write_file_at(merged.get(), "made", "", 0644);
  EXPECT_EQ(stat_at(dir(), "c/a:b,u/made").st_uid, 4294967294u);
  chown_at(merged.get(), "made", 100003, 5);
  EXPECT_EQ(stat_at(dir(), "c/a:b,u/made").st_uid, 3u);
  EXPECT_EQ(stat_at(dir(), "c/a:b,u/made").st_gid, 1000u);
  chmod_at(merged.get(), "below", 0600);  // copied up
  EXPECT_EQ(stat_at(dir(), "c/a:b,u/below").st_uid, 1000u);
  unlink_at(merged.get(), "who");
  EXPECT_TRUE(S_ISCHR(stat_at(dir(), "c/a:b,u/who").st_mode));
}

TEST_F(MountTest, AMappedOverlayToBeRead) {
  OverlaySpec spec = make_layers("a");
  spec.upper = spec.work = "";
  const IdMaps maps{.uids = kMap, .gids = {}};
  const UniqueFd merged = mount_mapped_overlay(spec, {.lower = {maps, maps}});
  EXPECT_EQ(stat_at(merged.get(), "below").st_uid, 100000u);
  EXPECT_EQ(stat_at(merged.get(), "below").st_gid, 0u);
  EXPECT_THROW(unlink_at(merged.get(), "who"), Error);
}

TEST_F(MountTest, ALayerThatCannotBeMappedIsNamedSo) {
  make_dir("lower");
  const MountGuard ovl = [&] {
    attach_mount(mount_overlay(make_layers("a")).get(), dir(), "lower");
    return MountGuard(dir(), RelPath::parse("lower"));
  }();
  OverlaySpec spec = make_layers("b");
  spec.lower = {path_ + "/lower"};
  const IdMaps maps{.uids = kMap, .gids = kMap};
  const auto call = [&] { (void)mount_mapped_overlay(spec, {.lower = {maps}, .upper = maps}); };
  EXPECT_EQ(error_of(call).code(), Code::unsupported);
}

// --- EROFS and the probes ----------------------------------------------------------------------

const Strings kNeeded = {"overlayfs",       "openat2",  "file-backed EROFS", "lowerdir+",
                         "idmapped mounts", "volatile", "userxattr"};

void expect_all_needed(int dir) {
  for (const Probe& probe : probe_features(dir)) {
    const bool needed = std::ranges::count(kNeeded, probe.name) > 0;
    EXPECT_TRUE(probe.works || !needed) << probe.name << ": " << probe.why_not;
  }
  EXPECT_EQ(list_dir(dir), Strings{});
}

TEST_F(MountTest, ProbesOnDisk) {
  expect_all_needed(dir());
}

TEST_F(MountTest, ProbesUnderALongPath) {
  make_dir(std::string(255, 'x'));
  const UniqueFd deep = open_dir_at(dir(), RelPath::parse(std::string(255, 'x')));
  expect_all_needed(deep.get());
}

TEST_F(MountTest, ProbesOnTmpfs) {
  make_dir("memory");
  const MountGuard guard = mount_tmpfs("memory");
  const UniqueFd memory = open_dir_at(dir(), "memory");
  const std::vector<Probe> probes = probe_features(memory.get());
  const auto erofs = std::ranges::find(probes, "file-backed EROFS", &Probe::name);
  ASSERT_NE(erofs, probes.end());
  EXPECT_FALSE(erofs->works);
  EXPECT_TRUE(erofs->why_not.contains("on tmpfs")) << erofs->why_not;
  const auto overlay = std::ranges::find(probes, "overlayfs", &Probe::name);
  ASSERT_NE(overlay, probes.end());
  EXPECT_TRUE(overlay->works) << overlay->why_not;
  EXPECT_EQ(list_dir(memory.get()), Strings{});
}

TEST_F(MountTest, ErofsRefusals) {
  write("index", std::string(8192, '\0'));
  write("device", std::string(512, '\0'));
  EXPECT_THROW(mount_erofs(dir(), {.index = "index", .device = "device"}), SysError);
  EXPECT_THROW(mount_erofs(dir(), {.index = "absent", .device = "device"}), SysError);
  make_dir("memory");
  const MountGuard guard = mount_tmpfs("memory");
  write("memory/index", std::string(8192, '\0'));
  const Error error =
      error_of([&] { mount_erofs(dir(), {.index = "memory/index", .device = "device"}); });
  EXPECT_EQ(error.code(), Code::unsupported);
  EXPECT_TRUE(error.message().contains("file-backed EROFS mounts")) << error.message();
}

TEST_F(MountTest, RequireOverlay) {
  require_overlay(dir());
  EXPECT_TRUE(supports_d_type(dir()));
  EXPECT_EQ(list_dir(dir()), Strings{});
  // An overlay cannot be the upper of another.
  const UniqueFd merged = mount_overlay(make_layers("a"));
  make_dir("merged");
  attach_mount(merged.get(), dir(), "merged");
  const MountGuard guard(dir(), RelPath::parse("merged"));
  const UniqueFd above = open_dir_at(dir(), "merged");
  const Error error = error_of([&] { require_overlay(above.get()); });
  EXPECT_EQ(error.code(), Code::unsupported);
  EXPECT_TRUE(error.message().contains("merged on overlay:")) << error.message();
  EXPECT_EQ(list_dir(above.get()), (Strings{"below", "who"}));
}

}  // namespace
}  // namespace veneer
