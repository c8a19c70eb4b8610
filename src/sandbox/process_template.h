// A template's jail with its instances, seen from the server. Kept by the spawner until nothing
// runs in it: the template may go first, the handles of template and instances may go earlier. Loop
// thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "async/loop.h"
#include "async/timer.h"
#include "sandbox/process_instance.h"
#include "sandbox/process_jail.h"
#include "sandbox/spawner.h"

namespace mayfly {

class TemplateJail {
 public:
  struct Limits {
    Bytes max_reply;
    Duration start_timeout{};
  };
  // A jail whose plan awaits a version is an environment template at first. `on_end` is my last
  // act: it destroys me.
  TemplateJail(Loop& loop, JailProcess::Making making, std::shared_ptr<const Signature> signature,
               Limits limits, TemplateEvents events, std::function<void()> on_end);

  Status start(BlankProcess& blank, std::function<void(std::string_view line)> on_log);
  Result<std::shared_ptr<InstanceProcess>> fork(InstanceEvents events);
  // Of a ready environment template: it becomes a version's.
  struct Version {
    std::shared_ptr<const Signature> signature;
    Limits limits;
    TemplateEvents events;
    JailProcess::Fitting fitting;
  };
  // `self`: me.
  static Status give(const std::shared_ptr<TemplateJail>& self, BlankProcess& blank,
                     Version version);
  // The handle is gone: the template ends, the instances go on.
  void evict();
  void kill() { jail_.kill(); }
  void end_now() { jail_.end_now(); }

 private:
  // Waiting: for a version. Fitting: it is given one, and told when that is done.
  enum class State : std::uint8_t { Waiting, Fitting, Building, Ready, Lost };

  bool handle_control();
  void handle_message(SpawnMessage message);
  void handle_ready();
  void handle_fitted(const Status& fitted);
  Error why_not_started(const Exit& exit) const;
  void handle_template_gone();
  void handle_exit_report(const JailExit& report);
  void keep_if_early(const JailExit& report);
  void handle_end(const JailProcess::Ended& ended);
  void fail_start(Error error);
  void lose(Exit exit);
  void end_if_idle();
  std::vector<std::shared_ptr<InstanceProcess>> all_instances() const;

  Loop& loop_;
  std::shared_ptr<const Signature> signature_;
  Limits limits_;
  TemplateEvents events_;
  std::function<void()> on_end_;
  TimePoint asked_;
  Timer start_timer_;
  std::string complaint_;
  std::string unfit_;  // why an environment template cannot be the version's
  State state_ = State::Building;
  bool answered_ = false;  // on_ready was called
  bool evicted_ = false;
  // Which part it plays, or what it was before it was a version's.
  enum class Origin : std::uint8_t { Artifact, Environment, Given } origin_ = Origin::Artifact;
  std::uint64_t next_id_ = 1;
  JailProcess jail_;
  std::map<std::uint64_t, std::shared_ptr<InstanceProcess>> instances_;
  std::vector<JailExit> early_exits_;
};

}  // namespace mayfly
