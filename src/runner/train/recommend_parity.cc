#include "runner/train/recommend_parity.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "core/printable.h"
#include "runner/train/graph_session.h"
#include "runner/train/recommend_model.h"

namespace mayfly {
namespace {

constexpr std::size_t kParityUsers = 1000;
constexpr std::size_t kParityPairs = 10'000;  // whose scores give the scale
constexpr std::size_t kParityPiece = 64;      // users asked about at once
constexpr std::size_t kLongestParityName = 200;

// Users as the graph is asked about them, and who they are.
struct AskedUsers {
  GraphValues names;
  std::vector<std::uint32_t> places;
  std::size_t from_valid = 0;
  std::size_t from_train = 0;

  std::string source(std::size_t row) const {
    if (row < from_valid) return "valid";
    return row < from_valid + from_train ? "train" : "unknown";
  }
  std::string text(std::size_t row) const {
    if (const auto* numbers = std::get_if<std::vector<std::int64_t>>(&names))
      return fmt::format("{}", (*numbers)[row]);
    return printable(std::get<std::vector<std::string>>(names)[row], kLongestParityName);
  }
};

std::vector<std::int64_t> unknown_numbers(const std::vector<std::int64_t>& known) {
  using Limits = std::numeric_limits<std::int64_t>;
  std::vector<std::int64_t> some;
  for (const std::int64_t number : {std::int64_t{-1}, std::int64_t{0}, known.front() - 1,
                                    known.back() + 1, Limits::min(), Limits::max()}) {
    if (!std::ranges::binary_search(known, number)) some.push_back(number);
  }
  return some;
}

AskedUsers asked_users(const RecommendParity& parts) {
  AskedUsers asked;
  std::vector<std::uint32_t> judged;
  for (const JudgedUser& user : parts.held.users)
    if (user.known != kNoPlace) judged.push_back(user.known);
  asked.places = spread(judged, kParityUsers);
  asked.from_valid = asked.places.size();
  const auto all = row_numbers(0, static_cast<std::uint32_t>(parts.train.users.size()));
  const auto others = spread(all, kParityUsers - asked.from_valid);
  asked.places.insert(asked.places.end(), others.begin(), others.end());
  asked.from_train = others.size();
  const auto known = std::span(asked.places);
  if (const auto* numbers = std::get_if<std::vector<std::int64_t>>(&parts.train.users.names)) {
    std::vector<std::int64_t> names;
    for (const std::uint32_t place : known) names.push_back((*numbers)[place]);
    for (const std::int64_t name : unknown_numbers(*numbers)) names.push_back(name);
    asked.names = std::move(names);
  } else {
    const auto& texts = std::get<std::vector<std::string>>(parts.train.users.names);
    std::vector<std::string> names;
    for (const std::uint32_t place : known) names.push_back(texts[place]);
    for (const char* name : {"", "mayfly never saw this"})
      if (!std::ranges::binary_search(texts, std::string_view(name))) names.emplace_back(name);
    asked.names = std::move(names);
  }
  const std::size_t count = std::visit([](const auto& some) { return some.size(); }, asked.names);
  asked.places.resize(count, kNoPlace);
  return asked;
}

// The standard deviation of what the trainer says of training pairs.
Result<double> scale_of_pairs(const RecommendParity& parts) {
  const std::size_t all = parts.train.pairs.size();
  const std::size_t count = std::min(all, kParityPairs);
  double sum = 0;
  double squares = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const Interaction& pair = parts.train.pairs[i * all / count];
    const double score = TRY(parts.trainer.score(pair.user, pair.item));
    sum += score;
    squares += score * score;
  }
  const double mean = sum / static_cast<double>(count);
  return std::sqrt(std::max(0.0, squares / static_cast<double>(count) - mean * mean));
}

class ListComparison {
 public:
  ListComparison(const RecommendParity& parts, AskedUsers asked, double scale)
      : parts_(parts),
        asked_(std::move(asked)),
        width_(std::min(parts.top, parts.train.items.size())),
        agreement_(
            classes_, scale,
            {.from = [this](std::size_t row) { return asked_.source(row); },
             .shown =
                 [this](std::size_t row) { return Json{{parts_.column, asked_.text(row)}}; }}) {}

  Result<ParityReport> run() {
    const GraphSession session =
        TRY(GraphSession::open(parts_.runtime, parts_.onnx, parts_.threads));
    for (std::size_t at = 0; at < asked_.places.size(); at += kParityPiece)
      TRY(compare_piece(session, at, std::min(kParityPiece, asked_.places.size() - at)));
    return agreement_.report(
        asked_.places.size(),
        Json{{"valid", asked_.from_valid},
             {"train", asked_.from_train},
             {"unknown", asked_.places.size() - asked_.from_valid - asked_.from_train}});
  }

 private:
  Status compare_piece(const GraphSession& session, std::size_t at, std::size_t count) {
    RowBatch batch{.rows = count, .columns = {}};
    std::visit(
        [&](const auto& names) {
          const auto first = names.begin() + static_cast<std::ptrdiff_t>(at);
          batch.columns.push_back({.name = parts_.column,
                                   .values = std::decay_t<decltype(names)>(
                                       first, first + static_cast<std::ptrdiff_t>(count))});
        },
        asked_.names);
    const std::array<std::string, 2> outputs = {"items", "scores"};
    const std::vector<GraphOutput> said = TRY(session.run(batch, outputs));
    const auto* scores = std::get_if<std::vector<float>>(&said[1].values);
    const std::size_t items =
        std::visit([](const auto& names) { return names.size(); }, said[0].values);
    if (scores == nullptr || scores->size() != count * width_ || items != count * width_)
      return fail(Code::Internal, "the graph's lists have the wrong size");
    for (std::size_t i = 0; i < count; ++i) TRY(compare_list(said[0].values, *scores, i, at + i));
    return {};
  }

  // `row` of what was said, `user` of all that are asked about.
  Status compare_list(const GraphValues& items, const std::vector<float>& scores, std::size_t row,
                      std::size_t user) {
    const std::uint32_t who = asked_.places[user];
    const auto own = TRY(parts_.trainer.recommend(who, width_));
    std::vector<std::uint32_t> seen;
    for (std::size_t i = 0; i < width_; ++i) {
      const std::size_t at = row * width_ + i;
      const std::uint32_t item = place_at(items, at);
      const auto score = static_cast<double>(scores[at]);
      if (i >= own.size()) {  // nothing is left
        if (item != kNoPlace || scores[at] != kNoScore)
          agreement_.compare_item(false, user, name_of(item), Json());
        continue;
      }
      agreement_.compare_number("scores", user, score, own[i].score);
      const bool twice = std::ranges::find(seen, item) != seen.end();
      seen.push_back(item);
      if (item == own[i].item && !twice) continue;
      bool tie = false;
      const bool had = item == kNoPlace || (who != kNoPlace && parts_.train.has(who, item));
      if (!had && !twice) {
        const double worth = TRY(parts_.trainer.score(who, item));
        tie = std::abs(worth - own[i].score) <= agreement_.allowed(own[i].score);
      }
      agreement_.compare_item(tie, user, name_of(item), name_of(own[i].item));
    }
    return {};
  }

  std::uint32_t place_at(const GraphValues& items, std::size_t at) const {
    if (const auto* numbers = std::get_if<std::vector<std::int64_t>>(&items))
      return parts_.train.items.find((*numbers)[at]);
    if (const auto* texts = std::get_if<std::vector<std::string>>(&items))
      return parts_.train.items.find((*texts)[at]);
    return kNoPlace;
  }

  Json name_of(std::uint32_t item) const {
    return item == kNoPlace ? Json()
                            : Json(printable(parts_.train.items.text(item), kLongestParityName));
  }

  const RecommendParity& parts_;
  const AskedUsers asked_;
  const std::size_t width_;
  const ClassNames classes_;
  Agreement agreement_;
};

}  // namespace

Result<ParityReport> check_recommender_parity(const RecommendParity& parts) {
  const double scale = TRY(scale_of_pairs(parts));
  return ListComparison(parts, asked_users(parts), scale).run();
}

}  // namespace mayfly
