#include "store/testing/work_queue_contract.h"

#include "store/sqlite_work_queue.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

// Opened as often as the contract wants; what came before, as a process that has been replaced and
// does not know it yet, stays.
class Reopened {
 public:
  WorkQueue& operator()() {
    queues_.push_back(SqliteWorkQueue::open(folder_.path() / "events.db").value());
    return *queues_.back();
  }

 private:
  TempDir folder_ = TempDir::create().value();
  std::vector<std::unique_ptr<SqliteWorkQueue>> queues_;
};

void on_sqlite(void (*check)(const ReopenQueue&)) {
  Reopened queue;
  check([&]() -> WorkQueue& { return queue(); });
}

}  // namespace

TEST_CASE("what was accepted is there after a restart, once for each key, up to the limit") {
  on_sqlite(check_acceptance);
}

TEST_CASE("only the last lease of an item can end it") { on_sqlite(check_leases); }

TEST_CASE("items end once: done, dead until redriven, or cancelled") { on_sqlite(check_ends); }

TEST_CASE("lanes take turns") { on_sqlite(check_turns); }

TEST_CASE("what waited too long expires; results go when their time is over, items later") {
  on_sqlite(check_sweeping);
}

TEST_CASE("items are listed by lane and state, page by page, and counted") {
  on_sqlite(check_listing);
}

TEST_CASE("each end is told of until that is over, and keeps what it tells of") {
  on_sqlite(check_deliveries);
}

TEST_CASE("projects take turns in being told, and no host is told too much at a time") {
  on_sqlite(check_delivery_turns);
}
