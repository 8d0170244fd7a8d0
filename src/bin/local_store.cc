#include "bin/local_store.h"

#include <fmt/format.h>
#include <unistd.h>

#include "base/at.h"
#include "base/error.h"
#include "bin/answers.h"

namespace veneer {

namespace {

StoreOptions store_options(const Context& context) {
  StoreOptions options{.root = absolute(context.root),
                       .run = absolute(context.run),
                       .is_volatile = context.is_volatile,
                       .form = {}};
  if (context.form == "packed") options.form = Form::packed;
  if (context.form == "directory") options.form = Form::directory;
  return options;
}

bool has_entries(int dir) {
  return DirReader(dir).next().has_value();
}

void redirect_to_null(std::initializer_list<int> standard) {
  const UniqueFd null = open_root("/dev/null", O_RDWR);
  for (const int fd : standard) check(dup2(null.get(), fd), "dup2");
}

// It holds nothing of its parent's: no terminal, no pipe whose reader waits for the end, no lock on
// a descriptor that a script gave to it, no working directory that could not be unmounted.
[[noreturn]] void delete_trash_of(const std::string& root) {
  try {
    redirect_to_null({STDIN_FILENO, STDERR_FILENO});
    check(close_range(STDERR_FILENO + 1, ~0U, 0), "close_range");
    (void)setsid();  // fails for a leader, which a fresh child is not
    check(fchdir(open_root("/").get()), "fchdir");
    empty_trash(Layout(root));
  } catch (const std::exception&) {
    _exit(kFailed);  // veneer gc tries again, and says why it fails
  }
  _exit(kDone);
}

}  // namespace

LocalStore::LocalStore(const Context& context) : store(store_options(context)), library(store) {}

void empty_trash_in_background(const Context& context) {
  const std::string root = absolute(context.root);
  if (!has_entries(Layout(root).trash())) return;
  // Here, as a pipe's reader would wait until the child has come so far.
  redirect_to_null({STDOUT_FILENO});
  const pid_t child = fork();
  if (child == 0) delete_trash_of(root);
  if (child < 0) log(context, LogLevel::info, "veneer gc is to delete what was removed");
}

int for_each_argument(const Context& context, const std::vector<std::string>& arguments,
                      const std::function<void(const std::string&)>& call) {
  int status = kDone;
  for (const std::string& argument : arguments) {
    try {
      call(argument);
    } catch (const Error& error) {
      const auto* system = dynamic_cast<const SysError*>(&error);
      if (system != nullptr && system->error_number() == EPIPE) throw;  // main knows what it means
      const bool is_named = error.message().find(argument) != std::string::npos;
      print_error(
          fmt::format("{}: {}{}", context.verb, is_named ? "" : argument + ": ", error.message()));
      status = kFailed;
    }
  }
  return status;
}

int remove_each(const Context& context, const std::vector<std::string>& references,
                const std::function<void(Library&, JsonOut&, const std::string&)>& remove) {
  JsonOut json;
  int status = kDone;
  json.begin_array();
  {
    LocalStore local(context);
    status = for_each_argument(context, references, [&](const std::string& reference) {
      remove(local.library, json, reference);
    });
  }
  if (context.json) answer(json.end_array());
  empty_trash_in_background(context);
  return status;
}

}  // namespace veneer
