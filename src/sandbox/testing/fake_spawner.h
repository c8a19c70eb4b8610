// A spawner without processes. Each version (by label) follows a Script, on the loop's clock: with
// a FakeClock time is virtual. What a script leaves to the test is done by hand:
//
//   FakeSpawner spawner(loop);
//   spawner.script("fraud@1").fate = Fate::Hangs;
//   … loop.poll();
//   spawner.instances().at(0)->reply();
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/loop.h"
#include "async/timer.h"
#include "sandbox/spawner.h"

namespace mayfly {

// What becomes of an instance that is given a request.
enum class Fate : std::uint8_t {
  Replies,
  Crashes,          // SIGSEGV instead of a reply
  RunsOutOfMemory,  // killed by the kernel instead of a reply
  RepliesGarbage,   // bad_reply
  Hangs,            // until the test does something, or it is killed
  DiesAtStart,      // before on_started
  NeverStarts,
};

struct Script {
  Duration build{};  // of a template
  Duration start{};  // fork → on_started
  Duration start_cpu{};
  Duration run{};  // → reply
  Fate fate = Fate::Replies;
  std::optional<Error> template_fails{};  // on_ready gets it
  std::optional<Error> refuses_fork{};    // fork() returns it
  std::optional<Error> unfit{};           // on_ready gets it, of a template that was given
  Bytes template_bytes = mib(20);
  Bytes instance_bytes = mib(1);
};

class FakeSpawner;
class FakeTemplate;
class FakeEnvironment;

class FakeInstance final : public Instance {
 public:
  FakeInstance(FakeSpawner& spawner, std::string label, InstanceEvents events);
  ~FakeInstance() override;

  void run(RequestMemory request) override;
  bool may_join(const RequestMemory& request) const override;
  Replies collect() override;
  std::vector<RequestMemory> take_back() override;
  void go_on() override { ++wanted_; }
  void close_stream() override { closing_ = true; }
  void answer(PlacedCall answer) override { answers_.push_back(std::move(answer.message)); }
  void kill() override;
  Duration cpu() const override { return cpu_; }
  Bytes peak_memory() const override;

  // By hand; what the script does otherwise.
  void start();
  void reply(Result<Reply> reply = Reply{});   // to all it has
  void reply_unrung();                         // to the oldest, for collect() to find
  void chunk() { events_.on_chunk(Reply{}); }  // of a stream, which hangs otherwise
  void call(std::string name) {                // a function, without tensors
    events_.on_call({.message = {.kind = CallKind::Tensors, .name = std::move(name)}});
  }
  void exit(Exit how);

  const std::vector<CallMessage>& answers() const { return answers_; }
  std::size_t wanted() const { return wanted_; }  // chunks, beside the first
  bool closing() const { return closing_; }
  const std::string& label() const { return label_; }
  std::size_t requests() const { return requests_; }
  bool busy() const { return burst() > 0; }
  std::size_t burst() const { return burst_.size(); }  // requests it has and has not answered
  bool killed() const { return killed_; }
  bool gone() const { return gone_; }

 private:
  void begin();
  void come_to_fate();

  FakeSpawner& spawner_;
  std::string label_;
  InstanceEvents events_;
  Timer starting_;
  Timer running_;
  Timer dying_;
  TurnEnd ring_;
  std::vector<RequestMemory> burst_;
  std::size_t unrung_ = 0;  // replies that nobody was told of
  Duration cpu_{};
  std::size_t requests_ = 0;
  bool started_ = false;
  bool rung_ = false;
  bool killed_ = false;
  bool gone_ = false;
  std::size_t wanted_ = 0;
  bool closing_ = false;
  std::vector<CallMessage> answers_;
};

class FakeTemplate final : public Template {
 public:
  enum class Origin : std::uint8_t { Artifact, Given };
  FakeTemplate(FakeSpawner& spawner, TemplateSpec spec, TemplateEvents events,
               Origin origin = Origin::Artifact);
  ~FakeTemplate() override;
  Result<std::unique_ptr<Instance>> fork(InstanceEvents events) override;
  void lose(Exit how);  // dies after it was ready
  const TemplateSpec& spec() const { return spec_; }

 private:
  FakeSpawner& spawner_;
  TemplateSpec spec_;
  TemplateEvents events_;
  Timer building_;
  bool ready_ = false;
};

class FakeEnvironment final : public EnvironmentTemplate {
 public:
  FakeEnvironment(FakeSpawner& spawner, EnvironmentSpec spec, TemplateEvents events);
  ~FakeEnvironment() override;
  Result<std::unique_ptr<Template>> give(TemplateSpec spec, TemplateEvents events) override;
  void lose(Exit how);  // dies while it waits
  const EnvironmentSpec& spec() const { return spec_; }

 private:
  FakeSpawner& spawner_;
  EnvironmentSpec spec_;
  TemplateEvents events_;
  Timer building_;
  bool ready_ = false;
};

class FakeSpawner final : public Spawner {
 public:
  explicit FakeSpawner(Loop& loop) : loop_(loop) {}  // outlives me; I outlive what I spawned

  Result<std::unique_ptr<Template>> start_template(TemplateSpec spec,
                                                   TemplateEvents events) override;

  Result<std::unique_ptr<EnvironmentTemplate>> start_environment(EnvironmentSpec spec,
                                                                 TemplateEvents events) override;

  Script& script(const std::string& label) { return scripts_[label]; }
  void refuse_templates(std::optional<Error> error) { refuses_ = std::move(error); }

  // What exists now, the oldest first.
  const std::vector<FakeInstance*>& instances() const { return instances_; }
  const std::vector<FakeTemplate*>& templates() const { return templates_; }
  const std::vector<FakeEnvironment*>& environments() const { return environments_; }
  std::size_t environments_started() const { return environments_started_; }
  std::size_t given() const { return given_; }
  std::vector<FakeInstance*> instances(const std::string& label) const;
  std::size_t templates_started() const { return templates_started_; }
  std::size_t forks() const { return forks_; }

 private:
  friend class FakeInstance;
  friend class FakeTemplate;
  friend class FakeEnvironment;
  Loop& loop_;
  std::map<std::string, Script> scripts_;
  std::optional<Error> refuses_;
  std::vector<FakeInstance*> instances_;
  std::vector<FakeTemplate*> templates_;
  std::vector<FakeEnvironment*> environments_;
  std::size_t templates_started_ = 0;
  std::size_t environments_started_ = 0;
  std::size_t given_ = 0;
  std::size_t forks_ = 0;
};

}  // namespace mayfly
