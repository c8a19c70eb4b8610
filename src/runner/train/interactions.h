// Who has what: the rows of a recommendation as users, items and how much of each, and what of held
// out rows a model that learned from others could have named.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "runner/train/table.h"

namespace mayfly {

inline constexpr std::uint32_t kNoPlace = ~0U;  // of a user or an item that is not among them

// Names of users or items, sorted, each once: whole numbers, or texts.
struct IdNames {
  std::variant<std::vector<std::int64_t>, std::vector<std::string>> names;

  std::size_t size() const;
  std::string text(std::size_t place) const;
  bool are_numbers() const { return names.index() == 0; }
  std::uint32_t find(std::int64_t name) const;
  std::uint32_t find(std::string_view name) const;
  // Places of all of them among others; kNoPlace: none of those.
  std::vector<std::uint32_t> places_in(const IdNames& others) const;
};

struct InteractionColumns {
  std::size_t user = 0;
  std::size_t item = 0;
  std::optional<std::size_t> amount = {};
};
// By their names. InvalidArgument (reason invalid_input): a column that is not there, or of a type
// that names nobody; more than one of amounts.
Result<InteractionColumns> interaction_columns(const TrainTable& table, const std::string& item,
                                               const std::string& user,
                                               std::span<const std::string> amounts);

struct Interaction {
  std::uint32_t user = 0;
  std::uint32_t item = 0;
  double amount = 1;
};

struct Interactions {
  IdNames users;
  IdNames items;
  std::vector<Interaction> pairs;   // each once, by user, then by item; amounts above 0
  std::vector<std::size_t> starts;  // of each user's pairs; one more than there are users
  std::vector<std::uint32_t> rows;  // by user: the first that is his
  std::uint64_t left_out = 0;       // rows without a user, an item or an amount above 0

  std::span<const Interaction> of(std::uint32_t user) const {
    return std::span(pairs).subspan(starts[user], starts[user + 1] - starts[user]);
  }
  bool has(std::uint32_t user, std::uint32_t item) const;
};
// Rows of the same user and item add up; without a column of amounts each row counts 1.
// InvalidArgument (reason invalid_input): an amount below 0 or without end.
Result<Interactions> read_interactions(const TrainTable& table, const InteractionColumns& columns);

// A user whom a model is judged by: what he has in rows held out and not in training rows.
struct JudgedUser {
  std::uint32_t known = kNoPlace;    // among the training rows' users
  std::uint32_t row = 0;             // one of his, in the table of held-out rows
  std::vector<std::uint32_t> items;  // places in HeldOut::items, ascending, at least one
};

struct HeldOut {
  IdNames items;                        // of the held-out rows
  std::vector<std::uint32_t> of_train;  // places in `items` of the training rows' items
  std::vector<JudgedUser> users;        // evenly spread where there are more than kMostJudged
  std::uint64_t known_users = 0;        // of them, those that training rows have
};
inline constexpr std::size_t kMostJudged = 100'000;
HeldOut hold_out(Interactions held, const Interactions& train);

// Items, the most frequent in training rows first; of equals, as they are sorted.
std::vector<std::uint32_t> by_popularity(const Interactions& train);
// By item: the share of the training rows' users that have it.
std::vector<float> popularity(const Interactions& train);

}  // namespace mayfly
