// veneer completion bash|zsh|fish: a shell script, made from the commands and options that the
// parser knows. The names of images and containers are asked for when they are needed.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <map>

#include "base/error.h"
#include "bin/command.h"
#include "bin/local_store.h"

namespace veneer {
namespace {

struct Word {
  std::string text;  // "get", "--json"
  std::string description;
  bool takes_value = false;
  std::string choices = {};  // "oci docker", if that is all that it takes
  std::string letter = {};   // "o", if the option has one
};

// What may follow a command.
struct Following {
  std::string path;  // "driver get"; "" before any command
  std::vector<Word> commands;
  std::vector<Word> options;
  std::string_view names;  // "images", "containers" or "all" may follow, too; or ""
};

std::string_view names_after(const std::string& path) {
  using Names = std::pair<std::string_view, std::string_view>;
  constexpr Names kNames[] = {
      {"commit", "containers"}, {"create", "images"}, {"diff", "containers"}, {"inspect", "all"},
      {"layers", "images"},     {"mount", "all"},     {"rm", "containers"},   {"rmi", "images"},
      {"save", "images"},       {"umount", "all"},    {"unmount", "all"}};
  const auto* found = std::ranges::find(kNames, path, &Names::first);
  return found == std::end(kNames) ? std::string_view() : found->second;
}

// add_choice() has them in the help.
std::string choices_of(const CLI::Option& option) {
  std::string text = option.get_option_text();
  if (text.find('|') == std::string::npos) return "";
  std::ranges::replace(text, '|', ' ');
  return text;
}

void add_options(const CLI::App& from, bool is_own, std::vector<Word>& options) {
  for (const CLI::Option* option : from.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      const std::string text = "--" + name;
      const bool is_known = std::ranges::find(options, text, &Word::text) != options.end();
      if (is_known || (!is_own && name == "help")) continue;
      options.push_back({.text = text,
                         .description = option->get_description(),
                         .takes_value = option->get_type_size() > 0,
                         .choices = choices_of(*option),
                         .letter = option->get_snames().empty() ? "" : option->get_snames()[0]});
    }
  }
}

void collect(const CLI::App& command, const std::string& path, std::vector<Following>& all) {
  const auto is_shown = [](const CLI::App* child) { return !child->get_group().empty(); };
  const std::vector<const CLI::App*> children = command.get_subcommands(is_shown);
  Following following{.path = path, .commands = {}, .options = {}, .names = names_after(path)};
  for (const CLI::App* child : children)
    following.commands.push_back(
        {.text = child->get_name(), .description = child->get_description()});
  for (const CLI::App* at = &command; at != nullptr; at = at->get_parent())
    add_options(*at, at == &command, following.options);
  all.push_back(std::move(following));
  for (const CLI::App* child : children)
    collect(*child, path.empty() ? child->get_name() : path + " " + child->get_name(), all);
}

// In single quotes, for any of the three shells.
std::string shell_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string joined_paths(const std::vector<Following>& all, std::string_view separator) {
  std::vector<std::string> paths;
  for (const Following& following : all)
    if (!following.path.empty()) paths.push_back(shell_quoted(following.path));
  return fmt::format("{}", fmt::join(paths, separator));
}

std::string joined_texts(const std::vector<Word>& words) {
  std::string texts;
  for (const Word& word : words) texts += (texts.empty() ? "" : " ") + word.text;
  return texts;
}

// Cases of a shell's case statement, over what stands before the word: an option that takes one of
// some words, for which `choose` makes a command, and all others that take a value. An option takes
// the same wherever it is.
std::string value_cases(const std::vector<Following>& all,
                        const std::function<std::string(const std::string&)>& choose,
                        std::string_view otherwise) {
  std::map<std::string, std::string> by_option;
  for (const Following& following : all) {
    for (const Word& option : following.options) {
      if (!option.takes_value) continue;
      by_option[option.text] = option.choices;
      if (!option.letter.empty()) by_option["-" + option.letter] = option.choices;
    }
  }
  std::string cases;
  std::vector<std::string> others;
  for (const auto& [option, choices] : by_option) {
    if (choices.empty())
      others.push_back(option);
    else
      cases += fmt::format("    ({}) {} ;;\n", option, choose(choices));
  }
  return cases + fmt::format("    ({}) {} ;;\n", fmt::join(others, "|"), otherwise);
}

// bash breaks words at colons, which image names have, and at equals signs. File names are what it
// completes where the function finds nothing.
std::string bash_script(const std::vector<Following>& all) {
  std::string script = R"(_veneer() {
  local i=$COMP_CWORD at='' word previous commands='' options='' names='' words=''
  local current=${COMP_WORDS[i]}
  COMPREPLY=()
  while ((i > 1)) && [[ ${COMP_WORDS[i]} == : || ${COMP_WORDS[i-1]} == : ]]; do
    current=${COMP_WORDS[--i]}$current
  done
  [[ $current != = ]] || { current='' && ((++i)); }
  previous=${COMP_WORDS[i-1]}
  [[ $previous != = ]] || previous=${COMP_WORDS[i-2]}
  for word in "${COMP_WORDS[@]:1:i-1}"; do
    case "${at:+$at }$word" in
      )" + joined_paths(all, "|") +
                       R"() at="${at:+$at }$word" ;;
    esac
  done
  case "$at" in
)";
  for (const Following& following : all)
    script +=
        fmt::format("    {}) commands={} options={} names={} ;;\n", shell_quoted(following.path),
                    shell_quoted(joined_texts(following.commands)),
                    shell_quoted(joined_texts(following.options)), shell_quoted(following.names));
  const auto choose = [](const std::string& choices) { return "words=" + shell_quoted(choices); };
  return script + R"(  esac
  case "$previous" in
)" + value_cases(all, choose, "return 0") +
         R"(    (*)
      if [[ $current == -* ]]; then
        words=$options
      elif [[ -n $names ]]; then
        words=$(veneer completion names "$names" 2>/dev/null)
      else
        words=$commands
      fi ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  [[ $COMP_WORDBREAKS != *:* ]] || COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*:}"}"}")
}
complete -o default -F _veneer veneer
)";
}

// An array of "word:what it is for".
std::string zsh_array(const std::vector<Word>& words) {
  std::string array = "(";
  for (const Word& word : words)
    array += (array.size() > 1 ? " " : "") + shell_quoted(word.text + ":" + word.description);
  return array + ")";
}

std::string zsh_script(const std::vector<Following>& all) {
  std::string script =
      "#compdef veneer\n"
      "_veneer() {\n"
      "  local word at='' names=''\n"
      "  local -a commands options found\n"
      "  for word in \"${(@)words[2,CURRENT-1]}\"; do\n"
      "    case \"${at:+$at }$word\" in\n"
      "      (" +
      joined_paths(all, "|") +
      ") at=\"${at:+$at }$word\" ;;\n"
      "    esac\n"
      "  done\n"
      "  case \"$at\" in\n";
  for (const Following& following : all) {
    script += fmt::format("    ({})\n", shell_quoted(following.path));
    if (!following.commands.empty())
      script += fmt::format("      commands={}\n", zsh_array(following.commands));
    script += fmt::format("      options={}\n", zsh_array(following.options));
    if (!following.names.empty()) script += fmt::format("      names={}\n", following.names);
    script += "      ;;\n";
  }
  const auto choose = [](const std::string& choices) {
    return fmt::format("compadd -- {}; return", choices);
  };
  return script +
         "  esac\n"
         "  case \"${words[CURRENT-1]}\" in\n" +
         value_cases(all, choose, "_files; return") +
         "  esac\n"
         "  if [[ -n $names ]]; then\n"
         "    found=(${(f)\"$(veneer completion names $names 2>/dev/null)\"})\n"
         "    compadd -- $found\n"
         "  fi\n"
         "  if (( $#commands )); then _describe command commands; else _files; fi\n"
         "  _describe -o option options\n"
         "}\n"
         "if [[ $funcstack[1] == _veneer ]]; then _veneer \"$@\"; else compdef _veneer veneer; "
         "fi\n";
}

std::string fish_value(const Word& option) {
  if (!option.takes_value) return "";
  return option.choices.empty() ? " -r" : " -x -a " + shell_quoted(option.choices);
}

std::string fish_script(const std::vector<Following>& all) {
  std::string script =
      "function __veneer_at\n"
      "  set -l at ''\n"
      "  for word in (commandline --current-process --tokenize --cut-at-cursor)\n"
      "    set -l next (string trim -- \"$at $word\")\n"
      "    contains -- $next " +
      joined_paths(all, " ") +
      "; and set at $next\n"
      "  end\n"
      "  test \"$at\" = \"$argv\"\n"
      "end\n";
  for (const Following& following : all) {
    const std::string at =
        fmt::format("complete -c veneer -n {}", shell_quoted("__veneer_at " + following.path));
    for (const Word& word : following.commands)
      script += fmt::format("{} -f -a {} -d {}\n", at, word.text, shell_quoted(word.description));
    for (const Word& word : following.options)
      script +=
          fmt::format("{}{} -l {}{} -d {}\n", at, word.letter.empty() ? "" : " -s " + word.letter,
                      word.text.substr(2), fish_value(word), shell_quoted(word.description));
    if (!following.names.empty())
      script += fmt::format(
          "{} -f -a {}\n", at,
          shell_quoted(fmt::format("(veneer completion names {} 2>/dev/null)", following.names)));
  }
  return script;
}

struct Shell {
  const char* name;
  std::string (*script)(const std::vector<Following>&);
  const char* example;
};
constexpr Shell kShells[] = {
    {"bash", bash_script, "source <(veneer completion bash)"},
    {"zsh", zsh_script, "source <(veneer completion zsh)   (after compinit)"},
    {"fish", fish_script, "veneer completion fish | source"},
};

// For the scripts: one name a line. It makes no store where there is none.
int print_names(const Context& context, std::string_view what) {
  if (access((absolute(context.root) + "/store.db").c_str(), F_OK) != 0) return kDone;
  LocalStore local(context);
  std::string names;
  if (what != "images")
    for (const ContainerInfo& container : local.library.containers())
      names += container.record.name + "\n";
  if (what != "containers")
    for (const ImageInfo& image : local.library.images())
      for (const std::string& name : image.names) names += name + "\n";
  print(names);
  return kDone;
}

void add_names(CLI::App& group, Context& context) {
  const auto what = std::make_shared<std::string>();
  CLI::App* names = group.add_subcommand("names", "The names of what the store has");
  names->group("");  // not in the help
  names->fallthrough();
  names->add_option("WHAT", *what, "containers, images or all")->required();
  names->callback([&context, what] {
    context.verb = "completion names";
    context.action = [&context, what] { return print_names(context, *what); };
  });
}

}  // namespace

void add_completion_command(CLI::App& app, Context& context) {
  CLI::App* group = app.add_subcommand("completion", "Print a completion script for a shell");
  group->require_subcommand(1);
  group->fallthrough();
  for (const Shell& shell : kShells) {
    CLI::App* command =
        group->add_subcommand(shell.name, fmt::format("The script for {}", shell.name));
    command->fallthrough();
    command->footer(fmt::format("Example:\n  {}", shell.example));
    command->callback([&app, &context, &shell] {
      context.verb = fmt::format("completion {}", shell.name);
      context.action = [&app, &shell] {
        std::vector<Following> all;
        collect(app, "", all);
        print(shell.script(all));
        return kDone;
      };
    });
  }
  add_names(*group, context);
}

}  // namespace veneer
