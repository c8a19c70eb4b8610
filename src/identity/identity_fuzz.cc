// What callers send: scopes and keys as text.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "identity/api_key.h"
#include "identity/scope.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mayfly;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto id = api_key_id(text)) CHECK(id->size() == 12);
  const auto scopes = Scopes::parse(text);
  if (!scopes) return 0;
  CHECK(Scopes::parse(scopes->str()) == *scopes);
  for (const Verb verb : kVerbs) {
    if (scopes->allow(verb, "fraud")) CHECK(scopes->allow_any(verb));
  }
  return 0;
}
