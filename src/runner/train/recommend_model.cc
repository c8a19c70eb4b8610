#include "runner/train/recommend_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>
#include <vector>

#include "core/reason.h"
#include "core/units.h"
#include "runner/train/onnx_graph.h"

namespace mayfly {
namespace {

using onnx::TensorProto;

constexpr std::uint64_t kMostGraph = (std::uint64_t{1} << 31) - 1;
constexpr std::array<std::int64_t, 1> kUserAxis = {0};
constexpr std::array<std::int64_t, 1> kItemAxis = {1};
constexpr std::array<std::int64_t, 1> kOneValue = {1};
constexpr std::array<std::int64_t, 1> kEachUser = {-1};

std::uint64_t size_of_names(const IdNames& names) {
  const auto* texts = std::get_if<std::vector<std::string>>(&names.names);
  if (texts == nullptr) return names.size() * 10;
  return std::accumulate(
      texts->begin(), texts->end(), std::uint64_t{0},
      [](std::uint64_t sum, const std::string& text) { return sum + text.size() + 6; });
}

class RecommendGraph {
 public:
  explicit RecommendGraph(const RecommendParts& parts)
      : parts_(parts),
        train_(parts.train),
        item_count_(std::ssize(parts.items) / static_cast<std::int64_t>(parts.factors)),
        graph_("recommender") {}

  Result<std::string> build() {
    const std::string place = add_place();
    const std::string scores = without_had(place, add_scores(place));
    const std::int64_t top = std::min(static_cast<std::int64_t>(parts_.top), item_count_);
    const std::string best =
        graph_.add("TopK", {scores, graph_.add_integers("top", std::span(&top, 1), kOneValue)});
    const std::string at = graph_.fresh("best_at");
    graph_.last().add_output(at);
    const std::string none = graph_.add("Equal", {best, scalar("no_score", kNoScore)});
    const std::string items = graph_.add("Where", {none, add_blank(), add_names(at)});
    const std::array<std::int64_t, 2> shape = {-1, top};
    graph_.add("Identity", {items}, "", "items");
    graph_.add_output("items",
                      train_.items.are_numbers() ? TensorProto::INT64 : TensorProto::STRING, shape);
    graph_.add("Identity", {best}, "", "scores");
    graph_.add_output("scores", TensorProto::FLOAT, shape);
    return graph_.serialize();
  }

 private:
  std::string scalar(std::string_view base, float value) {
    return graph_.add_floats(base, std::span(&value, 1), {});
  }
  std::string scalar(std::string_view base, std::int64_t value) {
    return graph_.add_integers(base, std::span(&value, 1), {});
  }
  std::string cast(const std::string& value, TensorProto::DataType type) {
    std::string made = graph_.add("Cast", {value});
    set_attribute(graph_.last(), "to", std::int64_t{type});
    return made;
  }
  std::int64_t user_count() const { return static_cast<std::int64_t>(train_.users.size()); }

  // The user's number; one more than there are for whom nobody knows.
  std::string add_place() {
    const bool numbers = train_.users.are_numbers();
    graph_.add_input(parts_.column, numbers ? TensorProto::INT64 : TensorProto::STRING, kEachUser);
    std::vector<std::int64_t> places(train_.users.size());
    std::iota(places.begin(), places.end(), std::int64_t{0});
    std::string place = graph_.add("LabelEncoder", {parts_.column}, kOnnxMl);
    if (const auto* keys = std::get_if<std::vector<std::int64_t>>(&train_.users.names)) {
      set_attribute(graph_.last(), "keys_int64s", std::span<const std::int64_t>(*keys));
    } else {
      set_attribute(
          graph_.last(), "keys_strings",
          std::span<const std::string>(std::get<std::vector<std::string>>(train_.users.names)));
    }
    set_attribute(graph_.last(), "values_int64s", std::span<const std::int64_t>(places));
    set_attribute(graph_.last(), "default_int64", user_count());
    return place;
  }

  // One more factor is the popularity of items: of users without factors of their own it is the
  // only one. One more item stands for none. Sums are made with doubles.
  std::string add_scores(const std::string& place) {
    const std::size_t width = parts_.factors + 1;
    std::vector<float> users((train_.users.size() + 1) * width);
    for (std::size_t user = 0; user <= train_.users.size(); ++user) {
      const bool known =
          user < train_.users.size() && train_.starts[user] < train_.starts[user + 1];
      float* row = users.data() + user * width;
      if (known) std::copy_n(parts_.users.data() + user * parts_.factors, parts_.factors, row);
      row[parts_.factors] = known ? 0 : 1;
    }
    const auto columns = static_cast<std::size_t>(item_count_ + 1);
    std::vector<float> items(width * columns);
    const std::vector<float> shares = popularity(train_);
    for (std::size_t item = 0; item < shares.size(); ++item) {
      for (std::size_t i = 0; i < parts_.factors; ++i)
        items[i * columns + item] = static_cast<float>(parts_.items[item * parts_.factors + i]);
      items[parts_.factors * columns + item] = shares[item];
    }
    const std::array<std::int64_t, 2> of_users = {user_count() + 1,
                                                  static_cast<std::int64_t>(width)};
    const std::array<std::int64_t, 2> of_items = {static_cast<std::int64_t>(width),
                                                  item_count_ + 1};
    const std::string own =
        graph_.add("Gather", {graph_.add_floats("users", users, of_users), place});
    const std::string sums = graph_.add(
        "MatMul", {cast(own, TensorProto::DOUBLE),
                   cast(graph_.add_floats("item_factors", items, of_items), TensorProto::DOUBLE)});
    return cast(sums, TensorProto::FLOAT);
  }

  // The pairs lie one user after the other; each row of the request takes as many places as the
  // user with the most, and what is beyond its own points at the item that stands for none.
  std::string without_had(const std::string& place, const std::string& scores) {
    std::vector<std::int64_t> starts(train_.starts.begin(), train_.starts.end());
    starts.push_back(starts.back());
    std::vector<std::int64_t> had;
    for (const Interaction& one : train_.pairs) had.push_back(one.item);
    const std::string bounds =
        graph_.add_integers("starts", starts, std::array<std::int64_t, 1>{std::ssize(starts)});
    const std::string all =
        graph_.add_integers("had", had, std::array<std::int64_t, 1>{std::ssize(had)});
    const std::string zero = scalar("zero", std::int64_t{0});
    const std::string one = scalar("one", std::int64_t{1});
    const std::string first = graph_.add("Gather", {bounds, place});
    const std::string end = graph_.add("Gather", {bounds, graph_.add("Add", {place, one})});
    const std::string count = graph_.add("Sub", {end, first});
    const std::int64_t none = 0;
    const std::string counts =
        graph_.add("Concat", {count, graph_.add_integers("none", std::span(&none, 1), kOneValue)});
    set_attribute(graph_.last(), "axis", std::int64_t{0});
    const std::string most = graph_.add("ReduceMax", {counts});
    set_attribute(graph_.last(), "keepdims", std::int64_t{0});
    const std::string range = graph_.add("Range", {zero, most, one});
    const std::string axis = graph_.add_integers("axis", kItemAxis, kOneValue);
    const std::string column = graph_.add("Unsqueeze", {first, axis});
    const std::string own = graph_.add("Less", {range, graph_.add("Unsqueeze", {count, axis})});
    const std::string at = graph_.add("Where", {own, graph_.add("Add", {column, range}), zero});
    const std::string items =
        graph_.add("Where", {own, graph_.add("Gather", {all, at}), scalar("nothing", item_count_)});
    const std::string lowest =
        graph_.add("Expand", {scalar("no_score", kNoScore), graph_.add("Shape", {items})});
    const std::string masked = graph_.add("ScatterElements", {scores, items, lowest});
    set_attribute(graph_.last(), "axis", std::int64_t{1});
    const std::string from = graph_.add_integers("from", kUserAxis, kOneValue);
    const std::string to = graph_.add_integers("to", std::span(&item_count_, 1), kOneValue);
    return graph_.add("Slice", {masked, from, to, axis});
  }

  std::string add_names(const std::string& at) {
    const std::array<std::int64_t, 1> shape = {item_count_};
    const auto* numbers = std::get_if<std::vector<std::int64_t>>(&train_.items.names);
    const std::string names =
        numbers != nullptr
            ? graph_.add_integers("names", *numbers, shape)
            : graph_.add_texts("names", std::get<std::vector<std::string>>(train_.items.names),
                               shape);
    return graph_.add("Gather", {names, at});
  }

  std::string add_blank() {
    if (train_.items.are_numbers())
      return scalar("blank", std::numeric_limits<std::int64_t>::min());
    const std::string blank;
    return graph_.add_texts("blank", std::span(&blank, 1), {});
  }

  const RecommendParts& parts_;
  const Interactions& train_;
  const std::int64_t item_count_;
  OnnxGraph graph_;
};

}  // namespace

Bytes size_of_recommender(const Interactions& train, std::size_t factors) {
  const std::uint64_t ids = train.users.size() + train.items.size() + 2;
  return Bytes{ids * (factors + 1) * sizeof(float) + size_of_names(train.users) +
               size_of_names(train.items) + train.users.size() * 10 + train.pairs.size() * 5};
}

Status check_recommender(const Interactions& train, std::size_t factors,
                         const std::string& column) {
  if (column == "items" || column == "scores" || OnnxGraph::is_reserved(column)) {
    return refuse(reason::kInvalidInput,
                  fmt::format("the users' column is named '{}', as an output of the model is: "
                              "rename it",
                              column));
  }
  const Bytes size = size_of_recommender(train, factors);
  if (size.count <= kMostGraph) return {};
  return refuse(reason::kTooLarge,
                fmt::format("{} users and {} items with {} factors and {} pairs would be a model "
                            "of {}, and an ONNX file holds 2 GiB: take fewer factors or users",
                            train.users.size(), train.items.size(), factors, train.pairs.size(),
                            to_string(size)));
}

Result<std::string> make_recommender(const RecommendParts& parts) {
  return RecommendGraph(parts).build();
}

}  // namespace mayfly
