// veneer check: is the store what it says it is? And veneer check --repair.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>

#include "base/error.h"
#include "bin/answers.h"
#include "bin/local_store.h"
#include "bin/progress.h"
#include "image/archive.h"
#include "image/documents.h"
#include "image/names.h"
#include "store/check.h"
#include "store/repair.h"

namespace veneer {
namespace {

struct Request {
  explicit Request(Context& from) : context(from) {}

  Context& context;
  bool is_fast = false;
  bool is_repair = false;
  bool is_dry_run = false;
  std::string image_file;
};

// The layers and the configuration of an image file.
class ArchiveSource final : public RepairSource {
 public:
  explicit ArchiveSource(const ImageArchive& archive) : archive_(archive) {}

  std::unique_ptr<Source> maybe_layer(const Digest& diff_id) override {
    const std::vector<ImageLayer>& layers = archive_.manifest().layers;
    const auto found = std::ranges::find(layers, diff_id, &ImageLayer::diff_id);
    if (found == layers.end()) return nullptr;
    return archive_.open_layer(static_cast<size_t>(found - layers.begin()));
  }
  std::optional<std::string> maybe_blob(const Digest& digest) override {
    if (archive_.manifest().config_digest != digest) return std::nullopt;
    return archive_.manifest().config;
  }

 private:
  const ImageArchive& archive_;
};

// As the other commands show it.
std::string familiar(const std::string& name) {
  const auto parsed = ImageName::maybe_parse(name);
  return parsed ? parsed->familiar() : short_id(name);
}

void add_strings(JsonOut& json, std::string_view key, const std::vector<std::string>& texts) {
  json.key(key).begin_array();
  for (const std::string& text : texts) json.string(text);
  json.end_array();
}

void add_damages(JsonOut& json, std::string_view key, const std::vector<Damage>& damages) {
  json.key(key).begin_array();
  for (const Damage& damage : damages) {
    std::vector<std::string> images;
    for (const std::string& name : damage.images) images.push_back(familiar(name));
    json.begin_object().key("kind").string(to_string(damage.kind));
    json.key("what").string(damage.what).key("path").string(damage.path);
    json.key("why").string(damage.why).key("repair").string(to_string(damage.remedy));
    add_strings(json, "images", images);
    add_strings(json, "containers", damage.containers);
    json.end_object();
  }
  json.end_array();
}

std::string users_of(const Damage& damage) {
  std::vector<std::string> users;
  for (const std::string& name : damage.images) users.push_back(familiar(name));
  users.insert(users.end(), damage.containers.begin(), damage.containers.end());
  return users.empty() ? "-" : fmt::format("{}", fmt::join(users, ", "));
}

std::string table_of(const std::vector<Damage>& damages) {
  Table table;
  table.row({"DAMAGE", "WHERE", "WHY", "REPAIR", "NEEDED BY"});
  for (const Damage& damage : damages)
    table.row(
        {std::string(to_string(damage.kind)),
         damage.path.empty() || damage.kind == DamageKind::snapshot ? damage.what : damage.path,
         damage.why, std::string(to_string(damage.remedy)), users_of(damage)});
  std::string text = damages.empty() ? "" : table.text();
  if (std::ranges::find(damages, DamageKind::database, &Damage::kind) != damages.end())
    text +=
        "store.db cannot be repaired: put a copy of it back, or move store.db* away and load the\n"
        "images again. What containers wrote is in snapshots/NUMBER/fs.\n";
  return text;
}

int status_of(const std::vector<Damage>& damages) {
  return damages.empty() ? kDone : kDamaged;
}

std::string summary(const CheckResult& result, bool is_fast) {
  return fmt::format(
      "{}, {}, {}{}: {}\n", human_count(result.layers, "layer"),
      human_count(result.snapshots, "snapshot"), human_count(result.blobs, "blob"),
      is_fast ? "" : fmt::format(", {} of tars read", human_size(result.hashed_bytes)),
      result.damages.empty() ? "no damage" : fmt::format("{} damaged", result.damages.size()));
}

void begin_answer(JsonOut& json, const CheckResult& result, bool is_fast) {
  json.begin_object().key("fast").boolean(is_fast).key("layers").number(result.layers);
  json.key("snapshots").number(result.snapshots).key("blobs").number(result.blobs);
  json.key("hashed").number(result.hashed_bytes);
  add_damages(json, "damages", result.damages);
}

int repair(const Request& request, Store& store, const CheckResult& result) {
  std::unique_ptr<ImageArchive> archive;
  std::optional<ArchiveSource> source;
  if (!request.image_file.empty()) {
    archive = open_image(request.image_file, {}, store.layout().path());
    source.emplace(*archive);
  }
  std::vector<std::string> actions;
  RepairOptions options{
      .is_dry_run = request.is_dry_run,
      .source = source ? &*source : nullptr,
      .parse_layers = [](const std::string& config) { return parse_config(config).diff_ids; },
      .report = {},
      .check = {.is_fast = request.is_fast, .layers = {}, .progress = {}}};
  options.report = [&](const std::string& action) {
    actions.push_back(action);
    if (!request.context.json)
      print(fmt::format("{}{}\n", request.is_dry_run ? "would do: " : "", printable(action)));
  };
  const std::vector<Damage> left = repair_store(store, result.damages, options);
  if (request.context.json) {
    JsonOut json;
    begin_answer(json, result, request.is_fast);
    add_strings(json, "actions", actions);
    add_damages(json, "left", left);
    answer(json.end_object());
  } else {
    print(table_of(left));
    if (!request.context.quiet)
      print(fmt::format("{} damaged, {} {}\n", result.damages.size(), left.size(),
                        request.is_dry_run ? "not to be repaired" : "left"));
  }
  return request.is_dry_run ? status_of(result.damages) : status_of(left);
}

// A database that does not open is damage, too; nothing more can be looked at.
int answer_unopened(const Request& request, const Error& error) {
  CheckResult result;
  result.damages.emplace_back();
  result.damages.back().what = "database";
  result.damages.back().path = "store.db";
  result.damages.back().why = error.message();
  JsonOut json;
  begin_answer(json, result, request.is_fast);
  if (request.context.json)
    answer(json.end_object());
  else
    print(table_of(result.damages));
  return kDamaged;
}

CheckResult look(const Request& request, Store& store) {
  std::optional<Progress> progress;
  CheckOptions options{.is_fast = request.is_fast, .layers = {}, .progress = {}};
  options.progress = [&](const std::vector<LayerRecord>& layers) -> ImportProgress* {
    std::vector<Progress::Layer> lines;
    for (const LayerRecord& layer : layers)
      lines.push_back({.digest = layer.diff_id.hex(), .size_bytes = layer.tar_bytes});
    return &progress.emplace(progress_fd(request.context), std::move(lines));
  };
  return check_store(store, options);
}

int check_opened(const Request& request, Store& store) {
  const CheckResult result = look(request, store);
  if (request.is_repair && !result.damages.empty()) return repair(request, store, result);
  JsonOut json;
  begin_answer(json, result, request.is_fast);
  if (request.is_repair) {
    add_strings(json, "actions", {});
    add_damages(json, "left", {});
  }
  json.end_object();
  if (request.context.json)
    answer(json);
  else
    print(table_of(result.damages) +
          (request.context.quiet ? "" : summary(result, request.is_fast)));
  return status_of(result.damages);
}

int run_check(const Request& request) {
  std::optional<LocalStore> local;
  try {
    local.emplace(request.context);
  } catch (const Error& error) {
    if (error.code() != Code::corrupt) throw;
    return answer_unopened(request, error);
  }
  const int status = check_opened(request, local->store);
  local.reset();
  if (request.is_repair && !request.is_dry_run) empty_trash_in_background(request.context);
  return status;
}

}  // namespace

void add_check_command(CLI::App& app, Context& context) {
  const auto request = std::make_shared<Request>(context);
  CLI::App& command =
      add_verb(app, context,
               {"check", "Look for damage: in the database, in files, in their digests",
                "veneer check\n  veneer check --repair --from debian.tar\n\n"
                "Exit status: 0 no damage (left), 3 damage, 1 it could not be found out."},
               [request] { return run_check(*request); });
  command.group("Store");
  command.add_flag("--fast", request->is_fast, "Leave out what reads whole files");
  CLI::Option* repair =
      command.add_flag("--repair", request->is_repair, "Repair what can be repaired");
  command.add_flag("-n,--dry-run", request->is_dry_run, "Only say what would be repaired")
      ->needs(repair);
  command.add_option("--from", request->image_file, "An image file that has what is damaged")
      ->option_text("PATH")
      ->needs(repair);
}

}  // namespace veneer
