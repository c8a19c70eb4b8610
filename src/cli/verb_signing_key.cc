// mayfly signing-key: the keys that the project's versions are signed with, and whom it trusts.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/table.h"
#include "cli/verbs.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::string_view kSigningKeys = "/api/v1/signing-keys";
constexpr std::size_t kMostOfKey = 4096;
constexpr std::size_t kIdShown = 16;

struct SigningFlags {
  std::string name;
  Path file;
};

std::string signing_key_path(std::string_view name) {
  return fmt::format("{}/{}", kSigningKeys, path_segment(name));
}

void print_signing_key(const CliJson& key, std::string_view what, const CliContext& context) {
  if (context.json) {
    print_json(key);
    return;
  }
  fmt::print("{} {}  {}\n", key.value("name", ""), what, key.value("id", ""));
}

Status create_signing_key(const SigningFlags& flags, const CliContext& context) {
  CliJson body = CliJson::object();
  if (!flags.name.empty()) body["name"] = flags.name;
  const CliJson made = TRY(context.node().send("POST", std::string(kSigningKeys), body));
  print_signing_key(made, "signs the project's versions from now on", context);
  if (!context.json) fmt::print("{}", made.value("public_key", ""));
  return {};
}

Status trust_signing_key(const SigningFlags& flags, const CliContext& context) {
  std::string pem = TRY(read_file(flags.file, kMostOfKey));
  const CliJson row = TRY(context.node().put_bytes(signing_key_path(flags.name), std::move(pem)));
  print_signing_key(row, "is trusted", context);
  return {};
}

Status revoke_signing_key(const SigningFlags& flags, const CliContext& context) {
  const CliJson row = TRY(context.node().send("DELETE", signing_key_path(flags.name), CliJson()));
  print_signing_key(row, "is revoked", context);
  return {};
}

std::string use_of(const CliJson& key) {
  if (!key.value("revoked", CliJson()).is_null())
    return fmt::format("revoked {} by {}", key["revoked"].get<std::string>(),
                       key.value("revoked_by", ""));
  return key.value("signs", false) ? "signs" : key.value("kind", "") == "own" ? "own" : "trusted";
}

Status list_signing_keys(const CliContext& context) {
  const CliJson list = TRY(context.node().get(std::string(kSigningKeys)));
  if (context.json) {
    print_json(list);
    return {};
  }
  Table table({"NAME", "ID", "USE", "SINCE", "BY"});
  for (const CliJson& key : list["keys"]) {
    table.add({key.value("name", ""), key.value("id", "").substr(0, kIdShown), use_of(key),
               key.value("created", ""), key.value("created_by", "")});
  }
  fmt::print("{}", table.str());
  return {};
}

Status show_signing_key(const SigningFlags& flags, const CliContext& context) {
  const CliJson list = TRY(context.node().get(std::string(kSigningKeys)));
  for (const CliJson& key : list["keys"]) {
    if (key.value("name", "") != flags.name && key.value("id", "") != flags.name) continue;
    if (context.json) {
      print_json(key);
    } else {
      fmt::print("{}", key.value("public_key", ""));
    }
    return {};
  }
  return refuse(reason::kNotFound,
                fmt::format("there is no signing key '{}': mayfly signing-key list shows those "
                            "there are",
                            flags.name));
}

}  // namespace

void add_signing_key_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand(
      "signing-key", "Make, list, trust and revoke the keys that versions are signed with");
  verb->require_subcommand(1);
  auto flags = std::make_shared<SigningFlags>();

  CLI::App* create = verb->add_subcommand("create", "Make a key, which signs from now on");
  create->add_option("NAME", flags->name, "what it is called; otherwise it gets a name");
  create->callback([flags, &context] { context.outcome = create_signing_key(*flags, context); });

  CLI::App* list = verb->add_subcommand("list", "List the project's keys, and whom it trusts");
  list->callback([&context] { context.outcome = list_signing_keys(context); });

  CLI::App* show = verb->add_subcommand("show", "Print the public half of a key, as PEM");
  show->add_option("NAME", flags->name, "the key, or its id")->required();
  show->callback([flags, &context] { context.outcome = show_signing_key(*flags, context); });

  CLI::App* trust = verb->add_subcommand("trust", "Take what somebody else's key signed");
  trust->add_option("NAME", flags->name, "what to call whose key it is")->required();
  trust->add_option("KEY.pem", flags->file, "the public key, EC P-256")->required();
  trust->callback([flags, &context] { context.outcome = trust_signing_key(*flags, context); });

  CLI::App* revoke = verb->add_subcommand("revoke", "Neither sign nor take anything with a key");
  revoke->add_option("NAME", flags->name, "the key, or its id")->required();
  revoke->callback([flags, &context] { context.outcome = revoke_signing_key(*flags, context); });
}

}  // namespace mayfly
