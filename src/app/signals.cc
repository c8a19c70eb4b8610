#include "app/signals.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <utility>

namespace mayfly {

Result<std::unique_ptr<StopSignals>> StopSignals::create(Loop& loop,
                                                         std::move_only_function<void()> on_stop) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  if (::pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) return fail_errno("block signals");
  if (std::signal(SIGPIPE, SIG_IGN) == SIG_ERR) return fail_errno("ignore SIGPIPE");
  Fd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return fail_errno("signalfd");
  std::unique_ptr<StopSignals> owner(new StopSignals(std::move(signals)));
  owner->on_stop_ = std::move(on_stop);
  owner->watch_ = std::make_unique<Watch>(
      loop, owner->signals_.get(), Trigger::Readable, [self = owner.get()](Ready) {
        signalfd_siginfo info{};
        if (::read(self->signals_.get(), &info, sizeof(info)) == sizeof(info)) self->on_stop_();
      });
  return owner;
}

}  // namespace mayfly
