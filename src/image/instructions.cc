#include "image/instructions.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/path.h"
#include "image/context.h"
#include "image/json.h"
#include "image/words.h"

namespace veneer {

namespace {

constexpr unsigned kLastPort = 65535;

std::string_view trim(std::string_view text) {
  const size_t start = text.find_first_not_of(kWhite);
  if (start == text.npos) return {};
  return text.substr(start, text.find_last_not_of(kWhite) - start + 1);
}

std::string to_upper(std::string_view text) {
  std::string upper(text);
  for (char& c : upper)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return upper;
}

// ["a", "b"] as a list; nothing for what is not that.
std::optional<std::vector<std::string>> maybe_list(std::string_view text) {
  if (!text.starts_with('[')) return {};
  try {
    return Json::parse(fmt::format("{{\"list\":{}}}", text)).strings("list");
  } catch (const Error&) {
    return {};  // as the shell form, then
  }
}

struct Pair {
  std::string name;
  std::string value;
};

class Editor {
 public:
  explicit Editor(std::string_view text) : tree_(JsonTree::parse(text)) {
    const Json document = Json::parse(text);
    const Json* config = document.maybe_object("config");
    if (config == nullptr) return;
    environment_ = config->strings("Env");
    shell_ = config->strings("Shell");
    directory_ = config->maybe_string("WorkingDir").value_or("");
  }

  void apply(std::string_view instruction) {
    instruction = trim(instruction);
    const size_t end = std::min(instruction.find_first_of(kWhite), instruction.size());
    const std::string verb = to_upper(instruction.substr(0, end));
    const std::string_view rest = trim(instruction.substr(end));
    static const std::map<std::string, void (Editor::*)(std::string_view), std::less<>> kVerbs = {
        {"CMD", &Editor::set_command},
        {"ENTRYPOINT", &Editor::set_entry_point},
        {"ENV", &Editor::set_environment},
        {"EXPOSE", &Editor::expose},
        {"LABEL", &Editor::set_labels},
        {"ONBUILD", &Editor::add_trigger},
        {"STOPSIGNAL", &Editor::set_stop_signal},
        {"USER", &Editor::set_user},
        {"VOLUME", &Editor::add_volumes},
        {"WORKDIR", &Editor::set_directory},
    };
    const auto known = kVerbs.find(verb);
    if (known == kVerbs.end())
      fail(Code::invalid_argument,
           "not one of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and "
           "WORKDIR");
    if (rest.empty()) fail(Code::invalid_argument, "{} of what?", verb);
    (this->*known->second)(rest);
  }

  std::string text() const { return tree_.text(); }

 private:
  std::string expand(std::string_view text) const {
    return expand_word(text, [this](std::string_view name) -> std::optional<std::string> {
      const std::string start = std::string(name) + "=";
      for (const std::string& variable : environment_)
        if (variable.starts_with(start)) return variable.substr(start.size());
      return {};
    });
  }

  // "a=b c=d", or the old "a b c" for one.
  std::vector<Pair> read_pairs(std::string_view text) const {
    std::vector<Pair> pairs;
    const std::vector<std::string> words = split_words(text);
    if (words.front().find('=') == std::string::npos) {
      const size_t end = std::min(text.find_first_of(kWhite), text.size());
      const std::string_view value = trim(text.substr(end));
      if (value.empty()) fail(Code::invalid_argument, "{} has no value", text);
      pairs.push_back({expand(text.substr(0, end)), expand(value)});
      return pairs;
    }
    for (const std::string& word : words) {
      const size_t equals = word.find('=');
      if (equals == std::string::npos || equals == 0)
        fail(Code::invalid_argument, "{} is not name=value", word);
      pairs.push_back({expand(word.substr(0, equals)), expand(word.substr(equals + 1))});
    }
    return pairs;
  }

  std::vector<std::string> command_of(std::string_view text) const {
    if (auto list = maybe_list(text)) return std::move(*list);
    std::vector<std::string> command =
        shell_.empty() ? std::vector<std::string>{"/bin/sh", "-c"} : shell_;
    command.emplace_back(text);
    return command;
  }

  void set_command(std::string_view text) {
    tree_.set({"config", "Cmd"}, command_of(text));
    has_command_ = true;
  }
  void set_entry_point(std::string_view text) {
    tree_.set({"config", "Entrypoint"}, command_of(text));
    if (!has_command_) tree_.remove({"config", "Cmd"});
  }
  void set_environment(std::string_view text) {
    // All see the environment before this instruction.
    for (const Pair& pair : read_pairs(text)) {
      const std::string start = pair.name + "=";
      const auto same = std::ranges::find_if(
          environment_, [&](const std::string& other) { return other.starts_with(start); });
      if (same == environment_.end())
        environment_.push_back(start + pair.value);
      else
        *same = start + pair.value;
    }
    tree_.set({"config", "Env"}, environment_);
  }
  void set_labels(std::string_view text) {
    for (const Pair& pair : read_pairs(text))
      tree_.set({"config", "Labels", pair.name}, pair.value);
  }
  void add_trigger(std::string_view text) {
    const std::string verb = to_upper(text.substr(0, text.find_first_of(kWhite)));
    if (verb == "ONBUILD" || verb == "FROM" || verb == "MAINTAINER")
      fail(Code::invalid_argument, "{} cannot be a trigger", verb);
    tree_.append({"config", "OnBuild"}, text);
  }
  void set_stop_signal(std::string_view text) { tree_.set({"config", "StopSignal"}, expand(text)); }
  void set_user(std::string_view text) { tree_.set({"config", "User"}, expand(text)); }
  void add_volumes(std::string_view text) {
    std::vector<std::string> paths;
    if (auto list = maybe_list(text))
      paths = std::move(*list);
    else
      paths = split_words(text);
    for (const std::string& path : paths) {
      const std::string expanded = expand(path);
      if (trim(expanded).empty()) fail(Code::invalid_argument, "an empty path");
      tree_.set({"config", "Volumes", expanded}, JsonTree());
    }
  }
  void set_directory(std::string_view text) {
    const std::string path = expand(text);
    directory_ = "/" + RelPath::clamp(path.starts_with('/') ? path : directory_ + "/" + path).str();
    tree_.set({"config", "WorkingDir"}, directory_);
  }

  static unsigned port_of(std::string_view text) {
    unsigned port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc() || end != text.data() + text.size() || port > kLastPort)
      fail(Code::invalid_argument, "{:?} is not a port", text);
    return port;
  }
  // "80", "80/udp", "8000-8010/tcp".
  void expose(std::string_view text) {
    for (const std::string& word : split_words(text)) {
      const std::string ports = expand(word);
      const size_t slash = ports.find('/');
      const std::string protocol = slash == ports.npos ? "tcp" : ports.substr(slash + 1);
      if (protocol != "tcp" && protocol != "udp" && protocol != "sctp")
        fail(Code::invalid_argument, "{:?} is not tcp, udp or sctp", protocol);
      const std::string_view range = std::string_view(ports).substr(0, slash);
      const size_t dash = range.find('-');
      const unsigned first = port_of(range.substr(0, dash));
      const unsigned last = dash == range.npos ? first : port_of(range.substr(dash + 1));
      if (last < first) fail(Code::invalid_argument, "{:?} ends before it begins", range);
      for (unsigned port = first; port <= last; ++port)
        tree_.set({"config", "ExposedPorts", fmt::format("{}/{}", port, protocol)}, JsonTree());
    }
  }

  JsonTree tree_;
  std::vector<std::string> environment_;
  std::vector<std::string> shell_;
  std::string directory_;
  bool has_command_ = false;
};

}  // namespace

std::string apply_instructions(std::string_view config,
                               const std::vector<std::string>& instructions) {
  Editor editor(config);
  for (const std::string& instruction : instructions)
    with_context(fmt::format("{:?}", instruction), [&] { editor.apply(instruction); });
  return editor.text();
}

}  // namespace veneer
