// Where traffic does not bring a rollout enough requests: both versions answer held-out rows, as
// copies of requests are answered (shadows.h), one after the other and under the same conditions,
// so that errors, times and answers can be compared. Loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "async/cancel.h"
#include "async/loop.h"
#include "async/task.h"
#include "base/result.h"
#include "core/names.h"
#include "core/wire/json_parser.h"
#include "rollout/snapshot.h"
#include "serving/catalog.h"
#include "serving/shadows.h"

namespace mayfly {

struct HeldOutAsk {
  FunctionName function;
  VersionNumber champion, challenger;
  std::uint64_t least = 1;  // fewer rows say too little
  std::uint64_t most = 1;
};

class Rehearsal {
 public:
  // Requests of the Open Inference Protocol, a row each, of rows that neither version was trained
  // or tuned on. conflict says why there are none.
  using FindRows = std::function<Task<Result<std::vector<std::string>>>(HeldOutAsk ask)>;
  struct Parts {  // all outlive me
    Loop& loop;
    Catalog& catalog;
    Shadows& shadows;
    FindRows find_rows;
  };
  explicit Rehearsal(Parts parts) : parts_(std::move(parts)) {}

  // All rows once, and again, as times are not the same twice, until what was seen `decides`, that
  // is, more times would change nothing; at most kMostPasses times and for kLongest. One at a time,
  // as each has its rows in memory: others wait. conflict: there are no rows, or not enough.
  // ResourceExhausted: there was no room for one of them for kPatience, or they took too long.
  using Decides = std::function<bool(const rollout::HeldOut& seen)>;
  Task<Result<rollout::HeldOut>> run(HeldOutAsk ask, Decides decides, CancelToken stop);

  static constexpr int kMostPasses = 10;
  static constexpr Duration kLongest = std::chrono::minutes(30);
  static constexpr Duration kPatience = std::chrono::seconds(30);

 private:
  struct Side {
    ServingRef version;
    rollout::Evidence evidence;
  };
  Task<Result<ServingRef>> find(FunctionName function, VersionNumber version);
  Result<RequestMemory> read(const Serving& version, std::string row);
  Task<Result<Outcome>> ask(ServingRef version, const std::string& row, CancelToken stop);
  struct Sides {
    Side champion, challenger;
    Side* first = &challenger;  // is asked first
    Side* second = &champion;
  };
  Task<Status> ask_both(Sides& sides, const std::string& row, CancelToken stop);
  Task<Result<rollout::HeldOut>> run_alone(const HeldOutAsk& ask, const Decides& decides,
                                           CancelToken stop);

  Parts parts_;
  JsonParser parser_;
  bool running_ = false;
};

}  // namespace mayfly
