#include "serving/ledger_writer.h"

#include <utility>

#include "base/log.h"

namespace mayfly {

Task<Status> LedgerWriter::commit(const InvocationRecord& record) {
  Future<void> written(loop_);
  flush_.request();
  encode_record(record, frames_);
  waiting_.push_back(written.promise());
  co_return co_await written;
}

void LedgerWriter::flush() {
  const Status status = ledger_.append(frames_);
  if (!status && !std::exchange(failing_, true))
    LOG(error, "predictions are refused", {"error", status.error().message});
  if (status) failing_ = false;
  frames_.clear();
  for (Promise<void>& promise : std::exchange(waiting_, {})) promise.set(status);
}

void LedgerWriter::probe() {
  const TimePoint now = loop_.turn_time();
  if (ledger_.healthy() || now - last_probe_ < std::chrono::seconds(1)) return;
  last_probe_ = now;
  if (!ledger_.probe()) return;
  failing_ = false;
  LOG(info, "ledger can be written again");
}

}  // namespace mayfly
