// What publishing hands back from the jail: /work/report.json, and beside it the compiled folder,
// /work/out (runner/load_plan.h says what is in it). The server trusts none of it: the decoder is
// strict, bounded and does no I/O.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "core/tensor.h"
#include "runner/load_plan.h"

namespace mayfly {

inline constexpr std::size_t kMaxReport = 1024 * 1024;

// Of a Python function that forks, in the compiled folder: what it had imported when it was
// published, a module a line. Opaque to the server, which hands it to environment templates.
inline constexpr const char* kImportsFile = "imports.txt";

// Prepacking copies weights into the layout the kernels like best: faster runs for some models,
// slower loads and private bytes for all.
enum class Prepacking : std::uint8_t { Off, On };

std::string_view to_string(ModelForm form);
std::string_view to_string(Optimise level);

// One form of the model, and what it costs. With `skipped` set it was not measured, and this is
// why.
struct Candidate {
  ModelForm form = ModelForm::Onnx;
  Prepacking prepacking = Prepacking::Off;
  Duration load{};        // file to session, median
  Duration first_run{};   // the first run of a fresh session
  Duration warm_run{};    // median of many
  Bytes private_bytes{};  // heap of a session after it ran; 0: not measured
  Bytes artifact_bytes{};
  std::string skipped = {};
  bool operator==(const Candidate&) const = default;
};

// What the model was tried on. `accepted`: it answered; otherwise `message` says why not.
// None: it was not tried.
enum class TrialInput : std::uint8_t { Example, Generated, None };
std::string_view to_string(TrialInput input);
struct Trial {
  TrialInput input = TrialInput::Generated;
  bool accepted = false;
  std::string message;
  std::uint64_t output_bytes = 0;
  bool operator==(const Trial&) const = default;
};

struct CompiledFile {
  std::string path;  // inside /work/out
  std::uint64_t size = 0;
  bool operator==(const CompiledFile&) const = default;
};

struct Report {
  std::string runtime_version;  // of ONNX Runtime, or of Python
  Signature signature;
  bool session_after_fork = false;
  bool documents = false;  // a function without types
  bool streams = false;    // a function that is a generator
  // Of a function: what it has of predict, run and train. Empty: it does not say.
  std::vector<std::string> entries = {};
  Optimise optimisation = Optimise::All;
  Trial trial;
  std::vector<Candidate> candidates;
  std::uint32_t chosen = 0;        // index in candidates
  std::uint64_t weight_bytes = 0;  // of all initialisers
  std::vector<std::string> notes;  // what the deployer should know, one sentence each
  std::vector<CompiledFile> files;
  bool operator==(const Report&) const = default;
};

// The model, not the machine, is the reason that there is no artifact: `reason` is a slug of the
// catalogue.
struct Refusal {
  std::string reason;
  std::string message;
  bool operator==(const Refusal&) const = default;
};

using PublishOutcome = std::variant<Report, Refusal>;
std::string to_json(const PublishOutcome& outcome);
// `json` comes from the jail. What passes is well-formed: names and files within bounds, `chosen` a
// measured candidate, a reason that the catalogue knows for a refusal.
Result<PublishOutcome> parse_outcome(std::string_view json);

}  // namespace mayfly
