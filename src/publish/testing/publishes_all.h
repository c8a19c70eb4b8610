// The jail of publishing, played: every model and every function is found good.
#pragma once

#include <memory>
#include <string>

#include "async/loop.h"
#include "base/clock.h"
#include "sandbox/job.h"

namespace mayfly {

class PublishesAll final : public JobRunner {
 public:
  explicit PublishesAll(Loop& loop) : loop_(loop) {}
  Result<std::unique_ptr<Job>> run_job(JobSpec spec, JobEvents events) override;

  // What is found, next.
  Duration run = std::chrono::microseconds(100);  // of a model, warm
  std::string input = "x";
  bool fails = false;  // the jail cannot be made
  int runs = 0;

 private:
  Loop& loop_;
};

}  // namespace mayfly
