// veneer completion bash: a shell script, made from the commands and options that the parser knows.

#include <CLI/CLI.hpp>

#include "base/error.h"
#include "bin/command.h"

namespace veneer {
namespace {

// "driver get" -> "--help --mount-label ...": what may follow a command.
using Words = std::vector<std::pair<std::string, std::string>>;

void collect(const CLI::App& command, const std::string& path, Words& words) {
  std::string following;
  for (const CLI::App* child : command.get_subcommands({})) following += child->get_name() + " ";
  for (const CLI::App* at = &command; at != nullptr; at = at->get_parent()) {
    for (const CLI::Option* option : at->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        if (at == &command || name != "help") following += "--" + name + " ";
      }
    }
  }
  following.pop_back();
  words.emplace_back(path, following);
  for (const CLI::App* child : command.get_subcommands({})) {
    collect(*child, path.empty() ? child->get_name() : path + " " + child->get_name(), words);
  }
}

std::string bash_script(const Words& words) {
  std::string script =
      "_veneer() {\n"
      "  local word path='' following=''\n"
      "  COMPREPLY=()\n"
      "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
      "    case \"${path:+$path }$word\" in\n"
      "      ";
  for (size_t i = 1; i < words.size(); ++i) {
    script += fmt::format("{}'{}'", i == 1 ? "" : "|", words[i].first);
  }
  script += ") path=\"${path:+$path }$word\" ;;\n    esac\n  done\n  case \"$path\" in\n";
  for (const auto& [path, following] : words) {
    script += fmt::format("    '{}') following='{}' ;;\n", path, following);
  }
  script +=
      "  esac\n"
      "  mapfile -t COMPREPLY < <(compgen -W \"$following\" -- \"${COMP_WORDS[COMP_CWORD]}\")\n"
      "}\n"
      "complete -o default -F _veneer veneer\n";
  return script;
}

}  // namespace

void add_completion_command(CLI::App& app, Context& context) {
  CLI::App* group = app.add_subcommand("completion", "Print a completion script for a shell");
  group->require_subcommand(1);
  group->fallthrough();
  CLI::App* bash = group->add_subcommand("bash", "The script for bash");
  bash->fallthrough();
  bash->footer("Example:\n  source <(veneer completion bash)");
  bash->callback([&app, &context] {
    context.verb = "completion bash";
    context.action = [&app] {
      Words words;
      collect(app, "", words);
      print(bash_script(words));
      return kDone;
    };
  });
}

}  // namespace veneer
