// Whose turn it is, and who is ended first.
#include <array>
#include <vector>

#include "dispatch/fair_share.h"
#include "dispatch/status.h"
#include "dispatch/value.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

struct Function {
  FairShare::Account account;
  FairShare::Contender contender{account};
};

}  // namespace

TEST_CASE("equal functions alternate, however much each has waiting") {
  FairShare share;
  std::array<Function, 2> functions;
  std::array<int, 2> served{};
  for (int round = 0; round < 10; ++round) {
    for (Function& function : functions) share.add(function.contender);
    FairShare::Contender* head = share.head();
    const std::size_t which = head == &functions[0].contender ? 0 : 1;
    ++served.at(which);
    share.remove(*head);
    share.begin(functions.at(which).account, 10ms);
  }
  CHECK(served[0] == 5);
  CHECK(served[1] == 5);
}

TEST_CASE("shares are of time, not of calls") {
  FairShare share;
  std::array<Function, 2> functions;
  const std::array<Duration, 2> cost = {30ms, 10ms};
  std::array<int, 2> served{};
  for (int round = 0; round < 400; ++round) {
    for (Function& function : functions) share.add(function.contender);
    FairShare::Contender* head = share.head();
    const std::size_t which = head == &functions[0].contender ? 0 : 1;
    ++served.at(which);
    share.remove(*head);
    share.begin(functions.at(which).account, 10ms);  // the estimate is wrong
    share.correct(functions.at(which).account, 10ms, cost.at(which));
  }
  CHECK(served[0] == doctest::Approx(100).epsilon(0.02));
}

TEST_CASE("having run alone costs nothing later, having been silent earns nothing") {
  FairShare share;
  Function busy;
  Function silent;
  for (int i = 0; i < 1000; ++i) share.begin(busy.account, 1s);
  std::array<int, 2> served{};
  for (int round = 0; round < 100; ++round) {
    share.add(busy.contender);
    share.add(silent.contender);
    FairShare::Contender* head = share.head();
    ++served.at(head == &busy.contender ? 0 : 1);
    share.remove(*head);
    share.begin(head == &busy.contender ? busy.account : silent.account, 1s);
  }
  CHECK(served[0] >= 49);
  CHECK(served[1] >= 49);
}

TEST_CASE("two versions of one function share its turn") {
  FairShare share;
  FairShare::Account account;
  FairShare::Contender first(account);
  FairShare::Contender second(account);
  Function other;
  share.add(first);
  share.add(second);
  share.add(other.contender);
  CHECK(share.head() == &first);
  share.remove(first);
  share.begin(account, 10ms);
  CHECK(share.head() == &other.contender);  // `second` moved back with its function
  share.remove(other.contender);
  CHECK(share.head() == &second);
  CHECK(second.waiting());
  share.remove(second);
  share.remove(second);
  CHECK(share.head() == nullptr);
  CHECK(share.size() == 0);
}

TEST_CASE("a rate follows the calls and fades") {
  Rate rate;
  TimePoint now{1h};
  for (int i = 0; i < 300; ++i) rate.count(now += 100ms);
  CHECK(rate.per_second(now) == doctest::Approx(10).epsilon(0.02));
  CHECK(rate.per_second(now + Rate::kNow) == doctest::Approx(3.7).epsilon(0.02));
  CHECK(Rate{}.per_second(now) == 0);
}

TEST_CASE("value grows with rate and saving, shrinks with bytes, and its order stands still") {
  Rate often;
  Rate seldom;
  for (int i = 0; i < 10; ++i) often.count(TimePoint(1h + i * 1s));
  seldom.count(TimePoint(1h));
  CHECK(log_value(often, 1ms, mib(1)) > log_value(seldom, 1ms, mib(1)));
  CHECK(log_value(seldom, 10ms, mib(1)) > log_value(seldom, 1ms, mib(1)));
  CHECK(log_value(seldom, 1ms, mib(1)) > log_value(seldom, 1ms, mib(2)));
  // The value of a version that is not called need not be refreshed: what counts is that a later
  // call outweighs earlier ones by as much as those have faded.
  Rate late;
  late.count(TimePoint(2h));
  CHECK(log_value(late, 1ms, mib(1)) > log_value(often, 1ms, mib(1)));
  CHECK(log_value(Rate{}, 1s, Bytes{}) < log_value(seldom, 1ms, gib(1)) + 100);  // finite
}

TEST_CASE("the least valuable goes first, the kept last") {
  ReclaimOrder order;
  ReclaimOrder::Entry a;
  ReclaimOrder::Entry b;
  ReclaimOrder::Entry kept;
  order.put(kept, Priority::Kept, -100);
  order.put(a, Priority::Ordinary, 2);
  order.put(b, Priority::Ordinary, 1);
  CHECK(order.least() == &b);
  CHECK(order.is_at(b, Priority::Ordinary, 1));
  order.put(b, Priority::Ordinary, 3);
  CHECK(order.least() == &a);
  order.remove(a);
  order.remove(a);
  order.remove(b);
  CHECK(order.least() == &kept);
  order.remove(kept);
  CHECK(order.least() == nullptr);
  CHECK_FALSE(kept.listed());
}

TEST_CASE("a decision log keeps the last of each kind in a row") {
  DecisionLog<2> log;
  CHECK(log.records().empty());
  CHECK(log.add(TimePoint(1s), Action::Fork, Why::Demand));
  CHECK_FALSE(log.add(TimePoint(2s), Action::Fork, Why::Demand));
  CHECK(log.add(TimePoint(3s), Action::Dispatch, Why::IdleInstance));
  CHECK(log.records().at(1).times == 2);
  CHECK(log.add(TimePoint(4s), Action::Wait, Why::CpuFull));
  const auto records = log.records();
  CHECK(records.size() == 2);
  CHECK(records[0].action == Action::Wait);
  CHECK(records[1].at == TimePoint(3s));
}

}  // namespace mayfly
