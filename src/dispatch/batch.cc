#include "dispatch/batch.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

namespace mayfly {
namespace {

std::span<const std::int64_t> row_shape(const Shape& shape) { return std::span(shape).subspan(1); }

bool same_rows(const InputPlan& a, const InputPlan& b) {
  return a.index == b.index && a.type == b.type && a.form == b.form &&
         a.shape.size() == b.shape.size() &&
         std::ranges::equal(row_shape(a.shape), row_shape(b.shape));
}

// Where each member's part of an output ends. BYTES elements are a length and that many bytes, so
// they are walked; everything else has rows of one size.
std::optional<std::vector<std::size_t>> text_ends(const OutputView& output,
                                                  std::span<const std::uint64_t> rows,
                                                  std::uint64_t per_row) {
  std::vector<std::size_t> ends;
  std::size_t at = 0;
  for (const std::uint64_t count : rows) {
    for (std::uint64_t element = 0; element < count * per_row; ++element) {
      std::uint32_t length = 0;
      if (output.bytes.size() - at < sizeof length) return std::nullopt;
      std::memcpy(&length, output.bytes.data() + at, sizeof length);
      at += sizeof length;
      if (output.bytes.size() - at < length) return std::nullopt;
      at += length;
    }
    ends.push_back(at);
  }
  return ends;
}

std::optional<std::vector<std::size_t>> ends_of(const OutputView& output,
                                                std::span<const std::uint64_t> rows,
                                                std::uint64_t all_rows) {
  if (output.shape.empty() || std::cmp_not_equal(output.shape.front(), all_rows))
    return std::nullopt;
  if (output.type == DataType::Bytes) {
    std::uint64_t per_row = 1;
    for (const std::int64_t extent : row_shape(output.shape))
      per_row *= static_cast<std::uint64_t>(extent);
    return text_ends(output, rows, per_row);
  }
  const std::size_t row = output.bytes.size() / all_rows;
  std::vector<std::size_t> ends;
  std::size_t at = 0;
  for (const std::uint64_t count : rows) ends.push_back(at += count * row);
  return ends;
}

}  // namespace

std::uint64_t rows_of(const RequestLayout& layout) {
  std::int64_t rows = 0;
  for (const InputPlan& input : layout.inputs()) {
    if (input.shape.empty() || input.form != InputForm::Tensor) return 0;
    if (rows != 0 && rows != input.shape.front()) return 0;
    rows = input.shape.front();
    if (rows <= 0) return 0;
  }
  return static_cast<std::uint64_t>(rows);
}

bool alike(const RequestLayout& a, const RequestLayout& b) {
  return a.inputs().size() == b.inputs().size() && a.outputs() == b.outputs() &&
         std::ranges::equal(a.inputs(), b.inputs(), same_rows);
}

Result<RequestMemory> join_requests(std::span<RequestMemory* const> members,
                                    std::uint64_t output_bytes) {
  const RequestLayout& first = members.front()->layout();
  std::vector<InputPlan> inputs = first.inputs();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    for (const RequestMemory* member : members.subspan(1)) {
      const InputPlan& more = member->layout().inputs()[i];
      inputs[i].shape.front() += more.shape.front();
      inputs[i].bytes += more.bytes;
    }
  }
  RequestLayout layout = TRY(RequestLayout::plan(std::move(inputs), first.outputs()));
  RequestMemory whole = TRY(RequestMemory::allocate(std::move(layout), output_bytes));
  for (std::size_t i = 0; i < whole.layout().inputs().size(); ++i) {
    auto place = whole.input(i).begin();
    for (RequestMemory* member : members) place = std::ranges::copy(member->input(i), place).out;
  }
  return whole;
}

std::optional<std::vector<Reply>> divide(const Reply& whole, std::span<const std::uint64_t> rows) {
  const std::uint64_t all_rows = std::accumulate(rows.begin(), rows.end(), std::uint64_t{0});
  std::vector<Reply> parts(rows.size());
  for (Reply& part : parts) part.memory = whole.memory;
  for (const OutputView& output : whole.outputs) {
    const auto ends = ends_of(output, rows, all_rows);
    if (!ends || ends->back() != output.bytes.size()) return std::nullopt;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      OutputView view{.index = output.index,
                      .type = output.type,
                      .shape = output.shape,
                      .bytes = output.bytes.subspan(begin, (*ends)[i] - begin)};
      view.shape.front() = static_cast<std::int64_t>(rows[i]);
      parts[i].outputs.push_back(std::move(view));
      begin = (*ends)[i];
    }
  }
  return parts;
}

}  // namespace mayfly
