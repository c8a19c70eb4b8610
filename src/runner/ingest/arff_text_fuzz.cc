// ARFF: what is taken has as many values as attributes.
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "base/check.h"
#include "core/reason.h"
#include "runner/ingest/arff_text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mayfly;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  std::size_t attributes = 0;
  bool rows = false;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (rows) {
      std::deque<std::string> texts;
      const auto cells = parse_arff_row(line, attributes, texts);
      CHECK(cells ? cells->size() == attributes : cells.error().reason == reason::kInvalidInput);
      continue;
    }
    const auto parsed = parse_arff_line(line);
    if (!parsed) {
      CHECK(parsed.error().reason == reason::kInvalidInput);
      return 0;
    }
    rows = parsed->data;
    if (parsed->attribute) ++attributes;
  }
  return 0;
}
