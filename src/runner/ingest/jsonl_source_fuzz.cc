// JSON lines: a row is a line with an object, a failure a line without; both are shown as they are.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/utf8.h"
#include "runner/ingest/testing/taken_bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mayfly;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (size > kMostTakenBytes) return 0;
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  const auto lines =
      lines_of(text.starts_with(kByteOrderMark) ? text.substr(kByteOrderMark.size()) : text);
  const IngestOptions options{.format = SourceFormat::Jsonl};
  const auto taken = take_bytes(text, options, [&](const RowSource&, const SourceBlock& block) {
    for (const SourceRow& row : block.rows) {
      CHECK(row.line <= lines.size() && row.row <= row.line);
      const std::string_view line = lines[row.line - 1];
      CHECK(line[line.find_first_not_of(" \t\r\n")] == '{');
    }
    for (const SourceBlock::Failure& failure : block.failures) {
      CHECK(failure.at.line <= lines.size() && failure.at.row <= failure.at.line);
      CHECK(!failure.input.empty());
      CHECK(to_utf8(lines[failure.at.line - 1]).starts_with(failure.input));
    }
  });
  if (!taken) check_refusal(taken.error());
  return 0;
}
