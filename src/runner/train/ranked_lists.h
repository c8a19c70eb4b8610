// Lists of recommended items, the best first, and what they are worth to users of whom rows were
// held out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "core/json_reader.h"
#include "runner/train/graph_session.h"
#include "runner/train/interactions.h"
#include "validation/metric.h"

namespace mayfly {

// By judged user: places in HeldOut::items; kNoPlace: none of those.
using ItemLists = std::vector<std::vector<std::uint32_t>>;

inline constexpr std::size_t kJudgedItems = 10;  // of a list, at most

// Empty: recall_at_10. InvalidArgument (reason invalid_input) lists those that there are.
Result<validation::Metric> list_metric(std::string_view name);

// What each list is worth; one that names an item twice gains nothing by it.
validation::ValuePredictions worth_of(validation::Metric metric, std::span<const JudgedUser> users,
                                      const ItemLists& lists);

// {"recall_at_10": {"value", "low", "high"}, "ndcg_at_10": …}
Json describe_lists(std::span<const JudgedUser> users, const ItemLists& lists, double alpha,
                    std::uint64_t seed);

// The same for everybody, but for what he has in training rows.
ItemLists popular_lists(const HeldOut& held, const Interactions& train);

// Of a model's output, `width` names a user.
ItemLists lists_of(const GraphValues& names, std::size_t width, const HeldOut& held);

}  // namespace mayfly
