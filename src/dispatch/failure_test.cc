// What goes wrong, and that it costs nobody else anything.
#include <memory>
#include <string>
#include <vector>

#include "core/reason.h"
#include "dispatch/dispatcher.h"
#include "dispatch/testing/test_node.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

Task<Result<Path>> lost_folder() { co_return fail(Code::DataLoss, "a blob is missing"); }

}  // namespace

TEST_CASE("a crash costs its request; the next instance is forked at once") {
  TestNode node({.cores = 1, .memory = mib(1000)});
  const auto version = TestNode::share(node.runtime(1));
  Script& script = node.spawner.script("f1@1");
  script = {.run = 10ms, .fate = Fate::Crashes};
  const auto crashing = node.predict(version);
  const auto next = node.predict(version);
  node.advance(10ms);
  CHECK(crashing->reason() == reason::kInstanceCrashed);
  CHECK(crashing->outcome->timing.run == 10ms);
  CHECK(crashing->outcome->reply.error().message.find("signal 11") != std::string::npos);
  script.fate = Fate::Replies;
  CHECK(node.version("f1@1")->running == 1);
  node.advance(10ms);
  CHECK(next->ok());
  CHECK(next->outcome->timing.queue == 10ms);
  CHECK(node.decided(Action::EndInstance, Why::Crashed) == 1);
  CHECK(node.version("f1@1")->tmpl.failures == 0);  // crashing is no failure to start
}

TEST_CASE("exceeding memory is told apart from a crash") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").fate = Fate::RunsOutOfMemory;
  const auto call = node.predict(version);
  CHECK(call->reason() == reason::kOutOfMemory);
  CHECK(call->outcome->reply.error().message.find("512MiB") != std::string::npos);
  CHECK(call->outcome->peak_memory == mib(1));
}

TEST_CASE("an instance that answers garbage is not used again, one whose model complains is") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").fate = Fate::RepliesGarbage;
  CHECK(node.predict(version)->reason() == reason::kBadReply);
  CHECK(node.spawner.instances().empty());
  node.spawner.script("f1@1").fate = Fate::Hangs;
  const auto complained = node.predict(version);
  node.spawner.instances().at(0)->reply(refuse(reason::kModelError, "no such category"));
  node.loop.poll();
  CHECK(complained->reason() == reason::kModelError);
  CHECK(node.version("f1@1")->idle == 1);
}

TEST_CASE("a template that cannot be built backs off visibly and recovers by itself") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  Script& script = node.spawner.script("f1@1");
  script.build = 10ms;
  script.template_fails = Error{Code::InvalidArgument, "the graph has a cycle"};
  const auto first = node.call(version);
  const auto second = node.call(version);
  node.run_for(10ms);
  for (const auto& call : {first, second}) {
    CHECK(call->reason() == reason::kStartFailed);
    CHECK(call->outcome->reply.error().message.find("the graph has a cycle") != std::string::npos);
    CHECK(call->outcome->retry_after == 1s);
  }
  CHECK(node.version("f1@1")->tmpl.state == TemplateState::BackingOff);
  CHECK(node.version("f1@1")->tmpl.retry_in == 500ms);
  CHECK(node.predict(version)->reason() == reason::kStartFailed);  // at once, without a try
  CHECK(node.spawner.templates_started() == 1);

  node.run_for(500ms);
  const auto third = node.call(version);
  node.run_for(10ms);
  CHECK(third->reason() == reason::kStartFailed);
  CHECK(node.version("f1@1")->tmpl.failures == 2);
  CHECK(node.version("f1@1")->tmpl.retry_in == 1s);

  script.template_fails.reset();
  node.run_for(1s);
  const auto recovered = node.call(version);
  node.run_for(20ms);
  CHECK(recovered->ok());
  CHECK(node.version("f1@1")->tmpl.failures == 0);
  CHECK(node.dispatcher.status().node.builds == 0);
}

TEST_CASE("failures are forgotten a minute after the pause, and the version with them") {
  TestNode node;
  node.spawner.refuse_templates(Error{Code::Unavailable, "no blank"});
  CHECK(node.predict(TestNode::share(node.runtime(1)))->reason() == reason::kStartFailed);
  node.run_for(50s, 100ms);
  CHECK(node.version("f1@1")->tmpl.failures == 1);
  node.run_for(11s, 100ms);
  CHECK(node.dispatcher.status().versions.empty());
}

TEST_CASE("a compiled folder that cannot be had is a failure to start") {
  TestNode node;
  VersionRuntime runtime = node.runtime(1);
  runtime.artifact = [] { return lost_folder(); };
  const auto call = node.predict(TestNode::share(std::move(runtime)));
  CHECK(call->reason() == reason::kStartFailed);
  CHECK(call->outcome->reply.error().message.find("a blob is missing") != std::string::npos);
}

TEST_CASE("an instance that dies before it has started is a failure to start") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").fate = Fate::DiesAtStart;
  const auto call = node.predict(version);
  CHECK(call->reason() == reason::kStartFailed);
  CHECK(node.version("f1@1")->tmpl.state == TemplateState::BackingOff);
  CHECK(node.spawner.instances().empty());
  node.run_for(500ms);
  node.predict(version);
  CHECK(node.version("f1@1")->tmpl.failures == 2);  // a built template alone proves nothing
}

TEST_CASE("while starts fail, living instances serve on") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  Script& script = node.spawner.script("f1@1");
  script.run = 10ms;
  const auto first = node.predict(version);
  script.refuses_fork = Error{Code::ResourceExhausted, "no more processes"};
  const auto second = node.predict(version);
  CHECK(second->reason() == reason::kStartFailed);
  const auto third = node.predict(version);
  CHECK_FALSE(third->done());
  node.run_for(20ms);
  CHECK(first->ok());
  CHECK(third->ok());
  CHECK(third->outcome->tier == StartTier::Hot);
}

TEST_CASE("a template that turns out to be dead is built again for the request that waits") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  Script& script = node.spawner.script("f1@1");
  script.build = 10ms;
  script.run = 50ms;
  const auto first = node.call(version);
  node.run_for(12ms);
  script.refuses_fork = Error{Code::Unavailable, "the template is gone"};
  const auto second = node.predict(version);
  CHECK_FALSE(second->done());
  script.refuses_fork.reset();
  node.run_for(100ms);
  CHECK(first->ok());
  CHECK(second->ok());
  CHECK(node.spawner.templates_started() == 2);
}

TEST_CASE("losing a template harms no instance; it is built again when one is needed") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").run = 10ms;
  const auto running = node.predict(version);
  node.spawner.templates().at(0)->lose({.signal = 9});
  node.loop.poll();
  CHECK(node.version("f1@1")->tmpl.state == TemplateState::None);
  const auto cold = node.predict(version);
  node.run_for(10ms);
  CHECK(running->ok());
  CHECK(cold->ok());
  CHECK(cold->outcome->tier == StartTier::Cold);
  CHECK(node.spawner.templates_started() == 2);
}

TEST_CASE("a template that dies before its first fork is a failure to start") {
  TestNode node;
  const auto settings =
      std::make_shared<const FunctionSettings>(FunctionSettings{.keep_warm = true});
  node.dispatcher.serve(TestNode::share(node.runtime(1)), settings);
  node.loop.poll();
  node.spawner.templates().at(0)->lose({.oom = true});
  node.loop.poll();
  CHECK(node.version("f1@1")->tmpl.state == TemplateState::BackingOff);
  CHECK(node.spawner.templates().empty());
  node.run_for(600ms);
  CHECK(node.version("f1@1")->tmpl.state == TemplateState::Ready);  // kept warm: without a call
}

TEST_CASE("a kept instance that never gets ready is ended and tried again") {
  TestNode node;
  VersionRuntime runtime = node.runtime(1);
  runtime.start_timeout = 2s;
  node.spawner.script("f1@1").fate = Fate::NeverStarts;
  node.dispatcher.serve(
      TestNode::share(std::move(runtime)),
      std::make_shared<const FunctionSettings>(FunctionSettings{.min_instances = 1}));
  node.run_for(2100ms, 10ms);
  CHECK(node.version("f1@1")->tmpl.failures == 1);
  CHECK(node.spawner.instances().empty());
  node.spawner.script("f1@1").fate = Fate::Replies;
  node.run_for(1s, 10ms);
  CHECK(node.version("f1@1")->idle == 1);
}

TEST_CASE("a deadline during the start ends the instance but blames nobody") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").fate = Fate::NeverStarts;
  const auto call = node.finished(node.call(version, 100ms));
  node.run_for(100ms);
  CHECK(call->reason() == reason::kDeadlineExceeded);
  CHECK(call->outcome->timing.start == 100ms);
  CHECK(call->outcome->timing.run == 0ms);
  CHECK(node.version("f1@1")->tmpl.failures == 0);
  CHECK(node.spawner.instances().empty());
}

TEST_CASE("what can never fit is refused") {
  TestNode node({.cores = 2, .memory = mib(10)});
  const auto call = node.predict(TestNode::share(node.runtime(1)));
  CHECK(call->reason() == reason::kMemoryPressure);
}

TEST_CASE("an unused instance that dies is only forgotten") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  CHECK(node.predict(version)->ok());
  node.spawner.instances().at(0)->exit({.signal = 9});
  node.loop.poll();
  CHECK(node.version("f1@1")->idle == 0);
  CHECK(node.predict(version)->outcome->tier == StartTier::Template);
}

}  // namespace mayfly
