// What a key may be used for: "invoke:fraud,deploy:*,metrics". Pure values.
//
//   scopes  = scope ("," scope)*
//   scope   = verb [":" pattern]          without a pattern: "*"
//   verb    = invoke | read | deploy | configure | data | secrets | metrics | admin
//   pattern = a function's name (of data, a dataset's) | a beginning of names and "*" | "*";
//             secrets, metrics and admin: "*" only
//
// Scopes add up and imply nothing: `admin` (keys, projects, quotas, the node) does not invoke.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace mayfly {

enum class Verb : std::uint8_t { Invoke, Read, Deploy, Configure, Data, Secrets, Metrics, Admin };
inline constexpr std::array kVerbs = {Verb::Invoke, Verb::Read,    Verb::Deploy,  Verb::Configure,
                                      Verb::Data,   Verb::Secrets, Verb::Metrics, Verb::Admin};
std::string_view to_string(Verb verb);

struct Scope {
  Verb verb = Verb::Invoke;
  std::string pattern = "*";
  bool covers(std::string_view function) const;
  bool operator==(const Scope&) const = default;
};

class Scopes {
 public:
  // invalid_setting: an unknown verb, a pattern that no function's name matches, or one that the
  // verb cannot be limited by.
  static Result<Scopes> parse(std::string_view text);
  static Scopes all();

  // `function` without project, version and alias.
  bool allow(Verb verb, std::string_view function) const;
  bool allow_any(Verb verb) const;  // of some function at least
  Scopes without(Verb verb) const;
  std::string str() const;  // parses back
  bool operator==(const Scopes&) const = default;

 private:
  std::vector<Scope> scopes_;
};

}  // namespace mayfly
