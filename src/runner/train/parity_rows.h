// The rows on which a Python function's model must say what the function says: made of a snapshot
// before the function runs, and written as one, so that both sides read the same.
//
// Held-out rows first, then training rows (a hundred at least: the scale of values is theirs), then
// copies of them: with every value a little off, with missing values, categories and words that
// nobody has seen, numbers and dates far out, images black and white.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "core/json_reader.h"
#include "runner/train/table.h"

namespace mayfly {

inline constexpr std::string_view kParitySplit = "parity";

struct ParitySources {
  const TrainTable& valid;
  std::span<const std::uint32_t> valid_rows;
  const TrainTable& train;
  std::span<const std::uint32_t> train_rows;
  std::span<const std::size_t> columns;  // that a model may take, ascending
  std::uint64_t seed = 0;
};

// Leaves schema.json, rows.json and parts/0/parity/ in `folder`.
Status write_parity_rows(const ParitySources& sources, const Path& folder);

// Where each of them is from, as rows.json says.
class ParityOrigins {
 public:
  static Result<ParityOrigins> read(const Path& folder, std::uint32_t rows);
  const std::string& of(std::size_t row) const;
  Json counts() const;

 private:
  std::vector<std::pair<std::string, std::size_t>> ends_;
};

}  // namespace mayfly
