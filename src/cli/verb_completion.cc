// mayfly completion bash|zsh|fish: scripts made from the declared verbs, so that they never lag
// behind.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>

#include "cli/verbs.h"

namespace mayfly {
namespace {

struct VerbWords {
  std::string name;
  std::string help;
  std::vector<std::string> flags;
};

std::vector<VerbWords> verbs_of(const CLI::App& root) {
  std::vector<VerbWords> verbs;
  for (const CLI::App* verb : root.get_subcommands([](const CLI::App*) { return true; })) {
    VerbWords words{verb->get_name(), verb->get_description(), {"--url", "--json"}};
    for (const CLI::Option* option : verb->get_options()) {
      for (const std::string& name : option->get_lnames()) words.flags.push_back("--" + name);
    }
    verbs.push_back(std::move(words));
  }
  return verbs;
}

std::string bash_script(const std::vector<VerbWords>& verbs) {
  std::string cases;
  std::string names;
  for (const VerbWords& verb : verbs) {
    names += verb.name + " ";
    cases += fmt::format("    {}) words=\"{}\" ;;\n", verb.name, fmt::join(verb.flags, " "));
  }
  return fmt::format(R"sh(_mayfly() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} words=""
  if [ "$COMP_CWORD" = 1 ]; then
    COMPREPLY=($(compgen -W "{}" -- "$current"))
    return
  fi
  case ${{COMP_WORDS[1]}} in
{}  esac
  case $current in
    -*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
    *) COMPREPLY=($(compgen -W "$(mayfly functions --json 2>/dev/null | sed -n 's/.*"name": "\(.*\)".*/\1/p')" -- "$current"))
       COMPREPLY+=($(compgen -f -- "$current")) ;;
  esac
}}
complete -o filenames -F _mayfly mayfly
)sh",
                     names, cases);
}

std::string zsh_script(const std::vector<VerbWords>& verbs) {
  return "#compdef mayfly\nautoload -U +X bashcompinit && bashcompinit\n" + bash_script(verbs);
}

// Inside single quotes, as fish reads them.
std::string fish_quoted(std::string_view text) {
  std::string quoted;
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted;
}

std::string fish_script(const std::vector<VerbWords>& verbs) {
  std::string script = "complete -c mayfly -f\n";
  for (const VerbWords& verb : verbs) {
    script += fmt::format("complete -c mayfly -n __fish_use_subcommand -a {} -d '{}'\n", verb.name,
                          fish_quoted(verb.help));
    for (const std::string& flag : verb.flags) {
      script += fmt::format("complete -c mayfly -n '__fish_seen_subcommand_from {}' -l {}\n",
                            verb.name, flag.substr(2));
    }
  }
  return script;
}

}  // namespace

void add_completion_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand(
      "completion", "Print a completion script: source <(mayfly completion bash)");
  auto shell = std::make_shared<std::string>();
  verb->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  verb->callback([shell, &app, &context] {
    const std::vector<VerbWords> verbs = verbs_of(app);
    fmt::print("{}", *shell == "fish"  ? fish_script(verbs)
                     : *shell == "zsh" ? zsh_script(verbs)
                                       : bash_script(verbs));
    context.outcome = {};
  });
}

}  // namespace mayfly
