#include "identity/scope.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>

#include "core/names.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxScopes = 64;

std::optional<Verb> verb_of(std::string_view text) {
  const auto* found = std::ranges::find(kVerbs, text, [](Verb verb) { return to_string(verb); });
  if (found == kVerbs.end()) return std::nullopt;
  return *found;
}

// "fraud", "fraud-*", "*".
bool is_pattern(std::string_view text) {
  if (text.ends_with('*')) text.remove_suffix(1);
  return text.empty() ? true : !text.contains('/') && FunctionName::parse(text).has_value();
}

// A pattern would promise a limit that the endpoints of these verbs cannot keep.
bool names_no_function(Verb verb) {
  return verb == Verb::Admin || verb == Verb::Metrics || verb == Verb::Secrets;
}

Result<Scope> parse_scope(std::string_view text) {
  const std::size_t colon = text.find(':');
  const std::optional<Verb> verb = verb_of(text.substr(0, colon));
  if (!verb) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("scope '{}': begin with invoke, read, deploy, configure, data, "
                              "secrets, metrics or admin, as in invoke:fraud",
                              text.substr(0, 80)));
  }
  if (colon == std::string_view::npos) return Scope{.verb = *verb};
  const std::string_view pattern = text.substr(colon + 1);
  if (pattern.empty() || !is_pattern(pattern)) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("scope '{}': after the colon stands a function's name, the beginning "
                              "of names with '*', or '*'",
                              text.substr(0, 80)));
  }
  if (names_no_function(*verb) && pattern != "*") {
    return refuse(reason::kInvalidSetting,
                  fmt::format("scope '{}': what {} lets do is of no one function; write {} alone",
                              text.substr(0, 80), to_string(*verb), to_string(*verb)));
  }
  return Scope{.verb = *verb, .pattern = std::string(pattern)};
}

}  // namespace

std::string_view to_string(Verb verb) {
  switch (verb) {
    case Verb::Invoke:
      return "invoke";
    case Verb::Read:
      return "read";
    case Verb::Deploy:
      return "deploy";
    case Verb::Configure:
      return "configure";
    case Verb::Data:
      return "data";
    case Verb::Secrets:
      return "secrets";
    case Verb::Metrics:
      return "metrics";
    case Verb::Admin:
      return "admin";
  }
  return "";
}

bool Scope::covers(std::string_view function) const {
  const std::string_view want = pattern;
  if (want.ends_with('*')) return function.starts_with(want.substr(0, want.size() - 1));
  return want == function;
}

Result<Scopes> Scopes::parse(std::string_view text) {
  Scopes scopes;
  while (true) {
    const std::size_t comma = text.find(',');
    const Scope scope = TRY(parse_scope(text.substr(0, comma)));
    if (std::ranges::find(scopes.scopes_, scope) == scopes.scopes_.end())
      scopes.scopes_.push_back(scope);
    if (scopes.scopes_.size() > kMaxScopes) {
      return refuse(reason::kInvalidSetting, fmt::format("more than {} scopes", kMaxScopes));
    }
    if (comma == std::string_view::npos) return scopes;
    text.remove_prefix(comma + 1);
  }
}

Scopes Scopes::all() {
  Scopes scopes;
  for (const Verb verb : kVerbs) scopes.scopes_.push_back({.verb = verb});
  return scopes;
}

bool Scopes::allow(Verb verb, std::string_view function) const {
  return std::ranges::any_of(
      scopes_, [&](const Scope& scope) { return scope.verb == verb && scope.covers(function); });
}

bool Scopes::allow_any(Verb verb) const {
  return std::ranges::find(scopes_, verb, &Scope::verb) != scopes_.end();
}

Scopes Scopes::without(Verb verb) const {
  Scopes rest;
  std::ranges::copy_if(scopes_, std::back_inserter(rest.scopes_),
                       [&](const Scope& scope) { return scope.verb != verb; });
  return rest;
}

std::string Scopes::str() const {
  std::string text;
  for (const Scope& scope : scopes_)
    text += fmt::format("{}{}:{}", text.empty() ? "" : ",", to_string(scope.verb), scope.pattern);
  return text;
}

}  // namespace mayfly
