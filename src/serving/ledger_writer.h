// Group commit: the records of one turn of the loop go to the ledger with one write(2), and only
// then are their replies released. kill -9 between the two loses a reply, never a record.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "async/event.h"
#include "async/loop.h"
#include "async/task.h"
#include "meter/ledger.h"
#include "meter/record.h"

namespace mayfly {

class LedgerWriter {
 public:
  LedgerWriter(Loop& loop, Ledger& ledger)  // both outlive me
      : loop_(loop), ledger_(ledger), flush_(loop, [this] { flush(); }) {}

  // Ends when the record is written. storage_full: it is not, and the prediction must not be
  // answered.
  Task<Status> commit(const InvocationRecord& record);

  bool healthy() const { return ledger_.healthy(); }
  // Tries whether there is room again, at most once a second.
  void probe();

 private:
  void flush();

  Loop& loop_;
  Ledger& ledger_;
  TurnEnd flush_;
  std::string frames_;
  std::vector<Promise<void>> waiting_;
  TimePoint last_probe_;
  bool failing_ = false;  // and said so
};

}  // namespace mayfly
