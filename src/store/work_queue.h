// Work that was accepted and must not be lost: each item ends in exactly one of done, dead,
// cancelled and expired, however often the process dies. What it is about is the owner's business:
// `detail`, results and receipts are texts that the queue keeps and does not read.
//
//            lease                   complete
//   waiting ───────► leased ──────────────────────► done
//      ▲  │  retry      │ │ bury
//      └──┼─────────────┘ └───────────────────────► dead ──redrive──► waiting
//         │             └── cancel, and so may what waits ──────────► cancelled
//         └──────────────── sweep, past `expires` ──────────────────► expired
//
// A lease is an item and an epoch, its fencing token: each lease, and whatever takes an item from
// its holder, makes the epoch greater, and what comes with an older one is refused (conflict). So
// an item may be worked on twice, but only one of those results is kept.
//
// Every method blocks, is durable when it returns, and may be called from any thread but the
// loop's. Memory is bounded by what one call returns: the callers say how much that may be.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "store/deliveries.h"
#include "store/digest.h"

namespace mayfly {

// Numbers stand in databases: append only.
enum class WorkState : std::uint8_t {
  Waiting = 0,
  Leased = 1,
  Done = 2,
  Dead = 3,  // given up, with a reason; redrive() makes it wait again
  Cancelled = 4,
  Expired = 5,
};
inline constexpr std::size_t kWorkStates = 6;
inline constexpr bool is_over(WorkState state) { return state >= WorkState::Done; }
std::string_view to_string(WorkState state);  // "waiting", "running", "done", …
std::optional<WorkState> parse_work_state(std::string_view text);

// What is put into the queue.
struct WorkSpec {
  std::string id;    // unique; items are listed by it, so let it grow with time
  std::string lane;  // what takes turns with other lanes, and is listed together
  std::string key;   // of two items of a lane with the same key the second is the first; may be ""
  std::string detail;
  Digest payload;
  WallTime accepted{};
  WallTime expires{};  // no lease is given from then on
  std::uint32_t max_attempts = 1;
  Duration keep{};  // how long result and key stay after the end
  // Not read back: deliveries() tells what became of them.
  Notices notices = {};
  DeliveryKey told_by = {};  // the delivery that the item is: accepted, it is delivered
  bool operator==(const WorkSpec&) const = default;
};

struct WorkResult {
  std::string detail;
  Digest blob;
  bool operator==(const WorkResult&) const = default;
};

struct WorkItem {
  WorkSpec spec;
  WorkState state = WorkState::Waiting;
  std::uint64_t epoch = 0;
  std::uint32_t attempts = 0;  // that count
  std::uint32_t kills = 0;     // of them, that killed who worked on it
  std::uint32_t put_back = 0;  // since the last attempt that counts
  WallTime due{};              // when it may be leased
  WallTime ended{};            // zero: it has not
  std::string reason;          // of the last attempt that failed, or of the end
  std::string message;
  bool cleared = false;  // its payload and result are gone
  std::optional<WorkResult> result;
  std::string receipt;  // see settle()
};

struct Lease {
  std::string id;
  std::uint64_t epoch = 0;
};
inline Lease lease_of(const WorkItem& item) { return {item.spec.id, item.epoch}; }

class WorkQueue {
 public:
  // What is gone is remembered for so long: that there was an item, and how it ended.
  static constexpr Duration kRemembered = std::chrono::days(7);

  virtual ~WorkQueue() = default;

  struct Enqueued {
    WorkItem item;
    bool fresh = true;  // false: an item of the same key was there, and is what is returned
  };
  // conflict: the key is that of an item with another payload, or the delivery that it is is not
  // being sent. queue_full: `limit` items of the
  // lane are not over.
  virtual Result<Enqueued> enqueue(const WorkSpec& spec, std::uint64_t limit) = 0;

  struct LeaseAsk {
    WallTime now{};
    WallTime until{};
    std::size_t count = 1;
    std::string after_lane;  // the first one is of the lane that follows this one
  };
  // Of what is due, one of each lane in turn, the longest due of a lane first.
  virtual Result<std::vector<WorkItem>> lease(const LeaseAsk& ask) = 0;
  virtual Status extend(const Lease& lease, WallTime until) = 0;

  // The ends of a lease. A receipt is kept with the item until settle(): what must be told
  // elsewhere exactly once, in the same transaction as the end that it tells of.
  struct Finish {
    WallTime now{};
    WorkResult result;
    std::string receipt;
  };
  virtual Status complete(const Lease& lease, const Finish& finish) = 0;
  struct Failure {
    WallTime when{};  // due; of bury: now
    std::string reason;
    std::string message;
    bool killed = false;  // who worked on it
    std::string receipt;
    Duration keep{};  // of bury: how long it can be redriven
  };
  virtual Status retry(const Lease& lease, const Failure& failure) = 0;  // the attempt counts
  virtual Status bury(const Lease& lease, const Failure& failure) = 0;
  // The attempt does not count, and has no receipt.
  virtual Status put_back(const Lease& lease, const Failure& failure) = 0;

  struct Receipt {
    std::string id;
    std::string receipt;
  };
  // Forgets those that are still the item's.
  virtual Status settle(const std::vector<Receipt>& receipts) = 0;
  virtual Result<std::vector<WorkItem>> unsettled(std::size_t limit) = 0;

  // The item as it is then. What is over stays as it ended. not_found.
  virtual Result<WorkItem> cancel(std::string_view id, WallTime now) = 0;
  // Of what is dead and has its payload yet, with all its attempts before it. conflict otherwise.
  virtual Result<WorkItem> redrive(std::string_view id, WallTime now, WallTime expires) = 0;

  virtual Result<std::optional<WorkItem>> find(std::string_view id) = 0;
  // The item that has the key; nullopt also once the item has lost it.
  virtual Result<std::optional<WorkItem>> find_key(std::string_view lane, std::string_view key) = 0;
  struct ListAsk {
    std::string lane;
    std::optional<WorkState> state;
    std::string before;  // id: those that are older; empty: from the newest on
    std::size_t limit = 100;
  };
  virtual Result<std::vector<WorkItem>> list(const ListAsk& ask) = 0;
  using Counts = std::array<std::uint64_t, kWorkStates>;  // by state
  virtual Result<Counts> counts(std::string_view lane) = 0;
  struct Overview {  // of all lanes
    Counts counts{};
    std::optional<WallTime> oldest_waiting;  // when it was accepted
  };
  virtual Result<Overview> overview() = 0;

  // Takes every lease back, for who knows that no holder lives: the attempts do not count. The
  // items as they wait now.
  virtual Result<std::vector<WorkItem>> recover(WallTime now) = 0;
  // nullopt: nothing waits.
  virtual Result<std::optional<WallTime>> next_due() = 0;

  struct Swept {
    std::uint64_t changed = 0;
    std::vector<Digest> unreferenced;  // payloads and results that this sweep dropped
  };
  // Expires what waited too long, takes back leases that ran out, drops results and payloads whose
  // time is over and that nobody is to be told of, and later their items; at most `limit` of each.
  virtual Result<Swept> sweep(WallTime now, std::size_t limit) = 0;
  // Whether any item has it as payload or result.
  virtual Result<bool> refers_to(const Digest& blob) = 0;

  // Who is told of ends, in the same database.
  virtual Deliveries& deliveries() = 0;
};

}  // namespace mayfly
