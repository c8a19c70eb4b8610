#include "dispatch/value.h"

#include <algorithm>
#include <cmath>

namespace mayfly {

void follow(Duration& mean, Duration value) {
  mean = mean == Duration::zero() ? value : mean + (value - mean) / 8;
}
namespace {

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }
double windows(Duration duration) { return seconds(duration) / seconds(Rate::kWindow); }
double faded(Duration age, Duration window) { return std::exp(-seconds(age) / seconds(window)); }

}  // namespace

void Rate::count(TimePoint now) {
  weight_ = weight_ * faded(now - at_, kWindow) + 1;
  recent_ = recent_ * faded(now - at_, kNow) + 1;
  at_ = now;
}

double Rate::per_second(TimePoint now) const {
  return recent_ * faded(now - at_, kNow) / seconds(kNow);
}

double log_value(const Rate& rate, Duration saves, Bytes bytes) {
  const double per_byte =
      std::max(seconds(saves), 1e-9) / static_cast<double>(std::max<std::uint64_t>(bytes.count, 1));
  // A version never called has the weight of one call at the beginning of time.
  return std::log(std::max(rate.weight_, 1.0) * per_byte) + windows(rate.at_.time_since_epoch());
}

void ReclaimOrder::put(Entry& entry, Priority priority, double value) {
  std::set<Entry*, Before>::node_type node;
  if (entry.listed_) node = entries_.extract(&entry);
  entry.priority_ = priority;
  entry.value_ = value;
  entry.listed_ = true;
  if (node) {
    entries_.insert(std::move(node));
  } else {
    entries_.insert(&entry);
  }
}

void ReclaimOrder::remove(Entry& entry) {
  if (!entry.listed_) return;
  entries_.erase(&entry);
  entry.listed_ = false;
}

}  // namespace mayfly
