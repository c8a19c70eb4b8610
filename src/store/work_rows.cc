// One table of items, with an index for each question that is asked of it:
//
//   work          an item; `payload` is null once it is cleared. `gone` is when what is over loses
//                 its payload and result, and, once it has, when it is forgotten itself
//   work_count    how many items a lane has in each state, kept by triggers: counting them anew for
//                 each item that is accepted would take longer the more there are
#include "store/work_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/reason.h"

namespace mayfly {
namespace {

// In the order in which read_item() takes them.
constexpr std::string_view kColumns =
    "id, lane, key, detail, payload, accepted, expires, max_attempts, keep, state, epoch, "
    "attempts, kills, put_back, due, ended, reason, message, result_detail, result, receipt";

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Digest digest_of(std::span<const std::byte> bytes) {
  Digest digest;
  if (bytes.size() == digest.bytes.size()) std::ranges::copy(bytes, digest.bytes.begin());
  return digest;
}

}  // namespace

const char* const kWorkSchema = R"sql(
CREATE TABLE IF NOT EXISTS work(
  id TEXT NOT NULL UNIQUE,
  lane TEXT NOT NULL,
  key TEXT,
  detail TEXT NOT NULL,
  payload BLOB,
  accepted INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  max_attempts INTEGER NOT NULL,
  keep INTEGER NOT NULL,
  state INTEGER NOT NULL,
  epoch INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  kills INTEGER NOT NULL DEFAULT 0,
  put_back INTEGER NOT NULL DEFAULT 0,
  due INTEGER NOT NULL,
  leased_until INTEGER NOT NULL DEFAULT 0,
  ended INTEGER NOT NULL DEFAULT 0,
  gone INTEGER,
  reason TEXT NOT NULL DEFAULT '',
  message TEXT NOT NULL DEFAULT '',
  result_detail TEXT,
  result BLOB,
  receipt BLOB
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS work_by_key ON work(lane, key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS work_by_lane ON work(lane, id);
CREATE INDEX IF NOT EXISTS work_by_state ON work(lane, state, id);
CREATE INDEX IF NOT EXISTS work_waiting ON work(lane, due) WHERE state = 0;
CREATE INDEX IF NOT EXISTS work_due ON work(due) WHERE state = 0;
CREATE INDEX IF NOT EXISTS work_oldest ON work(accepted) WHERE state = 0;
CREATE INDEX IF NOT EXISTS work_expiring ON work(expires) WHERE state = 0;
CREATE INDEX IF NOT EXISTS work_leased ON work(leased_until) WHERE state = 1;
CREATE INDEX IF NOT EXISTS work_going ON work(gone) WHERE gone IS NOT NULL;
CREATE INDEX IF NOT EXISTS work_by_payload ON work(payload) WHERE payload IS NOT NULL;
CREATE INDEX IF NOT EXISTS work_by_result ON work(result) WHERE result IS NOT NULL;
CREATE INDEX IF NOT EXISTS work_unsettled ON work(id) WHERE receipt IS NOT NULL;
CREATE TABLE IF NOT EXISTS work_count(
  lane TEXT NOT NULL,
  state INTEGER NOT NULL,
  items INTEGER NOT NULL,
  PRIMARY KEY(lane, state)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS work_came AFTER INSERT ON work BEGIN
  INSERT INTO work_count VALUES(new.lane, new.state, 1)
    ON CONFLICT DO UPDATE SET items = items + 1;
END;
CREATE TRIGGER IF NOT EXISTS work_moved AFTER UPDATE OF state ON work
  WHEN old.state <> new.state BEGIN
  UPDATE work_count SET items = items - 1 WHERE lane = old.lane AND state = old.state;
  INSERT INTO work_count VALUES(new.lane, new.state, 1)
    ON CONFLICT DO UPDATE SET items = items + 1;
END;
CREATE TRIGGER IF NOT EXISTS work_went AFTER DELETE ON work BEGIN
  UPDATE work_count SET items = items - 1 WHERE lane = old.lane AND state = old.state;
  DELETE FROM work_count WHERE lane = old.lane AND state = old.state AND items = 0;
END;
)sql";

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::optional<std::string_view> unless_empty(const std::string& text) {
  return text.empty() ? std::nullopt : std::optional<std::string_view>(text);
}

std::optional<std::span<const std::byte>> receipt_of(const std::string& text) {
  return text.empty() ? std::nullopt : std::optional(bytes_of(text));
}

WorkItem read_item(const Statement& row) {
  WorkItem item;
  item.spec = {.id = row.text(0),
               .lane = row.text(1),
               .key = row.text(2),
               .detail = row.text(3),
               .payload = digest_of(row.blob(4)),
               .accepted = from_ns(row.integer(5)),
               .expires = from_ns(row.integer(6)),
               .max_attempts = static_cast<std::uint32_t>(row.integer(7)),
               .keep = Duration(row.integer(8))};
  item.state = static_cast<WorkState>(row.integer(9));
  item.epoch = static_cast<std::uint64_t>(row.integer(10));
  item.attempts = static_cast<std::uint32_t>(row.integer(11));
  item.kills = static_cast<std::uint32_t>(row.integer(12));
  item.put_back = static_cast<std::uint32_t>(row.integer(13));
  item.due = from_ns(row.integer(14));
  item.ended = from_ns(row.integer(15));
  item.reason = row.text(16);
  item.message = row.text(17);
  item.cleared = row.is_null(4);
  if (!row.is_null(19))
    item.result = WorkResult{.detail = row.text(18), .blob = digest_of(row.blob(19))};
  item.receipt = text_of(row.blob(20));
  return item;
}

Result<std::vector<WorkItem>> read_items(Statement& query) {
  std::vector<WorkItem> items;
  while (TRY(query.step())) items.push_back(read_item(query));
  return items;
}

std::string select_items(std::string_view rest) {
  return fmt::format("SELECT {} FROM work {}", kColumns, rest);
}

Result<bool> changed_a_row(Statement& statement) {
  const bool changed = TRY(statement.step());
  TRY(statement.run());
  return changed;
}

Status run_fenced(Statement& update, const Lease& lease) {
  if (TRY(changed_a_row(update))) return {};
  return refuse(reason::kConflict,
                fmt::format("{} is no longer held under epoch {}", lease.id, lease.epoch));
}

}  // namespace mayfly
