// Internal: items as they stand in the tables of a work queue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "store/sqlite.h"
#include "store/work_queue.h"

namespace mayfly {

extern const char* const kWorkSchema;

inline std::int64_t to_ns(WallTime time) { return time.time_since_epoch().count(); }
inline WallTime from_ns(std::int64_t ns) { return WallTime(Duration(ns)); }
inline std::int64_t number_of(WorkState state) { return static_cast<std::int64_t>(state); }
std::span<const std::byte> bytes_of(const std::string& text);
// Null for "": what has no key is like no other, and what owes nobody a receipt is not looked for.
std::optional<std::string_view> unless_empty(const std::string& text);
std::optional<std::span<const std::byte>> receipt_of(const std::string& text);

// "SELECT … FROM work " and `rest`; its rows, for the next two.
std::string select_items(std::string_view rest);
WorkItem read_item(const Statement& row);
Result<std::vector<WorkItem>> read_items(Statement& query);

// Whether a statement with RETURNING changed a row.
Result<bool> changed_a_row(Statement& statement);
// Of what comes with the epoch of a lease: conflict where it is not the item's.
Status run_fenced(Statement& update, const Lease& lease);

}  // namespace mayfly
