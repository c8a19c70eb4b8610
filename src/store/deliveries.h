// That an item of a work queue has ended is told to whom its notices name, at least once.
//
//            lease                finish
//   waiting ───────► sending ──────────────────► delivered
//      ▲                │  └───────────────────► given up ──again──► waiting
//      └────────────────┘ (later)
//
// A delivery is made in the transaction in which its item ends, whatever ends it, and is known by
// the item's id and its epoch then: an item that is redriven and ends again is told of again. The
// item keeps payload and result until its deliveries are over.
//
// Every method blocks, is durable when it returns, and may be called from any thread but the
// loop's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace mayfly {

enum class WorkState : std::uint8_t;

// Whom to tell how an item ends: core/destination.h; "": nobody.
struct Notices {
  std::string success;      // of what is done
  std::string failure;      // of what ends otherwise
  std::uint32_t depth = 0;  // how many deliveries led to the item, one by the other
  bool operator==(const Notices&) const = default;
};

struct DeliveryKey {
  std::string item;
  std::uint64_t epoch = 0;
  bool operator==(const DeliveryKey&) const = default;
};
// What whoever is told knows it by, and may tell it twice by.
std::string to_string(const DeliveryKey& key);

// Numbers stand in databases: append only.
enum class DeliveryState : std::uint8_t { Waiting = 0, Sending = 1, Delivered = 2, GivenUp = 3 };
inline constexpr std::size_t kDeliveryStates = 4;
std::string_view to_string(DeliveryState state);  // "waiting", "sending", "delivered", "given_up"

struct Delivery {
  DeliveryKey key;
  std::string lane;  // the item's
  std::string destination;
  std::uint32_t depth = 0;
  // How the item ended.
  WorkState end{};
  std::uint32_t item_attempts = 0;
  std::string reason;
  std::string message;
  WallTime ended{};
  // What became of telling it.
  DeliveryState state = DeliveryState::Waiting;
  std::uint32_t attempts = 0;
  WallTime since{};  // when it was to be told, first
  WallTime due{};
  WallTime settled{};  // zero: it is not over
  std::string error;   // of the last attempt; empty: there was none, or it went well
};

class Deliveries {
 public:
  virtual ~Deliveries() = default;

  struct LeaseAsk {
    WallTime now{};
    std::size_t count = 1;
    std::size_t per_project = 1;  // at most so many are sent at the same time
    std::size_t per_host = 1;
    std::string after_project;  // the first one is of the project that follows
  };
  // Of what is due, one of each project in turn, the longest due first.
  virtual Result<std::vector<Delivery>> lease(const LeaseAsk& ask) = 0;

  struct Finish {
    DeliveryState state = DeliveryState::Delivered;  // Waiting: once more, when it is due
    std::uint32_t attempts = 0;
    WallTime when{};  // of Waiting: due; otherwise now
    std::string error;
  };
  // conflict: it is not being sent.
  virtual Status finish(const DeliveryKey& key, const Finish& finish) = 0;
  // The item's last one, from the beginning. not_found: it has none; conflict: it is not over.
  virtual Result<Delivery> again(std::string_view item, WallTime now) = 0;

  virtual Result<std::vector<Delivery>> of(std::string_view item) = 0;  // the oldest first
  virtual Result<std::optional<WallTime>> next_due() = 0;
  virtual Result<std::uint64_t> unsettled() = 0;  // how many wait or are sent
  // What was being sent is due, for who knows that nobody sends it any more.
  virtual Status recover(WallTime now) = 0;
};

}  // namespace mayfly
