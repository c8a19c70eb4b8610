#include "dispatch/fair_share.h"

#include <algorithm>

namespace mayfly {

void FairShare::add(Contender& contender) {
  if (contender.waiting_) return;
  contender.tag_ = std::max(virtual_time_, contender.account_.finish);
  contender.order_ = order_++;
  contender.waiting_ = true;
  waiting_.insert(&contender);
}

void FairShare::remove(Contender& contender) {
  if (!contender.waiting_) return;
  waiting_.erase(&contender);
  contender.waiting_ = false;
}

// Tags of one function's versions fall behind when another of its versions is served; they are
// corrected when they reach the front, which is enough, because tags only grow.
FairShare::Contender* FairShare::head() {
  while (!waiting_.empty()) {
    Contender* first = *waiting_.begin();
    if (first->tag_ >= first->account_.finish) return first;
    auto node = waiting_.extract(waiting_.begin());
    first->tag_ = first->account_.finish;
    waiting_.insert(std::move(node));
  }
  return nullptr;
}

void FairShare::begin(Account& account, Duration cost) {
  const Duration start = std::max(virtual_time_, account.finish);
  virtual_time_ = start;
  account.finish = start + cost;
}

}  // namespace mayfly
