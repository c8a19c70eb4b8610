// mayfly completion bash|zsh|fish: scripts made from the declared verbs, so that they never lag
// behind.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "core/settings.h"

namespace mayfly {
namespace {

struct VerbWords {
  std::string name;
  std::string help;
  std::vector<std::string> flags;
  std::vector<std::string> valued;     // the flags that a value follows, the short ones too
  std::vector<std::string> arguments;  // NAME, PATH, …
};

void add_option(const CLI::Option& option, VerbWords& words) {
  if (option.get_positional()) words.arguments.push_back(option.get_name(true));
  for (const std::string& name : option.get_lnames()) words.flags.push_back("--" + name);
  if (option.get_items_expected_max() == 0) return;
  for (const std::string& name : option.get_lnames()) words.valued.push_back("--" + name);
  for (const std::string& name : option.get_snames()) words.valued.push_back("-" + name);
}

std::vector<VerbWords> verbs_of(const CLI::App& root) {
  std::vector<VerbWords> verbs;
  for (const CLI::App* verb : root.get_subcommands([](const CLI::App*) { return true; })) {
    VerbWords words{.name = verb->get_name(),
                    .help = verb->get_description(),
                    .flags = {"--url", "--json"},
                    .valued = {"--url"},
                    .arguments = {}};
    for (const CLI::Option* option : verb->get_options()) add_option(*option, words);
    verbs.push_back(std::move(words));
  }
  return verbs;
}

// "idle_timeout= keep_warm= …"
std::string settings_words() {
  std::string words;
  const CliJson settings = CliJson::parse(to_json(FunctionSettings{}));
  for (const auto& [key, value] : settings.items()) words += key + "= ";
  return words;
}

// The verb is the first word that is one; what may stand at the cursor follows from its place
// among the verb's arguments, or is a file where a flag wants a value.
constexpr const char* kBashScript = R"sh(_mayfly() {
  local current=${COMP_WORDS[COMP_CWORD]} verbs="@VERBS@"
  local verb="" flags="--url --json --help --version" valued="--url" arguments="" kind="" word="" i=1
  while [ "$i" -lt "$COMP_CWORD" ]; do
    word=${COMP_WORDS[i]}
    if [ -z "$verb" ]; then
      case " $verbs " in *" $word "*)
        verb=$word kind=""
        case $verb in
@CASES@        esac
        kind=${arguments%% *}
      esac
    else
      case $word in
        -*) case " $valued " in *" $word "*) i=$((i + 1)) ;; esac ;;
        *) case $arguments in
             *" "*) arguments=${arguments#* } kind=${arguments%% *} ;;
             KEY=VALUE) ;;
             *) kind="" ;;
           esac ;;
      esac
    fi
    i=$((i + 1))
  done
  word=${COMP_WORDS[COMP_CWORD-1]}
  case " $valued " in *" $word "*) kind=FILE; [ "$word" != --function ] || kind=NAME ;; *) [ -n "$verb" ] || kind=VERB ;; esac
  case $current in -*) kind=FLAG ;; esac
  case $word/$current in =/* | */=) kind="" ;; esac  # bash takes KEY=VALUE apart
  COMPREPLY=()
  case $kind in
    FLAG) COMPREPLY=($(compgen -W "$flags" -- "$current")) ;;
    VERB) COMPREPLY=($(compgen -W "$verbs" -- "$current")) ;;
    SHELL) COMPREPLY=($(compgen -W "bash zsh fish" -- "$current")) ;;
    NAME) COMPREPLY=($(compgen -W "$(mayfly functions --json 2>/dev/null | sed -n 's/.*"name": "\(.*\)".*/\1/p')" -- "$current")) ;;
    KEY=VALUE) COMPREPLY=($(compgen -W "@SETTINGS@" -- "$current"))
      compopt -o nospace 2>/dev/null ;;
    ?*) COMPREPLY=($(compgen -f -- "$current"))
      compopt -o filenames 2>/dev/null ;;
  esac
}
complete -F _mayfly mayfly
)sh";

std::string replaced(std::string text, std::string_view mark, std::string_view by) {
  text.replace(text.find(mark), mark.size(), by);
  return text;
}

std::string bash_script(const std::vector<VerbWords>& verbs) {
  std::string cases;
  std::string names;
  for (const VerbWords& verb : verbs) {
    names += (names.empty() ? "" : " ") + verb.name;
    cases += fmt::format("          {}) flags=\"{}\" valued=\"{}\" arguments=\"{}\" ;;\n",
                         verb.name, fmt::join(verb.flags, " "), fmt::join(verb.valued, " "),
                         fmt::join(verb.arguments, " "));
  }
  std::string script = replaced(kBashScript, "@VERBS@", names);
  script = replaced(std::move(script), "@CASES@", cases);
  return replaced(std::move(script), "@SETTINGS@", settings_words());
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
