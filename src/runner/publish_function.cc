#include "runner/publish_function.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include "core/reason.h"
#include "runner/publish_child.h"
#include "runner/publish_trial.h"
#include "runner/python_function.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

constexpr Duration kImportLimit = 10min;  // the job's own time-out is nearer
constexpr std::size_t kMostRuns = 20;
constexpr Duration kEnough = 300ms;

Duration since(Steady::time_point begin) { return Steady::now() - begin; }

// A document as the function gets it over every protocol but its own: an element of BYTES.
TrialTensor element(std::uint32_t index, std::string_view text) {
  TrialTensor tensor{.index = index, .type = DataType::Bytes, .shape = {1}, .bytes = {}};
  const auto length = static_cast<std::uint32_t>(text.size());
  const auto prefix = std::as_bytes(std::span(&length, 1));
  const auto content = std::as_bytes(std::span(text));
  tensor.bytes.assign(prefix.begin(), prefix.end());
  tensor.bytes.insert(tensor.bytes.end(), content.begin(), content.end());
  return tensor;
}

Result<TrialTensors> example_of(std::string_view text, const FunctionFacts& facts) {
  if (!facts.takes_documents) return parse_example(text, facts.signature);
  return TrialTensors{element(0, text), element(1, "application/json")};
}

// An example that its own function fails on is a deploy that would fail.
std::unexpected<Error> bad_example(const Error& error) {
  return refuse(reason::kInvalidModel, fmt::format("the example fails: {}", error.message));
}

// A trial calls no other function.
bool stopped_at_call(const Error& error) { return error.reason == reason::kUnsupported; }

class Trying {
 public:
  Trying(const PublishJob& job, const Path& source, const Path& out)
      : job_(job), source_(source), out_(out) {}

  // In the child.
  Status run(const ChildSay& say) {
    TRY(import());
    TRY(run_example());
    TRY(try_fork());
    report_.files = {{"function.json", 1}};  // what is there is listed when it is sealed
    say(to_json(PublishOutcome(report_)));
    return {};
  }

 private:
  Status import() {
    const auto begin = Steady::now();
    function_ = TRY(load_python_function(source_, *job_.function, job_.threads));
    const FunctionFacts& facts = function_->facts();
    report_.runtime_version = facts.python;
    report_.signature = facts.signature;
    report_.documents = facts.takes_documents;
    report_.streams = facts.streams;
    report_.entries = facts.entries;
    report_.optimisation = Optimise::None;
    report_.trial.input = TrialInput::None;
    report_.candidates = {Candidate{.form = ModelForm::Python, .load = since(begin)}};
    return {};
  }

  Status run_example() {
    const auto text = TRY(read_example_text(job_.example, source_));
    if (!text) {
      report_.notes.emplace_back(
          "there is no example.json: the function was imported, not run. With one, each deploy "
          "tries it, and starts are warmed with it");
      return {};
    }
    example_ = TRY(example_of(*text, function_->facts()));
    const auto begin = Steady::now();
    const auto outputs = answer();
    if (!outputs && stopped_at_call(outputs.error())) return note_call(outputs.error());
    if (!outputs) return bad_example(outputs.error());
    Candidate& measured = report_.candidates.front();
    measured.first_run = since(begin);
    measured.warm_run = warm_run(measured.first_run);
    report_.trial = {.input = TrialInput::Example, .accepted = true, .message = {}};
    for (const TrialTensor& output : *outputs) report_.trial.output_bytes += output.bytes.size();
    return write_warmup(example_, report_.signature, out_);
  }

  // What it did until then is worth warming.
  Status note_call(const Error& stopped) {
    report_.trial = {.input = TrialInput::Example, .accepted = true, .message = stopped.message};
    report_.notes.push_back(fmt::format(
        "the example was tried up to the first call: {}. What comes after it first runs with a "
        "request",
        stopped.message));
    return write_warmup(example_, report_.signature, out_);
  }

  Result<TrialTensors> answer() { return run_trial(*function_, report_.signature, example_); }

  Duration warm_run(Duration first) {
    std::vector<Duration> runs;
    const auto begin = Steady::now();
    while (first < kEnough && runs.size() < kMostRuns && since(begin) < kEnough) {
      const auto start = Steady::now();
      if (!answer()) break;
      runs.push_back(since(start));
    }
    if (runs.empty()) return first;
    std::ranges::sort(runs);
    return runs[runs.size() / 2];
  }

  // As the template will do it: loaded, warm, then forked.
  Status try_fork() {
    const ChildLimits limits{
        .first = job_.timeout, .next = job_.timeout, .birth = ChildLimits::Birth::Clone};
    function_->before_fork();
    const auto survived = run_in_child(limits, [this](const ChildSay&) -> Status {
      function_->after_fork_in_child();
      if (example_.empty()) return {};
      const auto outputs = answer();
      if (outputs || stopped_at_call(outputs.error())) return {};
      return std::unexpected(outputs.error());
    });
    function_->after_fork_in_parent();
    if (survived) return note_imports();
    report_.session_after_fork = true;
    report_.notes.push_back(fmt::format(
        "it does not survive a fork ({}), as packages with threads or open handles do not: each "
        "instance imports and loads it anew, so its start takes as long as that",
        survived.error().message.substr(0, 500)));
    return {};
  }

  // For environment templates.
  Status note_imports() {
    const std::string imports = function_->imports();
    return imports.empty() ? Status() : write_file(out_ / kImportsFile, imports);
  }

  const PublishJob& job_;
  const Path& source_;
  const Path& out_;
  std::unique_ptr<PythonFunction> function_;
  TrialTensors example_;
  Report report_;
};

std::uint64_t bytes_in(const Path& folder) {
  std::uint64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder, error)) {
    if (entry.is_regular_file(error)) bytes += entry.file_size(error);
  }
  return bytes;
}

Result<Report> publish_checked(const PublishJob& job, const Path& source, const Path& work,
                               const PublishProgress& progress) {
  const Path out = work / "out";
  TRY(make_directories(out));
  progress("import", job.function->handler);
  Trying trying(job, source, out);
  const auto tried = run_in_child({.first = kImportLimit, .next = kImportLimit},
                                  [&](const ChildSay& say) { return trying.run(say); });
  if (!tried) {
    // What it complains of names the place; how a process ended does not.
    if (tried.error().reason != reason::kPublishFailed) return std::unexpected(tried.error());
    return refuse(reason::kPublishFailed,
                  fmt::format("importing {} {}", job.function->handler, tried.error().message));
  }
  const std::vector<std::string>& lines = *tried;
  if (lines.size() != 1) return refuse(reason::kPublishFailed, "the trial told nothing");
  PublishOutcome outcome = TRY(parse_outcome(lines.front()));
  auto* report = std::get_if<Report>(&outcome);
  if (report == nullptr) return refuse(reason::kPublishFailed, "the trial told no report");
  progress("seal", "");
  TRY(write_file(out / "function.json", to_json(*job.function)));
  report->files = TRY(seal(out));
  report->candidates.front().artifact_bytes = {bytes_in(source)};
  return std::move(*report);
}

}  // namespace

Result<PublishOutcome> publish_function(const PublishJob& job, const Path& source, const Path& work,
                                        const PublishProgress& progress) {
  return outcome_of(publish_checked(job, source, work, progress));
}

}  // namespace mayfly
