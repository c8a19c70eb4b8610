// Watch: a callback for as long as a descriptor (socket, pidfd, eventfd, pipe) is ready. One
// epoll_ctl when it is made, one when it is destroyed, none per event.
#pragma once

#include <cstdint>
#include <functional>

#include "async/loop.h"

namespace mayfly {

// What epoll reported. A hang-up or an error also counts as readable, so that whoever reads finds
// out.
struct Ready {
  bool readable = false;
  bool writable = false;
  bool hangup = false;  // the other side closed or the connection failed
};

enum class Trigger : std::uint8_t {
  Readable,  // level-triggered: called again each turn until what is there has been read
  Edge,      // called when something new can be read or written: the callback drains, or remembers
};

class Watch {
 public:
  // `loop` and the descriptor outlive the watch (destroy the watch before closing). The callback
  // may destroy the watch.
  Watch(Loop& loop, int fd, Trigger trigger, std::move_only_function<void(Ready)> callback);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  int fd() const { return fd_; }

 private:
  friend class Loop;
  void fire(Ready ready);

  Loop& loop_;
  int fd_;
  Trigger trigger_;
  std::move_only_function<void(Ready)> callback_;
  bool* destroyed_ = nullptr;  // set while the callback runs
};

}  // namespace mayfly
