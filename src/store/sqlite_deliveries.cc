// Two tables beside that of work:
//
//   notice     whom to tell of an item's end, and which hosts that are; until the item is forgotten
//   delivery   an end that is to be told, or was; made by a trigger, whatever ends the item, and
//              forgotten with it
#include "store/sqlite_deliveries.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "core/destination.h"
#include "core/project.h"
#include "core/reason.h"
#include "store/work_rows.h"

namespace mayfly {

const char* const kDeliverySchema = R"sql(
CREATE TABLE IF NOT EXISTS notice(
  item TEXT NOT NULL PRIMARY KEY,
  project TEXT NOT NULL,
  success TEXT,
  success_host TEXT,
  failure TEXT,
  failure_host TEXT,
  depth INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS delivery(
  item TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  lane TEXT NOT NULL,
  destination TEXT NOT NULL,
  depth INTEGER NOT NULL,
  item_state INTEGER NOT NULL,
  item_attempts INTEGER NOT NULL,
  reason TEXT NOT NULL,
  message TEXT NOT NULL,
  ended INTEGER NOT NULL,
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  since INTEGER NOT NULL,
  due INTEGER NOT NULL,
  settled INTEGER NOT NULL,
  error TEXT NOT NULL,
  project TEXT NOT NULL,
  host TEXT NOT NULL,
  PRIMARY KEY(item, epoch)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS delivery_waiting ON delivery(project, due) WHERE state = 0;
CREATE INDEX IF NOT EXISTS delivery_due ON delivery(due) WHERE state = 0;
CREATE INDEX IF NOT EXISTS delivery_sending ON delivery(host) WHERE state = 1;
CREATE INDEX IF NOT EXISTS delivery_untold ON delivery(lane) WHERE state < 2;
CREATE TRIGGER IF NOT EXISTS work_over AFTER UPDATE OF state ON work
  WHEN old.state < 2 AND new.state >= 2 BEGIN
  INSERT INTO delivery SELECT new.id, new.epoch, new.lane,
    CASE new.state WHEN 2 THEN success ELSE failure END, depth,
    new.state, new.attempts, new.reason, new.message, new.ended,
    0, 0, new.ended, new.ended, 0, '', project,
    CASE new.state WHEN 2 THEN success_host ELSE failure_host END
    FROM notice WHERE item = new.id AND
      CASE new.state WHEN 2 THEN success ELSE failure END IS NOT NULL;
END;
CREATE TRIGGER IF NOT EXISTS work_forgotten AFTER DELETE ON work BEGIN
  DELETE FROM notice WHERE item = old.id;
  DELETE FROM delivery WHERE item = old.id;
END;
)sql";

namespace {

// In the order in which read_delivery() takes them.
constexpr std::string_view kDeliveryColumns =
    "item, epoch, lane, destination, depth, item_state, item_attempts, reason, message, ended, "
    "state, attempts, since, due, settled, error";

std::string select_deliveries(std::string_view rest) {
  return fmt::format("SELECT {} FROM delivery {}", kDeliveryColumns, rest);
}

Delivery read_delivery(const Statement& row) {
  return {.key = {.item = row.text(0), .epoch = static_cast<std::uint64_t>(row.integer(1))},
          .lane = row.text(2),
          .destination = row.text(3),
          .depth = static_cast<std::uint32_t>(row.integer(4)),
          .end = static_cast<WorkState>(row.integer(5)),
          .item_attempts = static_cast<std::uint32_t>(row.integer(6)),
          .reason = row.text(7),
          .message = row.text(8),
          .ended = from_ns(row.integer(9)),
          .state = static_cast<DeliveryState>(row.integer(10)),
          .attempts = static_cast<std::uint32_t>(row.integer(11)),
          .since = from_ns(row.integer(12)),
          .due = from_ns(row.integer(13)),
          .settled = from_ns(row.integer(14)),
          .error = row.text(15)};
}

std::int64_t epoch_of(const DeliveryKey& key) { return static_cast<std::int64_t>(key.epoch); }

std::unexpected<Error> not_being_sent(const DeliveryKey& key) {
  return refuse(reason::kConflict,
                fmt::format("the delivery {} is not being sent", to_string(key)));
}

// Of what its function's settings said, which were checked; "": nobody. Functions of the same name
// in other projects are others.
std::string host_at(std::string_view lane, const std::string& destination) {
  const auto parsed = parse_destination(destination);
  if (!parsed) return destination;
  if (!parsed->is_function()) return parsed->host();
  return fmt::format("{}/{}", project_of(lane), parsed->host());
}

}  // namespace

std::string to_string(const DeliveryKey& key) { return fmt::format("{}-{}", key.item, key.epoch); }

std::string_view to_string(DeliveryState state) {
  constexpr std::array<std::string_view, kDeliveryStates> kWords = {"waiting", "sending",
                                                                    "delivered", "given_up"};
  const auto index = static_cast<std::size_t>(state);
  return index < kWords.size() ? kWords[index] : kWords[0];
}

Status insert_notices(Database& database, const WorkSpec& spec) {
  const Notices& notices = spec.notices;
  if (notices.success.empty() && notices.failure.empty()) return {};
  const std::string success_host = host_at(spec.lane, notices.success);
  const std::string failure_host = host_at(spec.lane, notices.failure);
  Statement insert = TRY(database.prepare("note whom to tell",
                                          "INSERT INTO notice(item, project, success, "
                                          "success_host, failure, failure_host, depth) "
                                          "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"));
  insert.bind(std::string_view(spec.id), project_of(spec.lane), unless_empty(notices.success),
              unless_empty(success_host), unless_empty(notices.failure), unless_empty(failure_host),
              notices.depth);
  return insert.run();
}

Result<std::uint64_t> untold_of(Database& database, std::string_view lane) {
  Statement query = TRY(database.prepare(
      "count ends to be told", "SELECT count(*) FROM delivery WHERE state < 2 AND lane = ?1"));
  query.bind(lane);
  if (!TRY(query.step())) return 0;
  return static_cast<std::uint64_t>(query.integer(0));
}

Status settle_delivery(Database& database, const DeliveryKey& key, WallTime now) {
  Statement update = TRY(
      database.prepare("end a delivery",
                       "UPDATE delivery SET state = 2, attempts = attempts + 1, settled = ?3, "
                       "error = '' WHERE item = ?1 AND epoch = ?2 AND state = 1 RETURNING item"));
  update.bind(std::string_view(key.item), epoch_of(key), to_ns(now));
  if (TRY(changed_a_row(update))) return {};
  return not_being_sent(key);
}

Result<std::optional<std::string>> SqliteDeliveries::next_project(std::string_view after) {
  Statement query =
      TRY(database_.prepare("find the next project that is to be told something",
                            "SELECT min(project) FROM delivery WHERE state = 0 AND project > ?1"));
  for (const std::string_view from : {after, std::string_view()}) {
    query.bind(from);
    if (TRY(query.step()) && !query.is_null(0)) return query.text(0);
    query.reset();
  }
  return std::nullopt;
}

Result<std::optional<Delivery>> SqliteDeliveries::take(std::string_view project,
                                                       const LeaseAsk& ask) {
  Statement sending = TRY(database_.prepare(
      "count what is sent", "SELECT count(*) FROM delivery WHERE state = 1 AND project = ?1"));
  sending.bind(project);
  if (TRY(sending.step()) && sending.integer(0) >= static_cast<std::int64_t>(ask.per_project))
    return std::nullopt;
  Statement query = TRY(database_.prepare(
      "find what is to be told",
      select_deliveries("AS next WHERE state = 0 AND project = ?1 AND due <= ?2 AND "
                        "(SELECT count(*) FROM delivery AS other WHERE other.state = 1 AND "
                        "other.host = next.host) < ?3 ORDER BY due LIMIT 1")));
  query.bind(project, to_ns(ask.now), static_cast<std::int64_t>(ask.per_host));
  if (!TRY(query.step())) return std::nullopt;
  Delivery found = read_delivery(query);
  Statement update = TRY(database_.prepare(
      "lease a delivery", "UPDATE delivery SET state = 1 WHERE item = ?1 AND epoch = ?2"));
  update.bind(std::string_view(found.key.item), epoch_of(found.key));
  TRY(update.run());
  found.state = DeliveryState::Sending;
  return found;
}

Result<std::vector<Delivery>> SqliteDeliveries::lease(const LeaseAsk& ask) {
  const std::scoped_lock lock(mutex_);
  Transaction transaction = TRY(Transaction::begin(database_));
  std::vector<Delivery> leased;
  std::optional<std::string> first_idle;  // since the last one: once around, and nobody has more
  std::string project = ask.after_project;
  while (leased.size() < ask.count) {
    const auto next = TRY(next_project(project));
    if (!next || next == first_idle) break;
    project = *next;
    if (auto taken = TRY(take(project, ask))) {
      leased.push_back(*std::move(taken));
      first_idle.reset();
    } else if (!first_idle) {
      first_idle = project;
    }
  }
  TRY(transaction.commit());
  return leased;
}

Status SqliteDeliveries::finish(const DeliveryKey& key, const Finish& finish) {
  const std::scoped_lock lock(mutex_);
  Statement update =
      TRY(database_.prepare("end an attempt to tell",
                            "UPDATE delivery SET state = ?3, attempts = ?4, due = ?5, "
                            "settled = CASE ?3 WHEN 0 THEN 0 ELSE ?5 END, error = ?6 "
                            "WHERE item = ?1 AND epoch = ?2 AND state = 1 RETURNING item"));
  update.bind(std::string_view(key.item), epoch_of(key), static_cast<std::int64_t>(finish.state),
              finish.attempts, to_ns(finish.when), std::string_view(finish.error));
  if (TRY(changed_a_row(update))) return {};
  return not_being_sent(key);
}

Result<std::vector<Delivery>> SqliteDeliveries::read_of(std::string_view item) {
  Statement query = TRY(
      database_.prepare("list deliveries", select_deliveries("WHERE item = ?1 ORDER BY epoch")));
  query.bind(item);
  std::vector<Delivery> found;
  while (TRY(query.step())) found.push_back(read_delivery(query));
  return found;
}

Result<std::vector<Delivery>> SqliteDeliveries::of(std::string_view item) {
  const std::scoped_lock lock(mutex_);
  return read_of(item);
}

Result<Delivery> SqliteDeliveries::again(std::string_view item, WallTime now) {
  const std::scoped_lock lock(mutex_);
  const std::vector<Delivery> known = TRY(read_of(item));
  if (known.empty()) {
    return refuse(reason::kNotFound,
                  fmt::format("nobody is told of {}: its function had no destination for its end, "
                              "or it has not ended",
                              item.substr(0, 64)));
  }
  Delivery last = known.back();
  Statement update = TRY(database_.prepare(
      "deliver once more",
      "UPDATE delivery SET state = 0, attempts = 0, since = ?3, due = ?3, settled = 0, error = '' "
      "WHERE item = ?1 AND epoch = ?2 AND state >= 2 AND "
      "(SELECT payload FROM work WHERE id = ?1) IS NOT NULL RETURNING item"));
  update.bind(item, epoch_of(last.key), to_ns(now));
  if (!TRY(changed_a_row(update))) {
    return refuse(
        reason::kConflict,
        last.settled == WallTime()
            ? fmt::format("the delivery {} is {} yet", to_string(last.key), to_string(last.state))
            : fmt::format("what {} tells of is gone", to_string(last.key)));
  }
  last.state = DeliveryState::Waiting;
  last.attempts = 0;
  last.since = last.due = now;
  last.settled = {};
  last.error.clear();
  return last;
}

Result<std::optional<WallTime>> SqliteDeliveries::next_due() {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare("when something is to be told",
                                          "SELECT min(due) FROM delivery WHERE state = 0"));
  if (!TRY(query.step()) || query.is_null(0)) return std::nullopt;
  return from_ns(query.integer(0));
}

Result<std::uint64_t> SqliteDeliveries::unsettled() {
  const std::scoped_lock lock(mutex_);
  Statement query =
      TRY(database_.prepare("count deliveries",
                            "SELECT (SELECT count(*) FROM delivery WHERE state = 0) + "
                            "(SELECT count(*) FROM delivery WHERE state = 1)"));
  if (!TRY(query.step())) return 0;
  return static_cast<std::uint64_t>(query.integer(0));
}

Status SqliteDeliveries::recover(WallTime now) {
  const std::scoped_lock lock(mutex_);
  Statement update = TRY(database_.prepare(
      "take deliveries back", "UPDATE delivery SET state = 0, due = ?1 WHERE state = 1"));
  update.bind(to_ns(now));
  return update.run();
}

}  // namespace mayfly
