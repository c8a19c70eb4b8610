// CSV and TSV: a row stands in the line that it is said to be of, whole or, where it is a failure,
// as its beginning is shown. The first byte is the delimiter: 'h' leaves it to the header.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/utf8.h"
#include "runner/ingest/testing/taken_bytes.h"

namespace {
using namespace mayfly;

IngestOptions options_of(char first) {
  if (first == '\t') return {.format = SourceFormat::Tsv};
  if (std::string_view("h\"\r\n").contains(first)) return {};
  return {.delimiter = std::string(1, first)};
}

// `shown` is cut off at some byte, which may be within a character.
bool begins_with(std::string_view line, std::string_view shown) {
  shown = shown.substr(0, shown.find('\n'));
  const std::size_t sure = shown.size() < 4 ? 0 : shown.size() - 4;
  return to_utf8(line).starts_with(shown.substr(0, sure));
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > kMostTakenBytes) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto lines = lines_of(text);
  // A return alone ends a row too, and is no line's end.
  const bool plain = std::ranges::count(text, '\r') ==
                     std::ranges::count_if(lines, [](auto line) { return line.ends_with('\r'); });
  const auto ends = static_cast<std::uint64_t>(
      std::ranges::count_if(text, [](char c) { return c == '\n' || c == '\r'; }));
  const auto see = [&](const RowSource&, const SourceBlock& block) {
    for (const SourceRow& row : block.rows) CHECK(row.line <= ends + 1 && row.row < row.line);
    for (std::size_t i = 0; plain && i < block.rows.size(); ++i) {
      const Cell& first = block.columns[0][i];
      CHECK(block.rows[i].line <= lines.size());
      const std::string_view line = lines[block.rows[i].line - 1];
      CHECK(first.quoted ? line.contains('"') : line.starts_with(first.text));
    }
    for (const SourceBlock::Failure& failure : block.failures) {
      CHECK(failure.at.line <= ends + 1 && failure.at.row < failure.at.line);
      CHECK(!plain || begins_with(lines[failure.at.line - 1], failure.input));
    }
  };
  const auto taken = take_bytes(text, options_of(static_cast<char>(data[0])), see);
  if (!taken) check_refusal(taken.error());
  return 0;
}
