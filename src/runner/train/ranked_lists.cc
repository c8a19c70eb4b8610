#include "runner/train/ranked_lists.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>

#include "core/reason.h"
#include "validation/interval.h"

namespace mayfly {
namespace {

constexpr std::array kListMetrics = {validation::Metric::RecallAt10, validation::Metric::NdcgAt10};

double worth_of_list(validation::Metric metric, const JudgedUser& user,
                     const std::vector<std::uint32_t>& list) {
  std::vector<std::uint8_t> hits;
  std::vector<std::uint32_t> found;
  for (std::size_t i = 0; i < std::min(list.size(), kJudgedItems); ++i) {
    const bool hit = std::ranges::binary_search(user.items, list[i]) &&
                     std::ranges::find(found, list[i]) == found.end();
    if (hit) found.push_back(list[i]);
    hits.push_back(hit ? 1 : 0);
  }
  return validation::gain_at_10(metric, hits, user.items.size());
}

}  // namespace

Result<validation::Metric> list_metric(std::string_view name) {
  if (name.empty()) return validation::default_metric(validation::Task::Recommendation);
  const auto metric = validation::parse_metric(name);
  if (metric && validation::fits(*metric, validation::Task::Recommendation)) return metric;
  return refuse(reason::kInvalidInput,
                fmt::format("'{}' is no metric of recommendation; there are recall_at_10 and "
                            "ndcg_at_10",
                            name));
}

validation::ValuePredictions worth_of(validation::Metric metric, std::span<const JudgedUser> users,
                                      const ItemLists& lists) {
  validation::ValuePredictions some;
  for (std::size_t i = 0; i < users.size(); ++i) {
    some.truth.push_back(static_cast<double>(users[i].items.size()));
    some.value.push_back(worth_of_list(metric, users[i], lists[i]));
  }
  return some;
}

Json describe_lists(std::span<const JudgedUser> users, const ItemLists& lists, double alpha,
                    std::uint64_t seed) {
  Json json = Json::object();
  for (const validation::Metric metric : kListMetrics) {
    const auto found = validation::interval(metric, worth_of(metric, users, lists), alpha, seed);
    json[std::string(validation::info(metric).name)] =
        Json{{"value", found.estimate}, {"low", found.low}, {"high", found.high}};
  }
  return json;
}

ItemLists popular_lists(const HeldOut& held, const Interactions& train) {
  const std::vector<std::uint32_t> order = by_popularity(train);
  ItemLists lists;
  for (const JudgedUser& user : held.users) {
    std::vector<std::uint32_t>& list = lists.emplace_back();
    for (const std::uint32_t item : order) {
      if (list.size() == kJudgedItems) break;
      if (user.known == kNoPlace || !train.has(user.known, item))
        list.push_back(held.of_train[item]);
    }
  }
  return lists;
}

ItemLists lists_of(const GraphValues& names, std::size_t width, const HeldOut& held) {
  ItemLists lists;
  const auto take = [&](const auto& all) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i % width == 0) lists.emplace_back();
      lists.back().push_back(held.items.find(all[i]));
    }
  };
  if (const auto* numbers = std::get_if<std::vector<std::int64_t>>(&names)) take(*numbers);
  if (const auto* texts = std::get_if<std::vector<std::string>>(&names)) take(*texts);
  return lists;
}

}  // namespace mayfly
