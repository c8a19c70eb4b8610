// From what a job left behind to a report or the reason why there is none. No model is parsed here;
// every byte is taken as hostile.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "core/manifest.h"
#include "runner/report/report.h"
#include "sandbox/job.h"

namespace mayfly {

struct JobStep {
  std::string step;
  std::string detail;
};

// One progress message; nullopt when it is malformed. Control characters are removed, lengths
// bounded.
std::optional<JobStep> parse_progress(std::string_view message);

// Why a job that did not end well did not: "publishing ran out of memory (publish_memory = 2GiB)
// while in step 'optimise: onnx, all'".
std::optional<Error> failure_of(const JobEnd& end, std::string_view last_step,
                                const VersionOptions& options);

// work/report.json of a job that ended well; a refusal is an Error with its reason.
Result<Report> read_report(const Path& work);

}  // namespace mayfly
