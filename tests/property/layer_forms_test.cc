// Random stacks of layers, entries in any order, in every form a layer has: applied to a tree,
// packed, expanded to a directory. All must show what a model of the rules, written for this test,
// says. And random containers over packed layers: the diff of one, packed, shows what it did.
//
// A failure prints its seed; VENEER_SEED=n runs that one alone, VENEER_ROUNDS=n more or fewer.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <tuple>

#include "base/error.h"
#include "layer/apply.h"
#include "layer/copy.h"
#include "layer/diff.h"
#include "layer/expand.h"
#include "layer/lower.h"
#include "layer/pack.h"
#include "mount/erofs.h"
#include "mount/overlay.h"
#include "tests/support/layer_tar.h"
#include "tests/support/tree.h"

namespace veneer {
namespace {

using tar::EntryType;
using test::LayerTar;
using Tree = std::map<std::string, std::string>;

struct Step {
  enum Kind { entry, whiteout, opaque } kind = entry;
  tar::Entry what;
  std::string data;
};
using Layer = std::vector<Step>;

// --- the model ---

struct ModelNode {
  std::string line;  // type, mode, owner, time, content: all but the name
  bool is_dir = false;
  std::string link;  // of symbolic links
  std::map<std::string, std::unique_ptr<ModelNode>> children;
  int layer = -1;  // that made it, or has made something in it
  bool is_implied = false;
};

std::string dir_line(uint32_t mode, uint32_t uid, uint32_t gid, int64_t time) {
  return fmt::format("{:06o} {}:{} {}.000000000", S_IFDIR | mode, uid, gid, time);
}

class Model {
 public:
  Model() {
    root_.is_dir = true;
    root_.line = dir_line(0755, 0, 0, 0);
  }

  // False if the layer must be refused.
  bool apply(const Layer& layer) {
    ++layer_;
    for (const Step& step : layer)
      if (!apply(step)) return false;
    return true;
  }

  Tree tree() const {
    Tree lines;
    collect(root_, "", lines);
    return lines;
  }

 private:
  static void collect(const ModelNode& node, const std::string& path, Tree& lines) {
    lines[path.empty() ? "." : path] = node.line;
    for (const auto& [name, child] : node.children)
      collect(*child, path.empty() ? name : path + "/" + name, lines);
  }

  // The directory that a name means, made if need be.
  ModelNode* walk(std::string path, bool make, bool& refused) {
    std::vector<std::string> names;
    for (int links = 0; !path.empty();) {
      const size_t slash = std::min(path.find('/'), path.size());
      const std::string name = path.substr(0, slash);
      path.erase(0, slash + 1);
      if (name.empty() || name == ".") continue;
      if (name == "..") {
        if (!names.empty()) names.pop_back();
        continue;
      }
      names.push_back(name);
      const ModelNode* node = find(names);
      if (node == nullptr || node->link.empty()) continue;
      if (++links > 40) {
        refused = true;
        return nullptr;
      }
      names.pop_back();
      path = node->link + "/" + path;
      if (node->link.starts_with('/')) names.clear();
    }
    return make ? make_all(names) : find_dir(names);
  }

  ModelNode* find(const std::vector<std::string>& names) {
    ModelNode* at = &root_;
    for (const std::string& name : names) {
      const auto child = at->children.find(name);
      if (child == at->children.end()) return nullptr;
      at = child->second.get();
    }
    return at;
  }

  ModelNode* find_dir(const std::vector<std::string>& names) {
    ModelNode* node = find(names);
    return node != nullptr && node->is_dir ? node : nullptr;
  }

  ModelNode* make_all(const std::vector<std::string>& names) {
    ModelNode* at = &root_;
    for (const std::string& name : names) {
      auto& child = at->children[name];
      if (!child || !child->is_dir) {
        child = std::make_unique<ModelNode>();
        child->is_dir = true;
        child->line = dir_line(0755, 0, 0, 0);
      }
      if (child->layer != layer_) child->is_implied = true;
      child->layer = layer_;
      at = child.get();
    }
    return at;
  }

  void prune(ModelNode& dir) {
    std::erase_if(dir.children, [&](const auto& item) { return item.second->layer != layer_; });
    for (auto& [name, child] : dir.children) {
      if (!child->is_dir) continue;
      prune(*child);
      if (child->is_implied) child->line = dir_line(0755, 0, 0, 0);
    }
  }

  bool apply(const Step& step) {
    const RelPath path = RelPath::clamp(step.what.path);
    const std::string parent(path.parent());
    const std::string name(path.name());
    bool refused = false;
    if (step.kind != Step::entry) {
      const std::string where = step.kind == Step::opaque ? path.str() : parent;
      ModelNode* found = walk(where, false, refused);
      if (found == nullptr) return !refused;
      ModelNode& dir = *found;
      if (step.kind == Step::opaque) {
        prune(dir);
      } else if (const auto child = dir.children.find(name); child != dir.children.end()) {
        if (child->second->layer != layer_) {
          dir.children.erase(child);
        } else if (child->second->is_dir) {
          prune(*child->second);
          if (child->second->is_implied) child->second->line = dir_line(0755, 0, 0, 0);
        }
      }
      return true;
    }
    ModelNode* found = walk(parent, true, refused);
    return found != nullptr && make(*found, name, step);
  }

  bool make(ModelNode& dir, const std::string& name, const Step& step) {
    const tar::Entry& entry = step.what;
    auto& slot = dir.children[name];
    if (entry.type == EntryType::directory) {
      if (!slot || !slot->is_dir) slot = std::make_unique<ModelNode>();
      slot->is_dir = true;
      slot->line = dir_line(entry.mode, entry.uid, entry.gid, entry.modified.seconds);
    } else if (entry.type == EntryType::hard_link) {
      if (!slot) dir.children.erase(name);
      const RelPath target = RelPath::clamp(entry.link_target);
      bool refused = false;
      ModelNode* target_dir = walk(std::string(target.parent()), false, refused);
      if (target_dir == nullptr) return false;
      const auto original = target_dir->children.find(std::string(target.name()));
      if (original == target_dir->children.end() || original->second->is_dir) return false;
      ModelNode* replaced = dir.children.contains(name) ? dir.children[name].get() : nullptr;
      if (replaced != nullptr && holds(*replaced, *original->second)) return false;
      auto copy = std::make_unique<ModelNode>();
      copy->line = original->second->line;
      copy->link = original->second->link;
      auto& link_slot = dir.children[name];
      if (original->second.get() == link_slot.get()) {
        link_slot->layer = layer_;
        return true;
      }
      link_slot = std::move(copy);
      link_slot->layer = layer_;
      return true;
    } else {
      slot = std::make_unique<ModelNode>();
      slot->line = fmt::format("{:06o} {}:{} {}.000000000", type_bits(entry) | entry.mode,
                               entry.uid, entry.gid, entry.modified.seconds);
      if (entry.type == EntryType::file)
        slot->line += fmt::format(" {} {}", step.data.size(), step.data);
      if (entry.type == EntryType::symlink) {
        slot->link = entry.link_target;
        slot->line += " -> " + entry.link_target;
      }
      if (entry.type == EntryType::char_device) slot->line += " 1:3";
    }
    slot->layer = layer_;
    slot->is_implied = false;
    return true;
  }

  static bool holds(const ModelNode& dir, const ModelNode& wanted) {
    return std::ranges::any_of(dir.children, [&](const auto& item) {
      return item.second.get() == &wanted || holds(*item.second, wanted);
    });
  }

  static uint32_t type_bits(const tar::Entry& entry) {
    switch (entry.type) {
      case EntryType::symlink:
        return S_IFLNK;
      case EntryType::fifo:
        return S_IFIFO;
      case EntryType::char_device:
        return S_IFCHR;
      default:
        return S_IFREG;
    }
  }

  ModelNode root_;
  int layer_ = -1;
};

// --- random layers ---

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  std::vector<Layer> stack() {
    std::vector<Layer> layers(1 + pick(4));
    for (Layer& layer : layers) {
      for (size_t i = 1 + pick(10); i > 0; --i) layer.push_back(step());
      if (pick(2) == 0) std::ranges::shuffle(layer, random_);
    }
    return layers;
  }

 private:
  size_t pick(size_t below) { return random_() % below; }

  std::string path() {
    static constexpr const char* kNames[] = {"a", "b", "c", "dd"};
    std::string text;
    for (size_t depth = 1 + pick(3); depth > 0; --depth)
      text += std::string(text.empty() ? "" : "/") + kNames[pick(4)];
    return text;
  }

  Step step() {
    Step step;
    step.what.path = path();
    step.what.modified.seconds = static_cast<int64_t>(1000 + pick(1000));
    step.what.uid = static_cast<uint32_t>(pick(3));
    static constexpr uint32_t kModes[] = {0644, 0750, 02750, 01750, 06755};
    step.what.mode = kModes[pick(std::size(kModes))];
    switch (pick(12)) {
      case 0:
      case 1:
        step.kind = Step::whiteout;
        break;
      case 2:
        step.kind = Step::opaque;
        break;
      case 3:
      case 4:
        step.what.type = EntryType::directory;
        break;
      case 5: {
        static constexpr const char* kTargets[] = {"a",       "/b", "../c",   "/a/b",      "dd/a",
                                                   "nowhere", ".",  "a/../b", "/c/a/../.."};
        step.what.type = EntryType::symlink;
        step.what.mode = 0777;
        step.what.link_target = kTargets[pick(std::size(kTargets))];
        break;
      }
      case 6:
        step.what.type = EntryType::hard_link;
        step.what.link_target = path();
        break;
      case 7:
        step.what.type = pick(2) == 0 ? EntryType::fifo : EntryType::char_device;
        if (step.what.type == EntryType::char_device)
          std::tie(step.what.device_major, step.what.device_minor) = std::pair(1, 3);
        break;
      default:
        step.data = fmt::format("data-{}", pick(1000));
        step.what.size = step.data.size();
    }
    return step;
  }

  std::mt19937_64 random_;
};

std::string to_tar(const Layer& layer) {
  LayerTar tar;
  for (const Step& step : layer) {
    if (step.kind == Step::whiteout) {
      tar.whiteout(step.what.path);
    } else if (step.kind == Step::opaque) {
      tar.opaque(step.what.path);
    } else {
      tar.add(step.what, step.data);
    }
  }
  return tar.bytes();
}

std::string describe(const std::vector<Layer>& layers) {
  std::string text;
  for (const Layer& layer : layers) {
    text += "layer\n";
    for (const Step& step : layer)
      text += fmt::format("  {} {} {} {}\n",
                          step.kind == Step::entry      ? "entry"
                          : step.kind == Step::whiteout ? "whiteout"
                                                        : "opaque",
                          step.what.path, static_cast<int>(step.what.type), step.what.link_target);
  }
  return text;
}

// --- the forms ---

// Directories of packed layers have their marks under both names, and a container may set them: no
// layer tar has them.
void strip_marks(std::string& line) {
  for (const std::string_view mark : {" user.overlay.opaque=79", " user.overlay.origin="})
    if (const size_t at = line.find(mark); at != line.npos) line.erase(at, mark.size());
}

// One stack in one form: the layers so far, and the merged tree.
class Form {
 public:
  virtual ~Form() = default;
  virtual void add(const std::string& bytes, int index) = 0;
  virtual Tree tree() = 0;
};

class Applied final : public Form {
 public:
  explicit Applied(test::Scratch& scratch) : scratch_(scratch), root_(scratch.make("applied")) {
    set_times_at(root_.get(), ".", {}, {});
  }
  void add(const std::string& bytes, int index) override {
    UniqueFd next = scratch_.make(fmt::format("applied-{}", index));
    copy_tree(root_.get(), next.get(), CopyMode::link);
    MemorySource source(std::as_bytes(std::span(bytes)));
    apply_layer(source, next.get(), {});
    root_ = std::move(next);
  }
  Tree tree() override { return test::describe_tree(root_.get(), {.hard_links = false}); }

 private:
  test::Scratch& scratch_;
  UniqueFd root_;
};

class Stacked final : public Form {
 public:
  Stacked(test::Scratch& scratch, bool packed) : scratch_(scratch), packed_(packed) {}

  void add(const std::string& bytes, int index) override {
    const std::string name = fmt::format("{}-{}", packed_ ? "packed" : "expanded", index);
    const UniqueFd dir = scratch_.make(name);
    const UniqueFd tar = open_at(dir.get(), "layer.tar", O_RDWR | O_CREAT | O_EXCL, 0600);
    MemorySource source(std::as_bytes(std::span(bytes)));
    LayerTree plain;
    const LayerTarInfo info = store_layer_tar(source, tar.get(), plain);

    const LowerView lower(view());
    std::unique_ptr<LayerTree> again;
    const LayerTree* tree = &plain;
    if (plain.depends_on_lower() && !plain.adopt_lower(lower)) {
      again = std::make_unique<LayerTree>(&lower);
      MemorySource second(std::as_bytes(std::span(bytes)));
      (void)read_layer_tree(second, *again);
      tree = again.get();
    }
    // Adopting and reading again must come to the same.
    if (tree == &plain) expect_equal_to_reading_again(plain, lower, info, tar.get(), bytes);
    if (packed_ && !tree->has_lower_links()) {
      const UniqueFd file = open_at(dir.get(), "layer.erofs", O_RDWR | O_CREAT | O_EXCL, 0600);
      write_index(*tree, tar.get(), info, file.get());
      layers_.insert(layers_.begin(),
                     mount_erofs(dir.get(), {.index = "layer.erofs", .device = "layer.tar"}));
      (void)scratch_.make("mnt-" + name);
      attach_mount(layers_.front().get(), scratch_.dir(), RelPath::parse_name("mnt-" + name, "n"));
      paths_.insert(paths_.begin(), scratch_.path() + "/mnt-" + name);
    } else {
      make_dir_at(dir.get(), "fs", 0755);
      layers_.insert(layers_.begin(), open_dir_at(dir.get(), "fs"));
      expand_layer(*tree, tar.get(), &lower, layers_.front().get(), {});
      paths_.insert(paths_.begin(), scratch_.path() + "/" + name + "/fs");
    }
  }

  Tree tree() override {
    std::vector<std::string> lower = paths_;
    if (lower.size() == 1) lower.push_back(scratch_.path() + "/empty");
    const UniqueFd mount = mount_overlay({.lower = lower});
    Tree lines = test::describe_tree(mount.get(), {.hard_links = false});
    for (auto& [path, line] : lines) strip_marks(line);
    return lines;
  }

  const std::vector<std::string>& paths() const { return paths_; }
  View view() const {
    View view;
    for (const UniqueFd& layer : layers_) view.layers.push_back(layer.get());
    return view;
  }

  ~Stacked() override {
    layers_.clear();
    for (const std::string& path : paths_)
      (void)unmount_at(scratch_.dir(),
                       RelPath::parse_name(path.substr(path.rfind('/') + 1), "name"));
  }

 private:
  void expect_equal_to_reading_again(const LayerTree& adopted, const LowerView& lower,
                                     const LayerTarInfo& info, int tar, const std::string& bytes) {
    LayerTree again(&lower);
    MemorySource source(std::as_bytes(std::span(bytes)));
    (void)read_layer_tree(source, again);
    ASSERT_EQ(again.has_lower_links(), adopted.has_lower_links());
    EXPECT_EQ(again.lower_digest(), adopted.lower_digest());
    EXPECT_EQ(index_digest(again, tar, info), index_digest(adopted, tar, info));
  }

  Digest index_digest(const LayerTree& tree, int tar, const LayerTarInfo& info) {
    const UniqueFd file = open_at(scratch_.dir(), "index", O_RDWR | O_CREAT | O_TRUNC, 0600);
    return write_index(tree, tar, info, file.get());
  }

  test::Scratch& scratch_;
  bool packed_;
  std::vector<UniqueFd> layers_;
  std::vector<std::string> paths_;
};

void check_stack(uint64_t seed) {
  const std::vector<Layer> layers = Generator(seed).stack();
  SCOPED_TRACE(fmt::format("VENEER_SEED={}\n{}", seed, describe(layers)));
  test::Scratch scratch;
  (void)scratch.make("empty");
  Model model;
  std::vector<std::pair<const char*, std::unique_ptr<Form>>> forms;
  forms.emplace_back("applied", std::make_unique<Applied>(scratch));
  forms.emplace_back("packed", std::make_unique<Stacked>(scratch, true));
  forms.emplace_back("expanded", std::make_unique<Stacked>(scratch, false));
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::string bytes = to_tar(layers[i]);
    const bool is_good = model.apply(layers[i]);
    for (auto& [name, form] : forms) {
      bool was_taken = true;
      std::string why;
      try {
        form->add(bytes, static_cast<int>(i));
      } catch (const Error& error) {
        was_taken = false;
        why = error.message();
      }
      ASSERT_EQ(was_taken, is_good) << name << " " << why;
      if (is_good) {
        ASSERT_EQ(form->tree(), model.tree()) << name << " after layer " << i;
      }
    }
    if (!is_good) return;
  }
}

// --- containers ---

// Changes through a mount, as a container makes them. What cannot be done is not done.
class Container {
 public:
  Container(int root, uint64_t seed) : root_(root), random_(seed) {}

  void change() {
    const RelPath path = random_path();
    const RelPath other = random_path();
    try {
      const auto parent = open_parent(path);
      const auto other_parent = open_parent(other);
      if (parent && other_parent)
        change(parent->get(), path.leaf(), other_parent->get(), other.leaf());
    } catch (const SysError&) {
      // Names that are not there, directories that are not empty, links that lead nowhere.
    }
  }

 private:
  size_t pick(size_t below) { return random_() % below; }

  RelPath random_path() {
    static constexpr const char* kNames[] = {"a", "b", "c", "dd"};
    RelPath path;
    for (size_t depth = 1 + pick(3); depth > 0; --depth) path.push(kNames[pick(4)]);
    return path;
  }

  std::optional<UniqueFd> open_parent(const RelPath& path) const {
    return maybe_resolve_in_root(root_, RelPath::parse(path.parent()), O_RDONLY | O_DIRECTORY);
  }

  void change(int dir, PathView name, int other_dir, PathView other) {
    switch (pick(14)) {
      case 0:
      case 1: {
        constexpr int kFlags[] = {O_TRUNC, O_APPEND, 0};
        const UniqueFd file = open_at(
            dir, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | kFlags[pick(3)], 0640);
        const std::string text = fmt::format("written-{}", pick(1000));
        return write_all(file.get(), std::as_bytes(std::span(text)));
      }
      case 2:
      case 3:
        return make_dir_at(dir, name, 0750);
      case 4:
        return make_symlink_at(pick(2) == 0 ? "/a" : "../b", dir, name);
      case 5:
        return link_at(dir, name, other_dir, other);
      case 6:
        return unlink_at(dir, name);
      case 7:
        return (void)remove_tree_at(dir, name);
      case 8:
        return replace_at(dir, name, other_dir, other);
      case 9:
        return exchange_at(dir, name, other_dir, other);
      case 10:
        return chmod_at(dir, name, pick(2) == 0 ? 0600 : 0711);
      case 11:
        return chown_at(dir, name, static_cast<uid_t>(pick(3)), 7);
      case 12:
        return set_xattr_at(dir, name, pick(2) == 0 ? "user.overlay.opaque" : "user.x", "y");
      default:
        return make_node_at(dir, name, S_IFIFO | 0600, 0);
    }
  }

  int root_;
  std::mt19937_64 random_;
};

// A layer tar has whole seconds.
Tree without_nanoseconds(Tree lines) {
  for (auto& [path, line] : lines) {
    strip_marks(line);
    const size_t dot = line.find('.');
    line.erase(dot, std::string_view(".000000000").size());
  }
  return lines;
}

// Makes changes over the stack, and their diff the next layer.
void run_container(test::Scratch& scratch, Stacked& stack, int index, uint64_t seed) {
  const std::string upper_name = fmt::format("upper-{}", index);
  const std::string work_name = fmt::format("work-{}", index);
  const UniqueFd upper = scratch.make(upper_name);
  (void)scratch.make(work_name);
  OverlaySpec spec{.lower = stack.paths(),
                   .upper = scratch.path() + "/" + upper_name,
                   .work = scratch.path() + "/" + work_name,
                   .options = {"index=off"}};
  if (seed % 3 == 0) spec.options.insert(spec.options.end(), {"redirect_dir=on", "metacopy=on"});
  const UniqueFd merged = open_dir_at(mount_overlay(spec).get(), ".");
  Container container(merged.get(), seed);
  for (size_t changes = 1 + seed % 12; changes > 0; --changes) container.change();

  const Tree wanted = test::describe_tree(merged.get(), {.hard_links = false});
  const View before = stack.view();
  View now = before;
  now.layers.insert(now.layers.begin(), upper.get());
  StringSink diff;
  write_diff(now, before, {}, diff);
  stack.add(diff.text(), index);
  EXPECT_EQ(without_nanoseconds(stack.tree()), without_nanoseconds(wanted))
      << "container " << index;
}

void check_containers(uint64_t seed) {
  const std::vector<Layer> layers = Generator(seed).stack();
  SCOPED_TRACE(fmt::format("VENEER_SEED={}\n{}", seed, describe(layers)));
  test::Scratch scratch;
  (void)scratch.make("empty");
  Stacked stack(scratch, true);
  Model model;
  int index = 0;
  for (const Layer& layer : layers) {
    if (!model.apply(layer)) break;
    stack.add(to_tar(layer), index++);
  }
  if (index == 0) return;
  for (int containers = 0; containers < 2 && !testing::Test::HasFailure(); ++containers, ++index)
    run_container(scratch, stack, index, seed * 2 + static_cast<uint64_t>(containers));
}

uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* text = ::getenv(name);
  return text == nullptr ? otherwise : std::stoull(text);
}

void check_seeds(uint64_t otherwise, void (*check_one)(uint64_t seed)) {
  if (const uint64_t seed = from_environment("VENEER_SEED", 0)) return check_one(seed);
  const uint64_t rounds = from_environment("VENEER_ROUNDS", otherwise);
  for (uint64_t seed = 1; seed <= rounds && !testing::Test::HasFailure(); ++seed) check_one(seed);
}

TEST(LayerForms, ComeToTheSame) {
  check_seeds(2000, check_stack);
}

TEST(LayerForms, TheDiffOfAContainerIsItsLayer) {
  check_seeds(1000, check_containers);
}

}  // namespace
}  // namespace veneer
