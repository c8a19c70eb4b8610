#include "store/sqlite_work_queue.h"

#include <fmt/format.h>

#include <utility>

#include "core/reason.h"
#include "store/work_rows.h"

namespace mayfly {

Result<std::unique_ptr<SqliteWorkQueue>> SqliteWorkQueue::open(const Path& path) {
  Database database = TRY(Database::open(path, OpenMode::Create));
  TRY(database.execute("create the table of work", kWorkSchema));
  TRY(database.execute("create the tables of deliveries", kDeliverySchema));
  return std::unique_ptr<SqliteWorkQueue>(new SqliteWorkQueue(std::move(database)));
}

Result<std::optional<WorkItem>> SqliteWorkQueue::find_item(std::string_view id) {
  Statement query = TRY(database_.prepare("find an item", select_items("WHERE id = ?1")));
  query.bind(id);
  std::optional<WorkItem> found;
  if (TRY(query.step())) found = read_item(query);
  return found;
}

Result<WorkItem> SqliteWorkQueue::item(std::string_view id) {
  auto found = TRY(find_item(id));
  if (!found) return refuse(reason::kNotFound, fmt::format("there is no '{}'", id.substr(0, 64)));
  return *std::move(found);
}

Result<std::optional<WorkItem>> SqliteWorkQueue::find(std::string_view id) {
  const std::scoped_lock lock(mutex_);
  return find_item(id);
}

Result<std::optional<WorkItem>> SqliteWorkQueue::with_key(std::string_view lane,
                                                          std::string_view key) {
  Statement query = TRY(
      database_.prepare("find an item by its key", select_items("WHERE lane = ?1 AND key = ?2")));
  query.bind(lane, key);
  std::optional<WorkItem> found;
  if (TRY(query.step())) found = read_item(query);
  return found;
}

Result<std::optional<WorkItem>> SqliteWorkQueue::find_key(std::string_view lane,
                                                          std::string_view key) {
  const std::scoped_lock lock(mutex_);
  return with_key(lane, key);
}

// The item that has the key already.
Result<std::optional<WorkItem>> SqliteWorkQueue::known(const WorkSpec& spec) {
  if (spec.key.empty()) return std::nullopt;
  auto found = TRY(with_key(spec.lane, spec.key));
  if (!found) return found;
  if (found->spec.payload == spec.payload) return found;
  return refuse(reason::kConflict, fmt::format("the key '{}' was used for something else: {}",
                                               spec.key.substr(0, 64), found->spec.id));
}

Result<WorkQueue::Counts> SqliteWorkQueue::counts_of(std::string_view lane) {
  Statement query =
      TRY(database_.prepare("count items", "SELECT state, items FROM work_count WHERE lane = ?1"));
  query.bind(lane);
  Counts counts{};
  while (TRY(query.step())) {
    const auto state = static_cast<std::size_t>(query.integer(0));
    if (state < counts.size()) counts[state] = static_cast<std::uint64_t>(query.integer(1));
  }
  return counts;
}

Result<WorkQueue::Counts> SqliteWorkQueue::counts(std::string_view lane) {
  const std::scoped_lock lock(mutex_);
  return counts_of(lane);
}

Result<WorkQueue::Overview> SqliteWorkQueue::overview() {
  const std::scoped_lock lock(mutex_);
  Overview all;
  Statement query = TRY(database_.prepare(
      "count all items", "SELECT state, sum(items) FROM work_count GROUP BY state"));
  while (TRY(query.step())) {
    const auto state = static_cast<std::size_t>(query.integer(0));
    if (state < all.counts.size()) all.counts[state] = static_cast<std::uint64_t>(query.integer(1));
  }
  Statement oldest = TRY(
      database_.prepare("find the oldest item", "SELECT min(accepted) FROM work WHERE state = 0"));
  if (TRY(oldest.step()) && !oldest.is_null(0)) all.oldest_waiting = from_ns(oldest.integer(0));
  return all;
}

Status SqliteWorkQueue::check_room(std::string_view lane, std::uint64_t limit) {
  const Counts counts = TRY(counts_of(lane));
  const std::uint64_t open = counts[static_cast<std::size_t>(WorkState::Waiting)] +
                             counts[static_cast<std::size_t>(WorkState::Leased)];
  const std::uint64_t untold = TRY(untold_of(database_, lane));
  if (open + untold < limit) return {};
  return refuse(reason::kQueueFull,
                fmt::format("{} events of {} wait or run already, and {} ended ones are to be told",
                            open, lane, untold));
}

Result<WorkQueue::Enqueued> SqliteWorkQueue::enqueue(const WorkSpec& spec, std::uint64_t limit) {
  const std::scoped_lock lock(mutex_);
  Transaction transaction = TRY(Transaction::begin(database_));
  if (auto first = TRY(known(spec))) return Enqueued{.item = *std::move(first), .fresh = false};
  TRY(check_room(spec.lane, limit));
  {
    Statement insert = TRY(database_.prepare(
        "accept an item",
        "INSERT INTO work(id, lane, key, detail, payload, accepted, expires, max_attempts, keep, "
        "state, due) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?6)"));
    insert.bind(std::string_view(spec.id), std::string_view(spec.lane), unless_empty(spec.key),
                std::string_view(spec.detail), std::span(spec.payload.bytes), to_ns(spec.accepted),
                to_ns(spec.expires), spec.max_attempts, spec.keep.count());
    TRY(insert.run());
  }
  TRY(insert_notices(database_, spec));
  if (!spec.told_by.item.empty()) TRY(settle_delivery(database_, spec.told_by, spec.accepted));
  TRY(transaction.commit());
  Enqueued accepted;
  accepted.item.spec = spec;
  accepted.item.due = spec.accepted;
  return accepted;
}

// Around by name; nullopt: nothing waits in any lane.
Result<std::optional<std::string>> SqliteWorkQueue::next_lane(std::string_view after) {
  Statement query = TRY(database_.prepare(
      "find the next lane", "SELECT min(lane) FROM work WHERE state = 0 AND lane > ?1"));
  for (const std::string_view from : {after, std::string_view()}) {
    query.bind(from);
    if (TRY(query.step()) && !query.is_null(0)) return query.text(0);
    query.reset();
  }
  return std::nullopt;
}

Result<std::optional<std::string>> SqliteWorkQueue::due_of(std::string_view lane, WallTime now) {
  Statement query = TRY(database_.prepare(
      "find what is due",
      "SELECT id FROM work WHERE state = 0 AND lane = ?1 AND due <= ?2 AND expires > ?2 "
      "ORDER BY due, id LIMIT 1"));
  query.bind(lane, to_ns(now));
  if (!TRY(query.step())) return std::nullopt;
  return query.text(0);
}

Result<WorkItem> SqliteWorkQueue::take(std::string_view id, WallTime until) {
  Statement update = TRY(database_.prepare(
      "lease an item",
      "UPDATE work SET state = 1, epoch = epoch + 1, leased_until = ?2 WHERE id = ?1"));
  update.bind(id, to_ns(until));
  TRY(update.run());
  return item(id);
}

Result<std::vector<WorkItem>> SqliteWorkQueue::lease(const LeaseAsk& ask) {
  const std::scoped_lock lock(mutex_);
  Transaction transaction = TRY(Transaction::begin(database_));
  std::vector<WorkItem> leased;
  std::optional<std::string> first_idle;  // since the last item: once around, and nobody has more
  std::string lane = ask.after_lane;
  while (leased.size() < ask.count) {
    const auto next = TRY(next_lane(lane));
    if (!next || next == first_idle) break;
    lane = *next;
    if (const auto id = TRY(due_of(lane, ask.now))) {
      leased.push_back(TRY(take(*id, ask.until)));
      first_idle.reset();
    } else if (!first_idle) {
      first_idle = lane;
    }
  }
  TRY(transaction.commit());
  return leased;
}

Status SqliteWorkQueue::extend(const Lease& lease, WallTime until) {
  const std::scoped_lock lock(mutex_);
  Statement update =
      TRY(database_.prepare("extend a lease",
                            "UPDATE work SET leased_until = ?3 WHERE id = ?1 AND epoch = ?2 AND "
                            "state = 1 RETURNING id"));
  update.bind(std::string_view(lease.id), static_cast<std::int64_t>(lease.epoch), to_ns(until));
  return run_fenced(update, lease);
}

Status SqliteWorkQueue::complete(const Lease& lease, const Finish& finish) {
  const std::scoped_lock lock(mutex_);
  Statement update = TRY(database_.prepare(
      "complete an item",
      "UPDATE work SET state = 2, epoch = epoch + 1, attempts = attempts + 1, ended = ?3, "
      "gone = ?3 + keep, reason = '', message = '', result_detail = ?4, result = ?5, receipt = ?6 "
      "WHERE id = ?1 AND epoch = ?2 AND state = 1 RETURNING id"));
  update.bind(std::string_view(lease.id), static_cast<std::int64_t>(lease.epoch), to_ns(finish.now),
              std::string_view(finish.result.detail), std::span(finish.result.blob.bytes),
              receipt_of(finish.receipt));
  return run_fenced(update, lease);
}

Status SqliteWorkQueue::retry(const Lease& lease, const Failure& failure) {
  const std::scoped_lock lock(mutex_);
  Statement update = TRY(database_.prepare(
      "retry an item",
      "UPDATE work SET state = 0, epoch = epoch + 1, attempts = attempts + 1, kills = kills + ?7, "
      "put_back = 0, due = ?3, reason = ?4, message = ?5, receipt = ?6 "
      "WHERE id = ?1 AND epoch = ?2 AND state = 1 RETURNING id"));
  update.bind(std::string_view(lease.id), static_cast<std::int64_t>(lease.epoch),
              to_ns(failure.when), std::string_view(failure.reason),
              std::string_view(failure.message), receipt_of(failure.receipt),
              std::int64_t{failure.killed});
  return run_fenced(update, lease);
}

Status SqliteWorkQueue::bury(const Lease& lease, const Failure& failure) {
  const std::scoped_lock lock(mutex_);
  Statement update = TRY(database_.prepare(
      "give an item up",
      "UPDATE work SET state = 3, epoch = epoch + 1, attempts = attempts + 1, kills = kills + ?7, "
      "ended = ?3, gone = ?3 + ?8, reason = ?4, message = ?5, receipt = ?6 "
      "WHERE id = ?1 AND epoch = ?2 AND state = 1 RETURNING id"));
  update.bind(std::string_view(lease.id), static_cast<std::int64_t>(lease.epoch),
              to_ns(failure.when), std::string_view(failure.reason),
              std::string_view(failure.message), receipt_of(failure.receipt),
              std::int64_t{failure.killed}, failure.keep.count());
  return run_fenced(update, lease);
}

Status SqliteWorkQueue::put_back(const Lease& lease, const Failure& failure) {
  const std::scoped_lock lock(mutex_);
  Statement update = TRY(database_.prepare(
      "put an item back",
      "UPDATE work SET state = 0, epoch = epoch + 1, put_back = put_back + 1, due = ?3, "
      "reason = ?4, message = ?5 WHERE id = ?1 AND epoch = ?2 AND state = 1 RETURNING id"));
  update.bind(std::string_view(lease.id), static_cast<std::int64_t>(lease.epoch),
              to_ns(failure.when), std::string_view(failure.reason),
              std::string_view(failure.message));
  return run_fenced(update, lease);
}

Status SqliteWorkQueue::settle(const std::vector<Receipt>& receipts) {
  if (receipts.empty()) return {};
  const std::scoped_lock lock(mutex_);
  Transaction transaction = TRY(Transaction::begin(database_));
  {
    Statement update = TRY(database_.prepare(
        "settle an item", "UPDATE work SET receipt = NULL WHERE id = ?1 AND receipt = ?2"));
    for (const Receipt& told : receipts) {
      update.bind(std::string_view(told.id), bytes_of(told.receipt));
      TRY(update.run());
    }
  }
  return transaction.commit();
}

Result<std::vector<WorkItem>> SqliteWorkQueue::unsettled(std::size_t limit) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare(
      "find unsettled items", select_items("WHERE receipt IS NOT NULL ORDER BY id LIMIT ?1")));
  query.bind(static_cast<std::int64_t>(limit));
  return read_items(query);
}

Result<WorkItem> SqliteWorkQueue::cancel(std::string_view id, WallTime now) {
  const std::scoped_lock lock(mutex_);
  {
    Statement update = TRY(database_.prepare(
        "cancel an item",
        "UPDATE work SET state = 4, epoch = epoch + 1, ended = ?2, gone = ?2 + keep "
        "WHERE id = ?1 AND state <= 1"));
    update.bind(id, to_ns(now));
    TRY(update.run());
  }
  return item(id);
}

Result<WorkItem> SqliteWorkQueue::redrive(std::string_view id, WallTime now, WallTime expires) {
  const std::scoped_lock lock(mutex_);
  Statement update = TRY(database_.prepare(
      "redrive an item",
      "UPDATE work SET state = 0, epoch = epoch + 1, attempts = 0, kills = 0, put_back = 0, "
      "due = ?2, expires = ?3, ended = 0, gone = NULL, reason = '', message = '' "
      "WHERE id = ?1 AND state = 3 AND payload IS NOT NULL RETURNING id"));
  update.bind(id, to_ns(now), to_ns(expires));
  const bool moved = TRY(changed_a_row(update));
  WorkItem now_is = TRY(item(id));
  if (moved) return now_is;
  return refuse(
      reason::kConflict,
      now_is.state == WorkState::Dead
          ? fmt::format("{} is dead for so long that its payload is gone", id)
          : fmt::format("{} is {}: only what is dead is redriven", id, to_string(now_is.state)));
}

Result<std::vector<WorkItem>> SqliteWorkQueue::list(const ListAsk& ask) {
  const std::scoped_lock lock(mutex_);
  const std::string before = ask.before.empty() ? "~" : ask.before;  // after every id
  Statement query = TRY(database_.prepare(
      "list items",
      select_items(ask.state ? "WHERE lane = ?1 AND state = ?4 AND id < ?2 ORDER BY id DESC LIMIT "
                               "?3"
                             : "WHERE lane = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3")));
  const auto limit = static_cast<std::int64_t>(ask.limit);
  if (ask.state) {
    query.bind(std::string_view(ask.lane), std::string_view(before), limit, number_of(*ask.state));
  } else {
    query.bind(std::string_view(ask.lane), std::string_view(before), limit);
  }
  return read_items(query);
}

Result<std::vector<WorkItem>> SqliteWorkQueue::recover(WallTime now) {
  const std::scoped_lock lock(mutex_);
  Transaction transaction = TRY(Transaction::begin(database_));
  std::vector<WorkItem> taken;
  {
    Statement query = TRY(database_.prepare("find leases", select_items("WHERE state = 1")));
    taken = TRY(read_items(query));
    Statement update = TRY(database_.prepare(
        "take leases back",
        "UPDATE work SET state = 0, epoch = epoch + 1, due = ?1 WHERE state = 1"));
    update.bind(to_ns(now));
    TRY(update.run());
  }
  TRY(transaction.commit());
  for (WorkItem& item : taken) {
    item.state = WorkState::Waiting;
    ++item.epoch;
    item.due = now;
  }
  return taken;
}

Result<std::optional<WallTime>> SqliteWorkQueue::next_due() {
  const std::scoped_lock lock(mutex_);
  Statement query =
      TRY(database_.prepare("when something is due", "SELECT min(due) FROM work WHERE state = 0"));
  if (!TRY(query.step()) || query.is_null(0)) return std::nullopt;
  return from_ns(query.integer(0));
}

Result<std::vector<std::string>> SqliteWorkQueue::ids(std::string_view purpose,
                                                      std::string_view sql, WallTime now,
                                                      std::size_t limit) {
  Statement query = TRY(database_.prepare(purpose, sql));
  query.bind(to_ns(now), static_cast<std::int64_t>(limit));
  std::vector<std::string> found;
  while (TRY(query.step())) found.push_back(query.text(0));
  return found;
}

// First what it points to, and a while later the item itself.
Status SqliteWorkQueue::clear(std::string_view id, WallTime now, Swept& swept) {
  const WorkItem old = TRY(item(id));
  if (old.cleared) {
    Statement remove = TRY(database_.prepare("forget an item", "DELETE FROM work WHERE id = ?1"));
    remove.bind(id);
    return remove.run();
  }
  swept.unreferenced.push_back(old.spec.payload);
  if (old.result) swept.unreferenced.push_back(old.result->blob);
  Statement update = TRY(database_.prepare(
      "drop what an item points to",
      "UPDATE work SET payload = NULL, result = NULL, result_detail = NULL, key = NULL, gone = ?2 "
      "WHERE id = ?1"));
  update.bind(id, to_ns(now + kRemembered));
  return update.run();
}

Result<WorkQueue::Swept> SqliteWorkQueue::sweep(WallTime now, std::size_t limit) {
  const std::scoped_lock lock(mutex_);
  Transaction transaction = TRY(Transaction::begin(database_));
  Swept swept;
  const auto expired = TRY(ids("find what expires",
                               "SELECT id FROM work WHERE state = 0 AND expires <= ?1 "
                               "ORDER BY expires LIMIT ?2",
                               now, limit));
  for (const std::string& id : expired) {
    Statement update = TRY(database_.prepare("expire an item",
                                             "UPDATE work SET state = 5, epoch = epoch + 1, ended "
                                             "= ?2, gone = ?2 + keep WHERE id = ?1"));
    update.bind(std::string_view(id), to_ns(now));
    TRY(update.run());
  }
  const auto lapsed = TRY(ids("find leases that ran out",
                              "SELECT id FROM work WHERE state = 1 AND leased_until <= ?1 "
                              "ORDER BY leased_until LIMIT ?2",
                              now, limit));
  for (const std::string& id : lapsed) {
    Statement update = TRY(
        database_.prepare("take a lease back",
                          "UPDATE work SET state = 0, epoch = epoch + 1, due = ?2 WHERE id = ?1"));
    update.bind(std::string_view(id), to_ns(now));
    TRY(update.run());
  }
  const auto old = TRY(
      ids("find what is over",
          "SELECT id FROM work WHERE gone <= ?1 AND NOT EXISTS(SELECT 1 FROM delivery WHERE item = "
          "id AND delivery.state < 2) ORDER BY gone LIMIT ?2",
          now, limit));
  for (const std::string& id : old) TRY(clear(id, now, swept));
  TRY(transaction.commit());
  swept.changed = expired.size() + lapsed.size() + old.size();
  return swept;
}

Result<bool> SqliteWorkQueue::refers_to(const Digest& blob) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(
      database_.prepare("look for a blob",
                        "SELECT 1 FROM work WHERE payload = ?1 UNION ALL SELECT 1 FROM work WHERE "
                        "result = ?1 LIMIT 1"));
  query.bind(std::span(blob.bytes));
  return query.step();
}

}  // namespace mayfly
