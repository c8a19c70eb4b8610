// Users and items as an ONNX graph: a user's name in, `items` and `scores` out, the best first.
// What a user has in training rows is left out; whom nobody knows gets the most popular. Where
// fewer items are left than a list has places, the last have no name (the smallest number there is)
// and the smallest score there is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "runner/train/interactions.h"

namespace mayfly {

struct RecommendParts {
  const Interactions& train;
  std::span<const double> users;  // [users, factors]
  std::span<const double> items;  // [items, factors]
  std::size_t factors = 0;
  std::string column;    // of the users: the graph's input
  std::size_t top = 10;  // items of a list; no more than there are
};

inline constexpr float kNoScore = std::numeric_limits<float>::lowest();

// About how large the graph becomes.
Bytes size_of_recommender(const Interactions& train, std::size_t factors);
// InvalidArgument (reasons invalid_input, too_large): a column named as an output is; a graph
// beyond the 2 GiB of an ONNX file.
Status check_recommender(const Interactions& train, std::size_t factors, const std::string& column);
Result<std::string> make_recommender(const RecommendParts& parts);

}  // namespace mayfly
