// Functions that call functions, in virtual time.
#include "dispatch/calls.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/call_reason.h"
#include "core/reason.h"
#include "dispatch/testing/test_node.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// Answers calls as serving does: "f2@1" is asked, and its outcome is the answer.
class CallRig {
 public:
  explicit CallRig(DispatchOptions options = {.cores = 1, .memory = mib(1000)}) : node(options) {
    node.dispatcher.set_calls(
        [this](AskedCall asked) { node.loop.spawn(answer(std::move(asked))); });
  }
  // A caller of function `number`, whose instance runs now.
  std::shared_ptr<Pending> begin(std::uint64_t number, Duration timeout = 30s) {
    Call call = call_of(number, timeout);
    const auto pending = node.ask(std::move(call));
    node.loop.poll();
    return pending;
  }
  Call call_of(std::uint64_t number, Duration timeout) {
    VersionRuntime runtime = node.runtime(number);
    node.spawner.script(runtime.label).fate = Fate::Hangs;
    node.spawner.script(runtime.label).template_bytes = runtime.template_bytes = mib(4);
    runtime.instance_bytes = mib(20);
    runtime.calls = true;
    RequestMemory request = *RequestMemory::allocate(*RequestLayout::plan({}, {}), 0);
    Call call = node.call_of(TestNode::share(std::move(runtime)), std::move(request), timeout);
    call.origin = std::make_shared<CallOrigin>();
    return call;
  }
  FakeInstance& instance(std::uint64_t number, std::size_t index = 0) {
    return *node.spawner.instances("f" + std::to_string(number) + "@1").at(index);
  }
  void calls(FakeInstance& caller, std::uint64_t number) {
    caller.call(std::to_string(number));
    node.loop.poll();
  }
  void replies(FakeInstance& which) {
    which.reply();
    node.loop.poll();
  }

  TestNode node;

 private:
  Task<void> answer(AskedCall asked) {
    Call call = call_of(std::stoull(asked.call.message.name), 30s);
    call.deadline = asked.deadline;
    call.caller = asked.by;
    call.cancel = asked.by->callees.token();
    call.origin->depth = asked.by->depth + 1;
    const auto by = asked.by;
    const Outcome outcome = co_await node.dispatcher.predict(std::move(call));
    CallMessage message{.kind = CallKind::Tensors};
    if (!outcome.reply) {
      message = {.kind = CallKind::Failed, .name = std::string(outcome.reply.error().reason)};
    }
    node.dispatcher.answer(*by, {.message = std::move(message)});
  }
};

}  // namespace

TEST_CASE("a caller that waits gives its core back, and its wait is metered") {
  CallRig rig;
  const auto caller = rig.begin(1);
  rig.node.advance(10ms);
  rig.calls(rig.instance(1), 2);
  CHECK(rig.node.dispatcher.status().node.tokens_used == 1);  // the callee's
  rig.node.advance(30ms);
  rig.replies(rig.instance(2));
  REQUIRE(rig.instance(1).answers().size() == 1);
  CHECK(rig.instance(1).answers()[0].kind == CallKind::Tensors);
  CHECK(rig.node.dispatcher.status().node.tokens_used == 1);  // the caller's again
  rig.node.advance(5ms);
  rig.replies(rig.instance(1));
  REQUIRE(caller->ok());
  CHECK(caller->outcome->timing.run == 45ms);
  CHECK(caller->outcome->timing.waited == 30ms);
  CHECK(rig.node.dispatcher.status().node.tokens_used == 0);
}

TEST_CASE("a chain of eight calls runs on one core") {
  CallRig rig;
  const auto caller = rig.begin(1);
  for (std::uint64_t i = 1; i < 9; ++i) rig.calls(rig.instance(i), i + 1);
  for (std::uint64_t i = 9; i > 0; --i) rig.replies(rig.instance(i));
  CHECK(caller->ok());
}

TEST_CASE("a function that calls itself with max_instances = 1 is refused at once") {
  CallRig rig;
  rig.node.settings.max_instances = 1;
  const auto caller = rig.begin(1);
  rig.calls(rig.instance(1), 1);
  REQUIRE(rig.instance(1).answers().size() == 1);
  CHECK(rig.instance(1).answers()[0].name == reason::kCallDeadlock);
  CHECK(rig.node.decided(Action::Refuse, Why::CallDeadlock) == 1);
  rig.replies(rig.instance(1));
  CHECK(caller->ok());
}

TEST_CASE("whoever queues already does not hide a deadlock, and is served") {
  CallRig rig;
  rig.node.settings.max_instances = 1;
  const auto caller = rig.begin(1);
  const auto other = rig.begin(1);
  rig.calls(rig.instance(1), 2);
  rig.calls(rig.instance(2), 1);  // around: 1 → 2 → 1
  REQUIRE(rig.instance(2).answers().size() == 1);
  CHECK(rig.instance(2).answers()[0].name == reason::kCallDeadlock);
  CHECK_FALSE(other->done());
  rig.replies(rig.instance(2));
  rig.replies(rig.instance(1));
  CHECK(caller->ok());
  rig.replies(rig.instance(1));
  CHECK(other->ok());
}

TEST_CASE("where another request runs too its end is awaited") {
  CallRig rig({.cores = 4, .memory = mib(1000)});
  rig.node.settings.max_instances = 2;
  const auto caller = rig.begin(1);
  const auto other = rig.begin(1);
  rig.calls(rig.instance(1, 0), 1);
  CHECK(rig.instance(1, 0).answers().empty());
  CHECK(rig.node.version("f1@1")->queued == 1);
  rig.replies(rig.instance(1, 1));
  CHECK(other->ok());
  rig.replies(rig.instance(1, 1));  // now it runs the callee
  REQUIRE(rig.instance(1, 0).answers().size() == 1);
  CHECK(rig.instance(1, 0).answers()[0].kind == CallKind::Tensors);
  rig.replies(rig.instance(1, 0));
  CHECK(caller->ok());
}

TEST_CASE("two chains that wait for each other: the one that closed the circle is refused") {
  CallRig rig({.cores = 4, .memory = mib(1000)});
  rig.node.settings.max_instances = 1;
  const auto first = rig.begin(1);
  const auto second = rig.begin(2);
  rig.calls(rig.instance(1), 2);
  CHECK(rig.instance(1).answers().empty());  // the other one goes on
  rig.calls(rig.instance(2), 1);
  REQUIRE(rig.instance(2).answers().size() == 1);
  CHECK(rig.instance(2).answers()[0].name == reason::kCallDeadlock);
  rig.replies(rig.instance(2));  // its own request, after the refusal
  CHECK(second->ok());
  rig.replies(rig.instance(2));
  REQUIRE(rig.instance(1).answers().size() == 1);
  CHECK(rig.instance(1).answers()[0].kind == CallKind::Tensors);
  rig.replies(rig.instance(1));
  CHECK(first->ok());
}

TEST_CASE("memory that only callers hold is a deadlock; while another request runs it is not") {
  CallRig rig({.cores = 4, .memory = mib(60)});
  const auto caller = rig.begin(1);
  const auto other = rig.begin(2);
  REQUIRE(rig.node.spawner.instances().size() == 2);
  rig.calls(rig.instance(1), 3);
  CHECK(rig.instance(1).answers().empty());
  CHECK(rig.node.version("f3@1")->queued == 1);
  rig.calls(rig.instance(2), 4);  // now nobody goes on
  REQUIRE(rig.instance(2).answers().size() == 1);
  CHECK(rig.instance(2).answers()[0].name == reason::kCallDeadlock);
  rig.replies(rig.instance(2));
  CHECK(other->ok());
  // What it held is ended for the callee.
  rig.node.run_for(3ms);
  REQUIRE(rig.node.spawner.instances("f3@1").size() == 1);
  rig.replies(rig.instance(3));
  REQUIRE(rig.instance(1).answers().size() == 1);
  rig.replies(rig.instance(1));
  CHECK(caller->ok());
}

TEST_CASE("a client that leaves, a deadline and a crash of the caller end the whole chain") {
  for (const std::string_view how : {"client", "deadline", "crash"}) {
    CAPTURE(how);
    CallRig rig;
    const auto caller = rig.begin(1, 1s);
    rig.calls(rig.instance(1), 2);
    rig.calls(rig.instance(2), 3);
    rig.node.advance(300ms);
    if (how == "client") caller->client.cancel();
    if (how == "deadline") rig.node.advance(700ms);
    if (how == "crash") rig.instance(1).exit({.code = 3, .signal = 0, .oom = false});
    rig.node.advance(1ms);
    REQUIRE(caller->done());
    CHECK_FALSE(caller->ok());
    CHECK(caller->outcome->timing.waited >= 300ms);
    CHECK(rig.node.spawner.instances().empty());
    CHECK(rig.node.dispatcher.status().node.tokens_used == 0);
  }
}

TEST_CASE("a crash of the callee is an error for a caller that lives on") {
  CallRig rig;
  const auto caller = rig.begin(1);
  rig.calls(rig.instance(1), 2);
  rig.instance(2).exit({.code = 0, .signal = 11, .oom = false});
  rig.node.loop.poll();
  REQUIRE(rig.instance(1).answers().size() == 1);
  CHECK(rig.instance(1).answers()[0].name == reason::kInstanceCrashed);
  rig.replies(rig.instance(1));
  CHECK(caller->ok());
}

TEST_CASE("an instance whose version calls nothing is told that nobody answers") {
  CallRig rig;
  rig.node.spawner.script("f7@1").fate = Fate::Hangs;
  const auto asked = rig.node.predict(TestNode::share(rig.node.runtime(7)));
  rig.calls(rig.instance(7), 2);
  REQUIRE(rig.instance(7).answers().size() == 1);
  CHECK(rig.instance(7).answers()[0].name == reason::kUnsupported);
  rig.replies(rig.instance(7));
  CHECK(asked->ok());
}

TEST_CASE("a node that drains lets an accepted request call on") {
  CallRig rig;
  const auto caller = rig.begin(1);
  rig.node.drain(10s);
  rig.calls(rig.instance(1), 2);
  rig.replies(rig.instance(2));
  REQUIRE(rig.instance(1).answers().size() == 1);
  CHECK(rig.instance(1).answers()[0].kind == CallKind::Tensors);
  rig.replies(rig.instance(1));
  CHECK(caller->ok());
}

}  // namespace mayfly
