#include "async/loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "async/timer.h"
#include "async/watch.h"
#include "base/check.h"

namespace mayfly {

// Bounds how long one turn can be, and so how long a group commit gathers.
constexpr int kEventsPerTurn = 256;

struct Loop::Events {
  std::array<epoll_event, kEventsPerTurn> batch;
  int handled = 0;
  int count = 0;
};

// A spawned task's frame: linked into the loop from its start to its end.
struct Loop::DetachedFrame : Hook {
  std::coroutine_handle<> frame;
};

struct Loop::Detached {
  struct promise_type : DetachedFrame {
    promise_type(Loop& loop, Task<void>&) {
      frame = std::coroutine_handle<promise_type>::from_promise(*this);
      loop.spawned_.push_back(*this);
    }
    Detached get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept {
      check_failed("no exception leaves a coroutine", __FILE__, __LINE__);
    }
  };
};

Loop::Loop() : Loop(system_clock_) {}

Loop::Loop(const Clock& clock)
    : clock_(clock),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      wakeup_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      events_(std::make_unique<Events>()) {
  CHECK(epoll_ && wakeup_);  // a process that cannot have these cannot start
  turn_time_ = clock_.now();
  // Edge-triggered: each write is a new edge, so that the counter need never be read back.
  epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.ptr = nullptr}};
  CHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wakeup_.get(), &event) == 0);
}

Loop::~Loop() {
  while (!spawned_.empty()) spawned_.pop_front().frame.destroy();
}

void Loop::run() {
  while (!stopping_.exchange(false, std::memory_order_acq_rel)) turn(Wait::UntilEvent);
}

void Loop::run_until(const bool& done) {
  while (!done) turn(Wait::UntilEvent);
}

void Loop::poll() {
  while (turn(Wait::Never)) {
  }
}

void Loop::stop() {
  stopping_.store(true, std::memory_order_release);
  wake();
}

void Loop::post(Function function) {
  {
    const std::scoped_lock lock(posted_mutex_);
    posted_.push_back(std::move(function));
  }
  if (!has_posted_.exchange(true, std::memory_order_acq_rel)) wake();
}

void TurnEnd::request() {
  if (!linked()) loop_.turn_ends_.push_back(*this);
}

Loop::Detached Loop::detach(Task<void> task) { co_await std::move(task); }

void Loop::spawn(Task<void> task) { detach(std::move(task)); }

Task<void> Loop::store_done(Task<void> task, bool& done) {
  co_await std::move(task);
  done = true;
}

void Loop::wake() {
  const std::uint64_t one = 1;
  // Cannot fail but for a full counter, and then a wake-up is pending anyway.
  (void)!::write(wakeup_.get(), &one, sizeof one);
}

bool Loop::turn(Wait wait) {
  const int count = wait_for_events(wait);
  turn_time_ = clock_.now();
  bool busy = fire_timers();
  busy |= handle_events(count);
  busy |= run_posted();
  busy |= run_ready();
  if (run_turn_ends()) {
    busy = true;
    run_ready();
  }
  return busy;
}

std::optional<Duration> Loop::wait_limit() const {
  if (!ready_.empty() || !turn_ends_.empty()) return Duration::zero();
  if (has_posted_.load(std::memory_order_acquire)) return Duration::zero();
  if (timers_.empty()) return std::nullopt;
  return std::max(timers_.front()->key_ - clock_.now(), Duration::zero());
}

int Loop::wait_for_events(Wait wait) {
  const std::optional<Duration> limit =
      wait == Wait::Never ? std::optional(Duration::zero()) : wait_limit();
  timespec timeout{};
  if (limit) {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(*limit);
    timeout = {.tv_sec = seconds.count(), .tv_nsec = (*limit - seconds).count()};
  }
  const int count = ::epoll_pwait2(epoll_.get(), events_->batch.data(), kEventsPerTurn,
                                   limit ? &timeout : nullptr, nullptr);
  CHECK(count >= 0 || errno == EINTR);
  return std::max(count, 0);
}

bool Loop::handle_events(int count) {
  Events& events = *events_;
  events.count = count;
  bool busy = false;
  for (events.handled = 0; events.handled < events.count;) {
    const epoll_event event = events.batch[static_cast<std::size_t>(events.handled++)];
    // Null: the wake-up descriptor, or a watch that an earlier callback destroyed.
    if (event.data.ptr == nullptr) continue;
    const bool hangup = (event.events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0;
    static_cast<Watch*>(event.data.ptr)
        ->fire({.readable = hangup || (event.events & EPOLLIN) != 0,
                .writable = (event.events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0,
                .hangup = hangup});
    busy = true;
  }
  events.count = 0;
  return busy;
}

bool Loop::run_posted() {
  if (!has_posted_.exchange(false, std::memory_order_acq_rel)) return false;
  std::vector<Function> functions;
  {
    const std::scoped_lock lock(posted_mutex_);
    functions.swap(posted_);
  }
  for (Function& function : functions) function();
  return !functions.empty();
}

bool Loop::run_ready() {
  const bool busy = !ready_.empty();
  while (!ready_.empty()) ready_.pop_front().handle.resume();
  return busy;
}

bool Loop::run_turn_ends() {
  if (turn_ends_.empty()) return false;
  HookList<TurnEnd> requested;
  requested.splice(turn_ends_);
  while (!requested.empty()) requested.pop_front().function_();
  return true;
}

// --- timers ---

void Loop::timer_place(Timer& timer, std::size_t index) {
  timers_[index] = &timer;
  timer.index_ = index;
}

void Loop::timer_up(std::size_t index) {
  Timer& timer = *timers_[index];
  while (index > 0) {
    const std::size_t parent = (index - 1) / 2;
    if (timers_[parent]->key_ <= timer.key_) break;
    timer_place(*timers_[parent], index);
    index = parent;
  }
  timer_place(timer, index);
}

void Loop::timer_down(std::size_t index) {
  Timer& timer = *timers_[index];
  while (true) {
    std::size_t child = 2 * index + 1;
    if (child >= timers_.size()) break;
    if (child + 1 < timers_.size() && timers_[child + 1]->key_ < timers_[child]->key_) ++child;
    if (timer.key_ <= timers_[child]->key_) break;
    timer_place(*timers_[child], index);
    index = child;
  }
  timer_place(timer, index);
}

void Loop::timer_schedule(Timer& timer) {
  timer.key_ = timer.deadline_;
  if (timer.index_ == Timer::kNotQueued) {
    timers_.push_back(&timer);
    timer.index_ = timers_.size() - 1;
  }
  timer_up(timer.index_);
}

void Loop::timer_remove(Timer& timer) {
  const std::size_t hole = std::exchange(timer.index_, Timer::kNotQueued);
  Timer& last = *timers_.back();
  timers_.pop_back();
  if (&last == &timer) return;
  timer_place(last, hole);
  timer_up(hole);
  timer_down(last.index_);
}

bool Loop::fire_timers() {
  bool busy = false;
  // Bounded by what was there at the start: a callback that re-arms for now waits for the next
  // turn.
  for (std::size_t left = timers_.size(); left > 0 && !timers_.empty(); --left) {
    Timer& timer = *timers_.front();
    if (timer.key_ > turn_time_) break;
    if (timer.armed() && timer.deadline_ > turn_time_) {
      timer.key_ = timer.deadline_;
      timer_down(0);
      continue;
    }
    timer_remove(timer);
    if (!timer.armed()) continue;
    timer.fire();
    busy = true;
  }
  return busy;
}

Timer::Timer(Loop& loop, std::move_only_function<void()> callback)
    : loop_(loop), callback_(std::move(callback)) {}

Timer::~Timer() {
  if (index_ != kNotQueued) loop_.timer_remove(*this);
  if (destroyed_ != nullptr) *destroyed_ = true;
}

void Timer::arm(TimePoint deadline) {
  deadline_ = deadline;
  if (deadline == kNever) return;
  if (index_ == kNotQueued || deadline < key_) loop_.timer_schedule(*this);
}

void Timer::fire() {
  deadline_ = kNever;
  bool destroyed = false;
  destroyed_ = &destroyed;
  // Moved out while it runs, so that it may destroy the timer and with it the member.
  auto callback = std::move(callback_);
  callback();
  if (destroyed) return;
  destroyed_ = nullptr;
  callback_ = std::move(callback);
}

// --- descriptors ---

void Loop::watch_add(Watch& watch) {
  epoll_event event{.events = EPOLLIN | EPOLLRDHUP, .data = {.ptr = &watch}};
  if (watch.trigger_ == Trigger::Edge) event.events |= EPOLLOUT | EPOLLET;
  CHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, watch.fd_, &event) == 0);
}

void Loop::watch_remove(Watch& watch) {
  CHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, watch.fd_, nullptr) == 0);
  for (int i = events_->handled; i < events_->count; ++i) {
    epoll_event& event = events_->batch[static_cast<std::size_t>(i)];
    if (event.data.ptr == &watch) event.data.ptr = nullptr;
  }
}

Watch::Watch(Loop& loop, int fd, Trigger trigger, std::move_only_function<void(Ready)> callback)
    : loop_(loop), fd_(fd), trigger_(trigger), callback_(std::move(callback)) {
  loop_.watch_add(*this);
}

Watch::~Watch() {
  loop_.watch_remove(*this);
  if (destroyed_ != nullptr) *destroyed_ = true;
}

void Watch::fire(Ready ready) {
  bool destroyed = false;
  destroyed_ = &destroyed;
  auto callback = std::move(callback_);
  callback(ready);
  if (destroyed) return;
  destroyed_ = nullptr;
  callback_ = std::move(callback);
}

}  // namespace mayfly
