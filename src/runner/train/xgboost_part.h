// What one worker of a training by XGBoost holds: its part of the rows, and a booster that is the
// same in all of them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runner/train/trainer.h"
#include "runner/train/xgboost_library.h"

namespace mayfly {

// Rows that lie behind each other; of a ranking whole groups.
struct RowPart {
  std::size_t first = 0, count = 0;
  std::size_t first_group = 0, groups = 0;
};
// As even as groups let them be. InvalidArgument (reason invalid_input) where one would be empty.
Result<std::vector<RowPart>> divide_rows(std::size_t rows, std::span<const std::uint32_t> groups,
                                         std::uint32_t parts);

// Rows that are handed to the library at once, so that it takes no more memory than there is.
std::size_t piece_rows(const TrainerSetup& setup, std::size_t width);

class XgboostPart {
 public:
  // `valid`: rows whose predictions are kept from round to round, or null; outlives the part.
  static Result<XgboostPart> make(const XgboostLibrary& library, const TrainerSetup& setup,
                                  const LearnRows& train, const RowPart& part,
                                  const XgboostMatrix* valid);
  XgboostBooster& booster() { return booster_; }
  Status step(std::uint32_t round) { return booster_.update(round, matrix_); }
  Status restore(std::string_view saved);

 private:
  XgboostPart(std::uint32_t threads, XgboostMatrix matrix, XgboostBooster booster)
      : threads_(threads), matrix_(std::move(matrix)), booster_(std::move(booster)) {}
  Status configure(const TrainerSetup& setup);

  std::uint32_t threads_;
  XgboostMatrix matrix_;
  XgboostBooster booster_;
};

}  // namespace mayfly
