#include "sandbox/testing/fake_spawner.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "base/check.h"
#include "core/reason.h"

namespace mayfly {

// ---- Instances ----------------------------------------------------------------------------------

FakeInstance::FakeInstance(FakeSpawner& spawner, std::string label, InstanceEvents events)
    : spawner_(spawner),
      label_(std::move(label)),
      events_(std::move(events)),
      starting_(spawner.loop_,
                [this] {
                  if (spawner_.script(label_).fate == Fate::DiesAtStart) {
                    exit({.code = 1, .signal = 0, .oom = false});
                  } else {
                    start();
                  }
                }),
      running_(spawner.loop_, [this] { come_to_fate(); }),
      dying_(spawner.loop_, [this] { exit({.code = 0, .signal = SIGKILL, .oom = false}); }),
      ring_(spawner.loop_, [this] {
        rung_ = true;
        if (started_ && !killed_ && !gone_ && busy()) begin();
      }) {
  spawner_.instances_.push_back(this);
  const Script& script = spawner_.script(label_);
  if (script.fate != Fate::NeverStarts) starting_.arm_in(script.start);
}

FakeInstance::~FakeInstance() { std::erase(spawner_.instances_, this); }

void FakeInstance::run(RequestMemory request) {
  CHECK(!killed_ && !gone_ && (burst_.empty() || may_join(request)));
  if (burst_.empty()) rung_ = false;
  burst_.push_back(std::move(request));
  ++requests_;
  ring_.request();
}

bool FakeInstance::may_join(const RequestMemory& request) const {
  return busy() && !rung_ && !killed_ && burst_.size() < kLanes && request.fits_lane();
}

Replies FakeInstance::collect() {
  Replies replies;
  for (; unrung_ > 0; --unrung_) replies.emplace_back(Reply{});
  return replies;
}

std::vector<RequestMemory> FakeInstance::take_back() {
  const std::size_t kept = std::min(burst_.size(), 1UL);
  const auto first = burst_.begin() + static_cast<std::ptrdiff_t>(kept);
  std::vector<RequestMemory> back(std::move_iterator(first), std::move_iterator(burst_.end()));
  burst_.erase(first, burst_.end());
  return back;
}

void FakeInstance::begin() {
  if (spawner_.script(label_).fate != Fate::Hangs) running_.arm_in(spawner_.script(label_).run);
}

void FakeInstance::start() {
  CHECK(!started_ && !gone_);
  starting_.cancel();
  started_ = true;
  cpu_ += spawner_.script(label_).start_cpu;
  if (busy() && rung_) begin();
  events_.on_started();
}

void FakeInstance::come_to_fate() {
  switch (spawner_.script(label_).fate) {
    case Fate::Crashes:
      return exit({.code = 0, .signal = SIGSEGV, .oom = false});
    case Fate::RunsOutOfMemory:
      return exit({.code = 0, .signal = SIGKILL, .oom = true});
    case Fate::RepliesGarbage:
      return reply(refuse(reason::kBadReply, "the instance's reply is malformed: unknown status"));
    default:
      return reply();
  }
}

void FakeInstance::reply(Result<Reply> reply) {
  CHECK(busy() && !gone_);
  running_.cancel();
  cpu_ += spawner_.script(label_).run * static_cast<std::int64_t>(burst_.size());
  Replies replies;
  for (std::size_t i = 1; i < burst_.size(); ++i) replies.emplace_back(Reply{});
  replies.insert(replies.begin(), std::move(reply));
  burst_.clear();
  events_.on_replies(std::move(replies));
}

void FakeInstance::reply_unrung() {
  CHECK(busy() && !gone_);
  burst_.erase(burst_.begin());
  ++unrung_;
}

void FakeInstance::exit(Exit how) {
  if (gone_) return;
  gone_ = true;
  starting_.cancel();
  running_.cancel();
  dying_.cancel();
  events_.on_exit(how);
}

void FakeInstance::kill() {
  killed_ = true;
  starting_.cancel();
  running_.cancel();
  if (!gone_) dying_.arm_in({});
}

Bytes FakeInstance::peak_memory() const { return spawner_.script(label_).instance_bytes; }

// ---- Templates ----------------------------------------------------------------------------------

FakeTemplate::FakeTemplate(FakeSpawner& spawner, TemplateSpec spec, TemplateEvents events,
                           Origin origin)
    : spawner_(spawner),
      spec_(std::move(spec)),
      events_(std::move(events)),
      building_(spawner.loop_, [this, origin] {
        const Script& script = spawner_.script(spec_.label);
        const bool given = origin == Origin::Given;
        if (given && script.unfit) return events_.on_ready(std::unexpected(*script.unfit));
        if (script.template_fails) return events_.on_ready(std::unexpected(*script.template_fails));
        ready_ = true;
        events_.on_ready(
            TemplateReady{.build = script.build, .private_bytes = script.template_bytes});
      }) {
  spawner_.templates_.push_back(this);
  const bool given = origin == Origin::Given;
  building_.arm_in(given ? Duration{} : spawner_.script(spec_.label).build);
}

FakeTemplate::~FakeTemplate() { std::erase(spawner_.templates_, this); }

Result<std::unique_ptr<Instance>> FakeTemplate::fork(InstanceEvents events) {
  CHECK(ready_);
  if (const auto& refusal = spawner_.script(spec_.label).refuses_fork) {
    return std::unexpected(*refusal);
  }
  ++spawner_.forks_;
  return std::make_unique<FakeInstance>(spawner_, spec_.label, std::move(events));
}

void FakeTemplate::lose(Exit how) {
  CHECK(ready_);
  ready_ = false;
  events_.on_lost(how);
}

// ---- Environments -------------------------------------------------------------------------------

FakeEnvironment::FakeEnvironment(FakeSpawner& spawner, EnvironmentSpec spec, TemplateEvents events)
    : spawner_(spawner),
      spec_(std::move(spec)),
      events_(std::move(events)),
      building_(spawner.loop_, [this] {
        const Script& script = spawner_.script(spec_.label);
        if (script.template_fails) return events_.on_ready(std::unexpected(*script.template_fails));
        ready_ = true;
        events_.on_ready(
            TemplateReady{.build = script.build, .private_bytes = script.template_bytes});
      }) {
  spawner_.environments_.push_back(this);
  building_.arm_in(spawner_.script(spec_.label).build);
}

FakeEnvironment::~FakeEnvironment() { std::erase(spawner_.environments_, this); }

Result<std::unique_ptr<Template>> FakeEnvironment::give(TemplateSpec spec, TemplateEvents events) {
  CHECK(ready_);
  ready_ = false;
  ++spawner_.given_;
  return std::make_unique<FakeTemplate>(spawner_, std::move(spec), std::move(events),
                                        FakeTemplate::Origin::Given);
}

void FakeEnvironment::lose(Exit how) {
  CHECK(ready_);
  ready_ = false;
  events_.on_lost(how);
}

// ---- The spawner --------------------------------------------------------------------------------

Result<std::unique_ptr<Template>> FakeSpawner::start_template(TemplateSpec spec,
                                                              TemplateEvents events) {
  if (refuses_) return std::unexpected(*refuses_);
  ++templates_started_;
  return std::make_unique<FakeTemplate>(*this, std::move(spec), std::move(events));
}

Result<std::unique_ptr<EnvironmentTemplate>> FakeSpawner::start_environment(EnvironmentSpec spec,
                                                                            TemplateEvents events) {
  if (refuses_) return std::unexpected(*refuses_);
  ++environments_started_;
  return std::make_unique<FakeEnvironment>(*this, std::move(spec), std::move(events));
}

std::vector<FakeInstance*> FakeSpawner::instances(const std::string& label) const {
  std::vector<FakeInstance*> found;
  for (FakeInstance* instance : instances_) {
    if (instance->label() == label) found.push_back(instance);
  }
  return found;
}

}  // namespace mayfly
