// A model card of any JSON is a page without scripts, handlers or anything to fetch.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "lineage/card.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mayfly;
  const auto json = parse_json({reinterpret_cast<const char*>(data), size}, "card");
  if (!json) return 0;
  for (const std::string& page :
       {card_page(*json), card_page({{"training", *json}, {"data", *json}}),
        card_page(model_card({.lineage = *json,
                              .record = *json,
                              .provenance = *json,
                              .inputs = *json,
                              .outputs = *json,
                              .rollout = *json,
                              .measured = *json}))}) {
    CHECK(page.find("<script") == std::string::npos);
    CHECK(page.find("<img") == std::string::npos);
    CHECK(page.ends_with("</body></html>\n"));
  }
  return 0;
}
