#include "runner/publish.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "core/json_reader.h"
#include "core/reason.h"
#include "runner/publish_forms.h"
#include "runner/publish_function.h"
#include "runner/publish_model.h"
#include "runner/publish_sniff.h"
#include "runner/publish_trial.h"
#include "runner/python_packages.h"
#include "runner/report/choose.h"
#include "runner/report/function_training.h"
#include "runner/report/resolve_job.h"
#include "runner/report/run_job.h"
#include "runner/table_jobs.h"
#include "runner/train_jobs.h"

namespace mayfly {
namespace {

Result<std::optional<TrialTensors>> read_example(const PublishJob& job, const Path& source,
                                                 const Signature& signature) {
  const auto text = TRY(read_example_text(job.example, source));
  if (!text) return std::nullopt;
  return TRY(parse_example(*text, signature));
}

// One form made at the highest level at which it loads, runs and answers as the original does.
struct Made {
  FormSpec spec;
  Candidate candidate;  // without prepacking
};

class Publishing {
 public:
  Publishing(const PublishContext& context, const Tried& tried, const PublishProgress& progress)
      : context_(context), tried_(tried), progress_(progress) {}

  Result<Report> run() {
    const Made onnx = TRY(make_agreeing());
    add(onnx.candidate, onnx.spec);
    measure(onnx.spec, Prepacking::On);
    make_ort(onnx.spec.level);
    enforce_instance_memory();
    const auto chosen = choose(report_.candidates, {context_.base.weight_bytes});
    if (!chosen) {
      return refuse(reason::kPublishFailed, fmt::format("no form of the model can be served: {}",
                                                        report_.candidates.front().skipped));
    }
    report_.optimisation = onnx.spec.level;
    report_.chosen = static_cast<std::uint32_t>(*chosen);
    return report_;
  }

  const FormSpec& chosen_form() const { return specs_[report_.chosen]; }

 private:
  void add(const Candidate& candidate, const FormSpec& spec) {
    report_.candidates.push_back(candidate);
    specs_.push_back(spec);
  }

  Result<Made> make_agreeing() {
    constexpr std::array kLevels = {Optimise::All, Optimise::Extended, Optimise::Basic,
                                    Optimise::None};
    std::string complaint;
    for (const Optimise level : kLevels) {
      const FormSpec spec{ModelForm::Onnx, level, context_.scratch / "onnx"};
      progress_("optimise", fmt::format("onnx, {}", to_string(level)));
      auto candidate = try_level(spec);
      if (candidate) return Made{spec, *std::move(candidate)};
      complaint = candidate.error().message;
      report_.notes.push_back(fmt::format("optimised form '{}' was not used: {}", to_string(level),
                                          complaint.substr(0, 1000)));
    }
    return refuse(
        reason::kPublishFailed,
        fmt::format("optimise: the model loads as it is, but no compiled form of it works: "
                    "{}",
                    complaint));
  }

  Result<Candidate> try_level(const FormSpec& spec) {
    TRY(make_form(context_, tried_, spec));
    progress_("measure", "onnx");
    return measure_form(context_, tried_, spec, Prepacking::Off);
  }

  // A form beside the first: whatever goes wrong with it only leaves it out.
  void measure(const FormSpec& spec, Prepacking prepacking) {
    Candidate candidate{.form = spec.form, .prepacking = prepacking};
    candidate.skipped = does_not_fit(context_, spec.form, prepacking);
    if (candidate.skipped.empty()) {
      progress_("measure", fmt::format("{}{}", to_string(spec.form),
                                       prepacking == Prepacking::On ? ", prepacked" : ""));
      auto measured = measure_form(context_, tried_, spec, prepacking);
      if (measured) {
        candidate = *std::move(measured);
      } else {
        candidate.skipped = measured.error().message.substr(0, 1000);
      }
    }
    add(candidate, spec);
  }

  void make_ort(Optimise level) {
    const FormSpec spec{ModelForm::Ort, level, context_.scratch / "ort"};
    std::string skipped = does_not_fit(context_, ModelForm::Ort, Prepacking::Off);
    if (skipped.empty()) {
      progress_("optimise", fmt::format("ort, {}", to_string(level)));
      if (const auto made = make_form(context_, tried_, spec); !made) {
        skipped = made.error().message.substr(0, 1000);
      }
    }
    for (const Prepacking prepacking : {Prepacking::Off, Prepacking::On}) {
      if (skipped.empty()) {
        measure(spec, prepacking);
      } else {
        Candidate candidate{.form = spec.form, .prepacking = prepacking};
        candidate.skipped = skipped;
        add(candidate, spec);
      }
    }
  }

  // A session built after the fork lives in the instance's own memory.
  void enforce_instance_memory() {
    if (!context_.base.session_after_fork && context_.job.threads == 1) return;
    for (Candidate& candidate : report_.candidates) {
      if (!candidate.skipped.empty() || candidate.private_bytes <= context_.job.instance_memory) {
        continue;
      }
      candidate.skipped = fmt::format("it takes {} MiB of each instance, which has {} MiB (memory)",
                                      candidate.private_bytes.count >> 20U,
                                      context_.job.instance_memory.count >> 20U);
    }
  }

  const PublishContext& context_;
  const Tried& tried_;
  const PublishProgress& progress_;
  Report report_;
  std::vector<FormSpec> specs_;
};

}  // namespace

Result<std::vector<CompiledFile>> seal(const Path& out) {
  std::vector<CompiledFile> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(out, error)) {
    const Fd file = TRY(open_file(entry.path(), O_RDONLY));
    if (::fsync(file.get()) != 0) return fail_errno("fsync");
    files.push_back({entry.path().filename().native(), TRY(mayfly::file_size(entry.path()))});
  }
  if (error) return std::unexpected(errno_error("list the compiled folder", error.value()));
  std::ranges::sort(files, {}, &CompiledFile::path);
  return files;
}

namespace {

Result<Report> publish_checked(const OnnxRuntime& runtime, const PublishJob& job,
                               const Path& source, const Path& work,
                               const PublishProgress& progress) {
  progress("read", "");
  const std::string file = TRY(find_model(source, job.model));
  const Path scratch = work / "scratch";
  TRY(make_directories(scratch));
  progress("check", file);
  const BaseModel base = TRY(read_model(source, file, scratch, job.publish_memory));
  const auto example = TRY(read_example(job, source, base.graph.signature));
  progress("try", example ? "example" : "generated inputs");
  const PublishContext context{runtime, job, base, scratch};
  const Tried tried = TRY(try_original(context, example));
  Publishing publishing(context, tried, progress);
  Report report = TRY(publishing.run());
  progress("seal", "");
  const FormSpec& form = publishing.chosen_form();
  TRY(write_load_plan(tried, form, report.candidates[report.chosen].prepacking));
  std::error_code error;
  std::filesystem::rename(form.folder, work / "out", error);
  if (error) return std::unexpected(errno_error("move the compiled folder", error.value()));
  report.files = TRY(seal(work / "out"));
  std::filesystem::remove_all(scratch, error);
  report.runtime_version = runtime.version();
  report.signature = tried.signature;
  report.session_after_fork = base.session_after_fork || job.threads > 1;
  report.trial = tried.trial;
  report.weight_bytes = base.weight_bytes;
  report.notes.insert(report.notes.begin(), tried.notes.begin(), tried.notes.end());
  report.notes.insert(report.notes.begin(), base.notes.begin(), base.notes.end());
  return report;
}

bool is_refusal(const Error& error) {
  constexpr std::array kRefusals = {reason::kInvalidModel,  reason::kInvalidInput,
                                    reason::kPublishFailed, reason::kInvalidManifest,
                                    reason::kModelError,    reason::kTooLarge};
  return std::ranges::find(kRefusals, error.reason) != kRefusals.end();
}

Status run_job(const OnnxRuntime& runtime, int control_fd, std::string_view request) {
  if (TRY(parse_resolve_job(request))) return install_packages(request);
  if (is_table_job(request)) return run_table_job(control_fd, request);
  if (is_train_job(request)) return run_train_job(runtime, control_fd, request);
  if (const auto run = TRY(parse_run_job(request))) return run_python_job(run->threads, request);
  if (const auto train = TRY(parse_train_function_job(request)))
    return run_python_job(train->job.threads, request);
  const PublishJob job = TRY(parse_publish_job(request));
  const PublishProgress progress = [control_fd](std::string_view step, std::string_view detail) {
    const std::string line = Json{{"step", step}, {"detail", detail}}.dump(
        -1, ' ', false, Json::error_handler_t::replace);
    // A server that is gone ends the jail; a lost line of progress is nothing.
    (void)::send(control_fd, line.data(), line.size(), MSG_NOSIGNAL);
  };
  const PublishOutcome outcome =
      TRY(job.function ? publish_function(job, "/source", "/work", progress)
                       : publish_model(runtime, job, "/source", "/work", progress));
  const Fd file = TRY(open_file("/work/report.json", O_WRONLY | O_CREAT | O_TRUNC, 0644));
  return write_all(file.get(), to_json(outcome));
}

}  // namespace

Result<PublishOutcome> publish_model(const OnnxRuntime& runtime, const PublishJob& job,
                                     const Path& source, const Path& work,
                                     const PublishProgress& progress) {
  return outcome_of(publish_checked(runtime, job, source, work, progress));
}

Result<PublishOutcome> outcome_of(Result<Report> report) {
  if (report) return PublishOutcome(*std::move(report));
  if (!is_refusal(report.error())) return std::unexpected(std::move(report).error());
  return PublishOutcome(
      Refusal{std::string(report.error().reason), report.error().message.substr(0, 8000)});
}

int run_publish(const OnnxRuntime& runtime, int control_fd, std::string_view request_json) {
  if (const auto done = run_job(runtime, control_fd, request_json); !done) {
    // Standard error is the job's log.
    fmt::print(stderr, "publish: {}\n", done.error().message);
    return 1;
  }
  return 0;
}

}  // namespace mayfly
