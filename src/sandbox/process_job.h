// A job's jail, seen from the server. Kept by the spawner until it is reaped. Loop thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "async/loop.h"
#include "async/timer.h"
#include "sandbox/job.h"
#include "sandbox/process_jail.h"

namespace mayfly {

class JobJail {
 public:
  struct Limits {
    Duration timeout;
    std::size_t messages;
  };
  // `on_end` is my last act: it destroys me.
  JobJail(Loop& loop, JailProcess::Making making, Limits limits, JobEvents events,
          std::function<void()> on_end);

  Status start(BlankProcess& blank, std::function<void(std::string_view line)> on_log);
  void kill() { jail_.kill(); }
  void send(std::string_view text, Fd descriptor);
  void abandon();  // the handle is gone
  void end_now() { jail_.end_now(); }

 private:
  bool handle_control();
  void handle_text(std::string_view text);
  void handle_end(const JailProcess::Ended& ended);

  JobEvents events_;
  std::function<void()> on_end_;
  Limits limits_;
  Timer timer_;
  std::optional<Error> complaint_;  // why there is no jail, or was one no longer
  std::size_t messages_ = 0;
  bool timed_out_ = false;
  bool abandoned_ = false;
  JailProcess jail_;
};

}  // namespace mayfly
