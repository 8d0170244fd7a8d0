#include "bin/answers.h"

#include <fmt/format.h>
#include <unistd.h>

#include "base/error.h"

namespace veneer {

namespace {

constexpr size_t kShortDigits = 12;

void add_time(JsonOut& json, const std::optional<Time>& time) {
  if (time) {
    json.string(rfc3339(*time));
  } else {
    json.null();
  }
}

void add_path(JsonOut& json, const std::string& path) {
  if (path.empty()) {
    json.null();
  } else {
    json.string(path);
  }
}

}  // namespace

int answer(const JsonOut& json) {
  print(json.text() + "\n");
  return kDone;
}

int answer_changes(const Context& context, const std::vector<Change>& changes) {
  constexpr std::string_view kLetters[] = {"C", "A", "D"};  // by ChangeKind
  JsonOut json;
  std::string lines;
  json.begin_array();
  for (const Change& change : changes) {
    const std::string_view kind = kLetters[static_cast<size_t>(change.kind)];
    if (context.json) {
      json.begin_object().key("kind").string(kind).key("path").string(change.path).end_object();
    } else {
      lines += fmt::format("{} {}\n", kind, printable(change.path));
    }
  }
  json.end_array();
  if (context.json) return answer(json);
  print(lines);
  return kDone;
}

void refuse_terminal(std::string_view what) {
  if (isatty(STDOUT_FILENO) == 0) return;
  fail(Code::invalid_argument, "standard output is a terminal: send {} to a file or a pipe", what);
}

std::string short_id(std::string_view hex) {
  return std::string(hex.substr(0, kShortDigits));
}

std::string_view to_string(Form form) {
  return form == Form::packed ? "packed" : "directory";
}

void add_image(JsonOut& json, const ImageInfo& image) {
  json.begin_object().key("id").string(image.record.config.str()).key("names").begin_array();
  for (const std::string& name : image.names) json.string(name);
  json.end_array().key("platform").string(image.platform).key("created");
  add_time(json, image.created);
  json.key("added").string(rfc3339(image.record.added)).key("size").number(image.size_bytes);
  json.key("layers").number(image.layers).key("containers").number(image.containers);
  add_path(json.key("mounted_on"), image.mounted_on);
  json.end_object();
}

void add_container(JsonOut& json, const ContainerInfo& container) {
  json.begin_object().key("id").string(container.record.id);
  json.key("name").string(container.record.name);
  json.key("image").string(container.image_name);
  json.key("image_id").string(container.record.image.str());
  json.key("created").string(rfc3339(container.record.created));
  add_path(json.key("mounted_on"), container.mounted_on);
  json.end_object();
}

}  // namespace veneer
