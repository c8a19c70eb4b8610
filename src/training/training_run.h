// One slice of a training, from its log to its end or to an interruption (training_slices.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/cancel.h"
#include "async/task.h"
#include "base/result.h"
#include "search/halving.h"
#include "training/outcome.h"
#include "training/search_log.h"
#include "training/train_plan.h"
#include "training/training_slices.h"
#include "training/trial_points.h"

namespace mayfly {

class TrainingRun {
 public:
  // Both outlive me.
  TrainingRun(const TrainingSlices::Parts& parts, SliceAsk& ask);

  Task<SliceOutcome> run();

 private:
  // A job that is a part of this one, as it ended.
  struct Part {
    JobRecord job;
    std::vector<JobFile> files;  // of its result
    const JobFile* find(std::string_view name) const;
    // What a longer training goes on from.
    std::vector<JobFile> checkpoint() const;
  };
  struct PartAsk {
    std::string part;  // its name, from which its id follows
    JobKind kind = JobKind::Trial;
    std::string detail;
    std::vector<JobFile> inputs;
    std::uint32_t threads = 1;
  };
  // What the platform's one look at the test split showed.
  struct Scored {
    Part part;
    ScoreResult result;
    TestLookResult look;
  };

  Task<Result<JobStore::SliceResult>> work(Pin& pin);
  Task<Status> bring_trainer();
  Task<Result<Verdict>> search();
  Task<Status> run_rungs(search::Halving& live);
  Task<Status> begin(search::Work work);
  Task<Status> collect(search::Halving& live);
  Task<Status> drop_all_but_control();
  Task<Status> refresh();
  Status check_control(const TrialEnd& end) const;
  TrialEnd end_of(const search::Work& work, const JobRecord& job) const;
  Task<Result<Part>> model_of(const TrialEnd& best);
  Task<Result<std::optional<Part>>> train_baseline();
  Task<Result<std::optional<Scored>>> look(const Part& model, const std::optional<Part>& baseline);
  Task<Result<Json>> enroll(const Part& model, const std::optional<Scored>& scored, Json result);
  Result<ScoreJob> score_job(const Part& model, bool baseline, std::uint32_t looks) const;
  Result<std::vector<JobFile>> result_files(const Part& model, Pin& pin) const;
  Json result_of(const Verdict& verdict, const Part& model, const std::optional<Scored>& scored,
                 const Conclusion& conclusion, const Json& params) const;
  Json describe_baselines(const std::optional<Part>& linear,
                          const std::optional<Scored>& scored) const;

  std::string detail_of(const TrainJob& job) const;
  TrainJob trial_job(const search::Work& work, Json params) const;
  Task<Json> params_of(std::uint32_t trial);
  std::optional<search::Work> next_of(search::Halving& live);
  std::optional<search::Work> next_of_control(search::Halving& live);
  Task<Status> submit(PartAsk wanted);
  Task<Result<Part>> finish(std::string part);  // waits for its end; an error when it failed
  Task<Result<Part>> part_of_id(std::string id);
  Task<void> wait(std::uint64_t seen);
  void say();
  bool interrupted() const { return ask_.kill.cancelled() || ask_.stop.cancelled(); }
  std::unexpected<Error> interruption() const;
  Duration elapsed() const;
  std::size_t expected() const;

  const TrainingSlices::Parts& parts_;
  SliceAsk& ask_;
  std::string id_;
  TimePoint began_;
  Duration before_{};  // at work, before this slice
  CancelSource wake_;
  CancelCallback killed_, stopped_;
  TrainPlan plan_;
  SearchLog log_;
  TrialPoints points_{plan_};
  std::optional<search::Work> held_;             // until what its configuration hangs on has ended
  std::map<std::string, search::Work> running_;  // trials, by job
  double cost_ = 0;
  Duration cpu_{};
  double begun_ = 0;         // of the trials at work
  std::string current_;      // what one of them says
  std::string phase_;        // empty: the search
  std::string no_baseline_;  // why there is none
};

}  // namespace mayfly
