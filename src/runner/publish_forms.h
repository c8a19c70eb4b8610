// Making the forms of a model and measuring them, each in a child of its own.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "runner/load_plan.h"
#include "runner/onnx_runtime.h"
#include "runner/publish.h"
#include "runner/publish_model.h"
#include "runner/publish_trial.h"
#include "runner/report/report.h"

namespace mayfly {

// What every step needs; all outlive it.
struct PublishContext {
  const OnnxRuntime& runtime;
  const PublishJob& job;
  const BaseModel& base;
  Path scratch;  // a folder of the job's own
};

// The original's answers, which every form must give.
struct Tried {
  Signature signature;  // completed by what the runs showed
  Trial trial;
  std::vector<TrialTensors> inputs;  // those that were accepted
  std::vector<TrialTensors> outputs;
  std::vector<std::string> notes;
};

// Loads the original and runs it on the example, or on generated inputs. Reasons: invalid_model
// when it does not load, invalid_input when it refuses the example, publish_failed when it crashed
// or took too long.
Result<Tried> try_original(const PublishContext& context,
                           const std::optional<TrialTensors>& example);

// Writes a form into `folder`, complete with load.json and warmup.bin.
struct FormSpec {
  ModelForm form = ModelForm::Onnx;
  Optimise level = Optimise::All;
  Path folder;
};
Status make_form(const PublishContext& context, const Tried& tried, const FormSpec& spec);
// Only load.json, for a form that is there.
Status write_load_plan(const Tried& tried, const FormSpec& spec, Prepacking prepacking);

// An Error: the form did not load, or answers otherwise than the original; the message says which.
Result<Candidate> measure_form(const PublishContext& context, const Tried& tried,
                               const FormSpec& spec, Prepacking prepacking);

// Why this form is not even tried: memory. Empty: it fits.
std::string does_not_fit(const PublishContext& context, ModelForm form, Prepacking prepacking);

}  // namespace mayfly
