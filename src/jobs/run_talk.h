// What a slice says while it runs and what becomes of it: progress, metrics, and checkpoints, which
// are kept as they come (runner/report/run_job.h). Loop thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "async/gate.h"
#include "async/task.h"
#include "base/file.h"
#include "base/result.h"
#include "core/json_reader.h"
#include "jobs/slice.h"
#include "jobs/slice_jail.h"
#include "publish/source_folder.h"

namespace mayfly {

inline constexpr const char* kStopMessage = R"({"stop":true})";

class RunTalk {
 public:
  // `work`: the slice's folder. All outlive me.
  RunTalk(SliceAsk& ask, const SliceParts& parts, Path work);

  // Runs the slice to its end, and everything that it wanted kept.
  // `due_message`: what it is told when its time is over.
  Task<Result<JobEnd>> run(JobSpec spec, std::string due_message = kStopMessage);
  const SliceJail& jail() const { return jail_; }
  bool kept() const { return kept_; }  // a checkpoint, at least
  const std::vector<JobFile>& last_kept() const { return last_kept_; }

 private:
  void answer(std::string_view text);
  Task<void> keep(std::string folder);
  void say();

  SliceAsk& ask_;
  const SliceParts& parts_;
  Path work_;
  SliceJail jail_;
  Gate gate_;  // of what is being kept
  JobProgress progress_;
  Json metrics_ = Json::object();
  std::vector<JobFile> last_kept_;
  bool keeping_ = false;
  bool kept_ = false;
  TimePoint said_{};
};

// The files of the job's last checkpoint, as they are laid out for its next slice.
std::vector<SourceFile> checkpoint_sources(const SliceAsk& ask, const SliceParts& parts);

// Puts what a jail left in a folder into the store, and removes the folder. Blocking.
Result<std::vector<JobFile>> take_folder(const SliceParts& parts, const Path& folder, FileRole role,
                                         Pin& pin);

}  // namespace mayfly
