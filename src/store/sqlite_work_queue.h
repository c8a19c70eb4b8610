// The work queue in an SQLite database of its own. One connection, whose users take turns.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "store/sqlite.h"
#include "store/sqlite_deliveries.h"
#include "store/work_queue.h"

namespace mayfly {

class SqliteWorkQueue final : public WorkQueue {
 public:
  static Result<std::unique_ptr<SqliteWorkQueue>> open(const Path& path);

  Result<Enqueued> enqueue(const WorkSpec& spec, std::uint64_t limit) override;
  Result<std::vector<WorkItem>> lease(const LeaseAsk& ask) override;
  Status extend(const Lease& lease, WallTime until) override;
  Status complete(const Lease& lease, const Finish& finish) override;
  Status retry(const Lease& lease, const Failure& failure) override;
  Status bury(const Lease& lease, const Failure& failure) override;
  Status put_back(const Lease& lease, const Failure& failure) override;
  Status settle(const std::vector<Receipt>& receipts) override;
  Result<std::vector<WorkItem>> unsettled(std::size_t limit) override;
  Result<WorkItem> cancel(std::string_view id, WallTime now) override;
  Result<WorkItem> redrive(std::string_view id, WallTime now, WallTime expires) override;
  Result<std::optional<WorkItem>> find(std::string_view id) override;
  Result<std::optional<WorkItem>> find_key(std::string_view lane, std::string_view key) override;
  Result<std::vector<WorkItem>> list(const ListAsk& ask) override;
  Result<Counts> counts(std::string_view lane) override;
  Result<Overview> overview() override;
  Result<std::vector<WorkItem>> recover(WallTime now) override;
  Result<std::optional<WallTime>> next_due() override;
  Result<Swept> sweep(WallTime now, std::size_t limit) override;
  Result<bool> refers_to(const Digest& blob) override;
  Deliveries& deliveries() override { return deliveries_; }

 private:
  explicit SqliteWorkQueue(Database database) : database_(std::move(database)) {}
  // With mutex_ held.
  Result<std::optional<WorkItem>> with_key(std::string_view lane, std::string_view key);
  Result<std::optional<WorkItem>> known(const WorkSpec& spec);
  Status check_room(std::string_view lane, std::uint64_t limit);
  Result<std::optional<std::string>> next_lane(std::string_view after);
  Result<std::optional<std::string>> due_of(std::string_view lane, WallTime now);
  Result<WorkItem> take(std::string_view id, WallTime until);
  Result<WorkItem> item(std::string_view id);
  Result<std::optional<WorkItem>> find_item(std::string_view id);
  Result<Counts> counts_of(std::string_view lane);
  Result<std::vector<std::string>> ids(std::string_view purpose, std::string_view sql, WallTime now,
                                       std::size_t limit);
  Status clear(std::string_view id, WallTime now, Swept& swept);

  std::mutex mutex_;
  Database database_;
  SqliteDeliveries deliveries_{mutex_, database_};
};

}  // namespace mayfly
