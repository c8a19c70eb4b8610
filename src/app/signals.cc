#include "app/signals.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <utility>

namespace mayfly {
namespace {

// A process whose terminal has hung up cannot open it any more (tty(4)).
bool has_terminal() { return static_cast<bool>(Fd(::open("/dev/tty", O_RDWR | O_CLOEXEC))); }

}  // namespace

Signals::Signals(Fd signals) : signals_(std::move(signals)), had_terminal_(has_terminal()) {}

Result<std::unique_ptr<Signals>> Signals::create(Loop& loop,
                                                 std::move_only_function<void()> on_stop) {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
  if (::pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) return fail_errno("block signals");
  if (std::signal(SIGPIPE, SIG_IGN) == SIG_ERR) return fail_errno("ignore SIGPIPE");
  Fd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return fail_errno("signalfd");
  std::unique_ptr<Signals> owner(new Signals(std::move(signals)));
  owner->on_stop_ = std::move(on_stop);
  owner->watch_ = std::make_unique<Watch>(
      loop, owner->signals_.get(), Trigger::Readable, [self = owner.get()](Ready) {
        signalfd_siginfo info{};
        if (::read(self->signals_.get(), &info, sizeof(info)) == sizeof(info)) {
          self->take(info.ssi_signo);
        }
      });
  return owner;
}

void Signals::take(std::uint32_t number) {
  if (number != SIGHUP || (had_terminal_ && !has_terminal())) {
    on_stop_();
  } else if (on_reload_) {
    on_reload_();
  }
}

}  // namespace mayfly
