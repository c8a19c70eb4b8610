// mayfly secret: what functions may know and nobody reads. Values come from a file, from standard
// input or from the keyboard, never from the command line, which every process of the machine sees.
#include <fmt/format.h>
#include <termios.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "cli/table.h"
#include "cli/verbs.h"
#include "core/reason.h"
#include "core/secret.h"

namespace mayfly {
namespace {

constexpr std::string_view kSecrets = "/api/v1/secrets";
constexpr std::size_t kMostOfSecret = kMaxSecretBytes + 2;  // and the end of a line

struct SecretFlags {
  std::string name;
  Path file;
  bool yes = false;
};

// A terminal that does not show what is typed, until it goes.
class SilentTerminal {
 public:
  SilentTerminal() {
    if (::tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    changed_ = ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) == 0;
  }
  ~SilentTerminal() {
    if (changed_) ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
  }
  SilentTerminal(const SilentTerminal&) = delete;
  SilentTerminal& operator=(const SilentTerminal&) = delete;

 private:
  termios before_{};
  bool changed_ = false;
};

Result<std::string> read_typed(std::string_view name) {
  const SilentTerminal silent;
  fmt::print(stderr, "value of {} (not shown): ", name);
  std::string value(kMostOfSecret, '\0');
  const ssize_t got = ::read(STDIN_FILENO, value.data(), value.size());
  fmt::print(stderr, "\n");
  if (got < 0) return fail_errno("read the value");
  value.resize(static_cast<std::size_t>(got));
  return value;
}

void drop_line_end(std::string& value) {
  if (value.ends_with('\n')) value.pop_back();
  if (value.ends_with('\r')) value.pop_back();
}

// A file is taken byte by byte; of a line its end is no part.
Result<std::string> read_value(const SecretFlags& flags) {
  if (!flags.file.empty()) return read_file(flags.file, kMaxSecretBytes);
  std::string value = ::isatty(STDIN_FILENO) == 1 ? TRY(read_typed(flags.name))
                                                  : TRY(read_all_fd(STDIN_FILENO, kMostOfSecret));
  drop_line_end(value);
  return value;
}

std::string secret_path(std::string_view name) {
  return fmt::format("{}/{}", kSecrets, path_segment(name));
}

Status set_secret(const SecretFlags& flags, const CliContext& context) {
  TRY(check_secret_name(flags.name));
  std::string value = TRY(read_value(flags));
  if (value.empty()) return refuse(reason::kInvalidSetting, "the value is empty");
  const CliJson done = TRY(context.node().put_bytes(secret_path(flags.name), std::move(value)));
  if (context.json) {
    print_json(done);
  } else {
    fmt::print("{} is set\n", flags.name);
  }
  return {};
}

std::string users_of(const CliJson& secret) {
  std::string users;
  for (const CliJson& user : secret.value("used_by", CliJson::array()))
    users += (users.empty() ? "" : ", ") + user.get<std::string>();
  return users;
}

Status list_secrets(const CliContext& context) {
  const CliJson list = TRY(context.node().get(std::string(kSecrets)));
  if (context.json) {
    print_json(list);
    return {};
  }
  Table table({"NAME", "SET", "BY", "USED BY"});
  for (const CliJson& secret : list["secrets"]) {
    table.add({secret.value("name", ""), secret.value("changed", ""),
               secret.value("changed_by", ""), users_of(secret)});
  }
  fmt::print("{}", table.str());
  return {};
}

Status delete_secret(const SecretFlags& flags, const CliContext& context) {
  TRY(check_secret_name(flags.name));
  const CliJson done = TRY(context.node().send(
      "DELETE", secret_path(flags.name) + (flags.yes ? "?force=true" : ""), CliJson()));
  if (context.json) {
    print_json(done);
  } else {
    fmt::print("{} is deleted\n", flags.name);
  }
  return {};
}

}  // namespace

void add_secret_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb =
      app.add_subcommand("secret", "Set, list and delete what functions may know in secret");
  verb->require_subcommand(1);
  auto flags = std::make_shared<SecretFlags>();

  CLI::App* set = verb->add_subcommand(
      "set", "Set a secret's value: from standard input, or typed without being shown");
  set->add_option("NAME", flags->name, "letters, digits and '_', as in API_KEY")->required();
  set->add_option("--from-file", flags->file, "the value is the content of this file");
  set->callback([flags, &context] { context.outcome = set_secret(*flags, context); });

  CLI::App* list = verb->add_subcommand("list", "List the project's secrets, without their values");
  list->callback([&context] { context.outcome = list_secrets(context); });

  CLI::App* remove = verb->add_subcommand("delete", "Delete a secret");
  remove->add_option("NAME", flags->name, "as secret list shows it")->required();
  remove->add_flag("--yes", flags->yes, "also when versions name it, which cannot start then");
  remove->callback([flags, &context] { context.outcome = delete_secret(*flags, context); });
}

}  // namespace mayfly
