#include "async/pool.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"

namespace mayfly {

Pool::Pool(Loop& loop, const std::string& name, std::size_t threads)
    : loop_(loop),
      finished_event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      // Edge-triggered, so that the eventfd need not be read back: each write is a new edge.
      watch_(loop, finished_event_.get(), Trigger::Edge, [this](Ready) { collect(); }) {
  CHECK(threads > 0 && name.size() <= 15);
  for (std::size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { serve(); });
    (void)::pthread_setname_np(threads_.back().native_handle(), name.c_str());
  }
}

Pool::~Pool() {
  {
    const std::scoped_lock lock(mutex_);
    CHECK(queued_.empty() && finished_.empty());
    stopping_ = true;
  }
  work_arrived_.notify_all();
}

void Pool::submit(Job& job) {
  {
    const std::scoped_lock lock(mutex_);
    job.state = State::Queued;
    queued_.push_back(job);
  }
  work_arrived_.notify_one();
}

void Pool::withdraw(Job& job) {
  std::unique_lock lock(mutex_);
  work_finished_.wait(lock, [&] { return job.state != State::Running; });
  job.unlink();
}

void Pool::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_arrived_.wait(lock, [&] { return stopping_ || !queued_.empty(); });
    if (queued_.empty()) return;
    Job& job = queued_.pop_front();
    job.state = State::Running;
    lock.unlock();
    job.work();
    lock.lock();
    job.state = State::Finished;
    finished_.push_back(job);
    const std::uint64_t one = 1;
    (void)!::write(finished_event_.get(), &one, sizeof one);
    work_finished_.notify_all();
  }
}

void Pool::collect() {
  const std::scoped_lock lock(mutex_);
  while (!finished_.empty()) loop_.make_ready(finished_.pop_front().resumption);
}

}  // namespace mayfly
