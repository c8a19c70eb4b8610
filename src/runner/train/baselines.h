// What a guess is worth on the same rows: a model that is no better has learned nothing.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "core/json_reader.h"
#include "runner/report/score_job.h"
#include "runner/train/scoring.h"
#include "runner/train/target.h"

namespace mayfly {

// {"majority" | "mean": {"metrics"}, "last_value": {"metrics"}}, as score_job.h says; fitted on the
// target of the training rows in `source`, where there are some. {} of rankings and clusters.
Result<Json> judge_baselines(const JudgedRows& rows, const Path& source, const ScoreJob& job,
                             const ClassNames& classes);

}  // namespace mayfly
