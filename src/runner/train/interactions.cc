#include "runner/train/interactions.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kInteractionChunk = 65'536;
constexpr std::int64_t kNoNumber = std::numeric_limits<std::int64_t>::min();

std::unexpected<Error> bad_interactions(std::string what) {
  return refuse(reason::kInvalidInput, std::move(what));
}

Result<std::size_t> interaction_column(const TrainTable& table, const std::string& name,
                                       std::string_view role) {
  const auto column = table.find(name);
  if (!column)
    return bad_interactions(fmt::format("there is no column '{}', which is to be {}", name, role));
  return *column;
}

Result<std::size_t> name_column(const TrainTable& table, const std::string& name,
                                std::string_view role) {
  const std::size_t column = TRY(interaction_column(table, name, role));
  const ColumnKind kind = table.columns()[column].kind;
  if (kind == ColumnKind::Category || kind == ColumnKind::Integer || kind == ColumnKind::Text)
    return column;
  return bad_interactions(
      fmt::format("column '{}' is of type {}; {} is a category, a text or a whole number", name,
                  to_string(kind), role));
}

template <typename T>
std::uint32_t place_of(const std::vector<T>& sorted, const auto& name) {
  const auto found = std::ranges::lower_bound(sorted, name, std::less<>());
  if (found == sorted.end() || *found != name) return kNoPlace;
  return static_cast<std::uint32_t>(found - sorted.begin());
}

// Names of a column, and of each row its place among them; kNoPlace where it has none.
struct NamedRows {
  IdNames names;
  std::vector<std::uint32_t> places;
};

template <typename T>
std::vector<T> sorted_once(std::vector<T> values) {
  std::ranges::sort(values);
  const auto twice = std::ranges::unique(values);
  values.erase(twice.begin(), twice.end());
  return values;
}

Result<NamedRows> read_numbered(const TrainTable& table, std::size_t column) {
  std::vector<std::int64_t> values(table.rows());
  TRY(table.integers(column, row_numbers(0, table.rows()), values));
  std::vector<std::int64_t> names = sorted_once(values);
  if (!names.empty() && names.front() == kNoNumber) names.erase(names.begin());
  NamedRows named;
  named.places.reserve(values.size());
  for (const std::int64_t value : values) named.places.push_back(place_of(names, value));
  named.names.names = std::move(names);
  return named;
}

Result<NamedRows> read_worded(const TrainTable& table, std::size_t column) {
  std::vector<std::string_view> values(table.rows());
  TRY(table.texts(column, row_numbers(0, table.rows()), values));
  std::vector<std::string_view> names = sorted_once(values);
  if (!names.empty() && names.front().empty()) names.erase(names.begin());
  NamedRows named;
  named.places.reserve(values.size());
  for (const std::string_view value : values) named.places.push_back(place_of(names, value));
  named.names.names = std::vector<std::string>(names.begin(), names.end());
  return named;
}

Result<NamedRows> read_names(const TrainTable& table, std::size_t column) {
  if (table.columns()[column].kind == ColumnKind::Integer) return read_numbered(table, column);
  return read_worded(table, column);
}

// 0: the row does not count.
Result<std::vector<double>> read_amounts(const TrainTable& table,
                                         const InteractionColumns& columns) {
  std::vector<double> amounts(table.rows(), 1);
  if (!columns.amount) return amounts;
  for (std::uint32_t at = 0; at < table.rows(); at += kInteractionChunk) {
    const auto rows =
        row_numbers(at, std::min<std::uint32_t>(kInteractionChunk, table.rows() - at));
    TRY(table.doubles(*columns.amount, rows, std::span(amounts).subspan(at, rows.size())));
  }
  for (double& amount : amounts) {
    if (std::isnan(amount)) amount = 0;
    if (amount >= 0 && std::isfinite(amount)) continue;
    return bad_interactions(fmt::format(
        "column '{}' holds {}, and an amount is 0 or more: leave such rows out, or say with "
        "another column how much a user has of an item",
        table.columns()[*columns.amount].name, amount));
  }
  return amounts;
}

}  // namespace

std::size_t IdNames::size() const {
  return std::visit([](const auto& some) { return some.size(); }, names);
}

std::string IdNames::text(std::size_t place) const {
  if (const auto* numbers = std::get_if<std::vector<std::int64_t>>(&names))
    return fmt::format("{}", numbers->at(place));
  return std::get<std::vector<std::string>>(names).at(place);
}

std::uint32_t IdNames::find(std::int64_t name) const {
  const auto* numbers = std::get_if<std::vector<std::int64_t>>(&names);
  return numbers == nullptr ? kNoPlace : place_of(*numbers, name);
}

std::uint32_t IdNames::find(std::string_view name) const {
  const auto* texts = std::get_if<std::vector<std::string>>(&names);
  return texts == nullptr ? kNoPlace : place_of(*texts, name);
}

std::vector<std::uint32_t> IdNames::places_in(const IdNames& others) const {
  std::vector<std::uint32_t> places;
  places.reserve(size());
  std::visit(
      [&](const auto& mine) {
        for (const auto& name : mine) places.push_back(others.find(name));
      },
      names);
  return places;
}

Result<InteractionColumns> interaction_columns(const TrainTable& table, const std::string& item,
                                               const std::string& user,
                                               std::span<const std::string> amounts) {
  if (item.empty())
    return bad_interactions("recommendation needs a target: the column of the items");
  if (user.empty())
    return bad_interactions("recommendation needs a group: the column of the users, who have them");
  if (item == user)
    return bad_interactions(fmt::format("'{}' cannot be both the users and the items", item));
  InteractionColumns columns{.user = TRY(name_column(table, user, "a user")),
                             .item = TRY(name_column(table, item, "an item"))};
  if (amounts.size() > 1)
    return bad_interactions(fmt::format(
        "recommendation learns from users, items and one column of amounts; {} were named",
        amounts.size()));
  if (amounts.empty()) return columns;
  columns.amount = TRY(interaction_column(table, amounts[0], "amounts"));
  const ColumnKind kind = table.columns()[*columns.amount].kind;
  if (kind == ColumnKind::Number || kind == ColumnKind::Integer) return columns;
  return bad_interactions(fmt::format("column '{}' is of type {}, and amounts are numbers",
                                      amounts[0], to_string(kind)));
}

bool Interactions::has(std::uint32_t user, std::uint32_t item) const {
  return std::ranges::binary_search(of(user), item, {}, &Interaction::item);
}

Result<Interactions> read_interactions(const TrainTable& table, const InteractionColumns& columns) {
  NamedRows users = TRY(read_names(table, columns.user));
  NamedRows items = TRY(read_names(table, columns.item));
  const std::vector<double> amounts = TRY(read_amounts(table, columns));
  Interactions found;
  found.rows.assign(users.names.size(), kNoPlace);
  for (std::uint32_t row = 0; row < table.rows(); ++row) {
    const std::uint32_t user = users.places[row];
    if (user == kNoPlace || items.places[row] == kNoPlace || amounts[row] == 0) {
      ++found.left_out;
      continue;
    }
    found.rows[user] = std::min(found.rows[user], row);
    found.pairs.push_back({.user = user, .item = items.places[row], .amount = amounts[row]});
  }
  std::ranges::sort(found.pairs, {}, [](const Interaction& one) {
    return std::tuple(one.user, one.item, one.amount);
  });
  std::size_t kept = 0;
  for (const Interaction& one : found.pairs) {
    const bool again = kept > 0 && found.pairs[kept - 1].user == one.user &&
                       found.pairs[kept - 1].item == one.item;
    if (again) {
      found.pairs[kept - 1].amount += one.amount;
    } else {
      found.pairs[kept++] = one;
    }
  }
  found.pairs.resize(kept);
  found.users = std::move(users.names);
  found.items = std::move(items.names);
  found.starts.assign(found.users.size() + 1, 0);
  for (const Interaction& one : found.pairs) ++found.starts[one.user + 1];
  std::partial_sum(found.starts.begin(), found.starts.end(), found.starts.begin());
  return found;
}

HeldOut hold_out(Interactions held, const Interactions& train) {
  const std::vector<std::uint32_t> known_users = held.users.places_in(train.users);
  const std::vector<std::uint32_t> known_items = held.items.places_in(train.items);
  HeldOut found;
  found.of_train = train.items.places_in(held.items);
  std::vector<JudgedUser> all;
  for (std::uint32_t user = 0; user < held.users.size(); ++user) {
    JudgedUser one{.known = known_users[user], .row = held.rows[user], .items = {}};
    for (const Interaction& pair : held.of(user)) {
      const std::uint32_t item = known_items[pair.item];
      const bool had = one.known != kNoPlace && item != kNoPlace && train.has(one.known, item);
      if (!had) one.items.push_back(pair.item);
    }
    if (!one.items.empty()) all.push_back(std::move(one));
  }
  const std::size_t count = std::min(all.size(), kMostJudged);
  for (std::size_t i = 0; i < count; ++i)
    found.users.push_back(std::move(all[i * all.size() / count]));
  for (const JudgedUser& one : found.users) found.known_users += one.known != kNoPlace ? 1 : 0;
  found.items = std::move(held.items);
  return found;
}

std::vector<float> popularity(const Interactions& train) {
  std::vector<double> counts(train.items.size());
  for (const Interaction& one : train.pairs) ++counts[one.item];
  std::vector<float> shares;
  for (const double count : counts)
    shares.push_back(static_cast<float>(count / static_cast<double>(train.users.size())));
  return shares;
}

std::vector<std::uint32_t> by_popularity(const Interactions& train) {
  const std::vector<float> shares = popularity(train);
  std::vector<std::uint32_t> order(shares.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::sort(order, {}, [&](std::uint32_t item) { return std::pair(-shares[item], item); });
  return order;
}

}  // namespace mayfly
