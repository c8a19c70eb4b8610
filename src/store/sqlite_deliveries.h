// Internal: deliveries in the database of the work queue, whose lock they share.
#pragma once

#include <mutex>

#include "store/deliveries.h"
#include "store/sqlite.h"
#include "store/work_queue.h"

namespace mayfly {

// For after the schema of work: triggers make a delivery with each end of an item.
extern const char* const kDeliverySchema;

// Both with the lock held, within the transaction that accepts an item.
Status insert_notices(Database& database, const WorkSpec& spec);
// conflict: it is not being sent.
Status settle_delivery(Database& database, const DeliveryKey& key, WallTime now);
// Ends of the lane that are not told yet, nor given up. With the lock held.
Result<std::uint64_t> untold_of(Database& database, std::string_view lane);

class SqliteDeliveries final : public Deliveries {
 public:
  SqliteDeliveries(std::mutex& mutex, Database& database)  // outlive me
      : mutex_(mutex), database_(database) {}

  Result<std::vector<Delivery>> lease(const LeaseAsk& ask) override;
  Status finish(const DeliveryKey& key, const Finish& finish) override;
  Result<Delivery> again(std::string_view item, WallTime now) override;
  Result<std::vector<Delivery>> of(std::string_view item) override;
  Result<std::optional<WallTime>> next_due() override;
  Result<std::uint64_t> unsettled() override;
  Status recover(WallTime now) override;

 private:
  // With mutex_ held.
  Result<std::optional<std::string>> next_project(std::string_view after);
  Result<std::optional<Delivery>> take(std::string_view project, const LeaseAsk& ask);
  Result<std::vector<Delivery>> read_of(std::string_view item);

  std::mutex& mutex_;
  Database& database_;
};

}  // namespace mayfly
