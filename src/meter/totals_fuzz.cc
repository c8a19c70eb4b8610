// Any bytes: never a crash; what decodes must encode to totals that decode to the same.
#include "meter/totals.h"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mayfly;
  const auto totals = decode_totals(std::as_bytes(std::span(data, size)));
  if (!totals) return 0;
  const std::string file = encode_totals(*totals);
  const auto again = decode_totals(std::as_bytes(std::span(file)));
  if (!again || *again != *totals) std::abort();
  return 0;
}
