#include "serving/output_summary.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/wire/number.h"

namespace mayfly {
namespace {

std::size_t columns_of(const Shape& shape) {
  const bool short_rows =
      shape.size() >= 2 && shape.back() >= 2 && shape.back() <= OutputSummaries::kColumns;
  return short_rows ? static_cast<std::size_t>(shape.back()) : 1;
}

}  // namespace

OutputSummaries::OutputSummaries(const Signature& signature, std::span<const OutputView> outputs) {
  for (const OutputView& output : outputs) {
    if (output.type == DataType::Bytes || output.bytes.empty()) continue;
    const std::string& name = signature.outputs[output.index].name;
    const std::size_t columns = columns_of(output.shape);
    const std::size_t first = summaries_.size();
    for (std::size_t column = 0; column < columns; ++column) {
      names_.push_back(columns == 1 ? name : fmt::format("{}[{}]", name, column));
      summaries_.emplace_back(names_.back());
    }
    const std::size_t count =
        std::min(output.bytes.size() / element_size(output.type), kValues / columns * columns);
    for (std::size_t i = 0; i < count; ++i)
      summaries_[first + i % columns].add(number_at(output.type, output.bytes, i));
  }
}

}  // namespace mayfly
