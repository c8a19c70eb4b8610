#include "jobs/python_train_slice.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <utility>

#include "core/reason.h"
#include "jobs/run_talk.h"
#include "runner/report/function_training.h"
#include "runner/report/run_job.h"

namespace mayfly {
namespace {

constexpr std::size_t kMessagesOfFunction = 500'000;
constexpr const char* kMadeModel = "model.onnx";
// All that a function's jail may leave beside its end.
constexpr std::array kMadeFiles = {kMadeModel, "probabilities.npy", "value.npy", "cluster.npy",
                                   "distance.npy"};

bool is_held_back(const SourceFile& source) {
  const Path path(source.file.path);
  return std::ranges::find(path, Path("test")) != path.end();
}

std::vector<SourceFile> joined(std::vector<SourceFile> files, const std::vector<SourceFile>& more) {
  files.insert(files.end(), more.begin(), more.end());
  return files;
}

// Before anything of it is read: a file may be any number of bytes, or lead elsewhere.
Status look_at_made(const Path& folder) {
  for (const char* name : kMadeFiles) {
    std::error_code error;
    const auto status = std::filesystem::symlink_status(folder / name, error);
    if (!std::filesystem::exists(status)) continue;
    const auto opened = open_left(folder / name, kMaxMadeModel);
    if (opened) continue;
    const Error& why = opened.error();
    return refuse(why.reason.empty() ? reason::kFunctionError : std::string_view(why.reason),
                  fmt::format("train(ctx): '{}' cannot be taken: {}", name, why.message));
  }
  return {};
}

Status check_made(const std::vector<SourceFile>& made) {
  bool there = false;
  for (const SourceFile& source : made) {
    const std::string name = Path(source.file.path).filename().native();
    if (std::ranges::find(kMadeFiles, name) == kMadeFiles.end())
      return refuse(
          reason::kFunctionError,
          fmt::format("train(ctx) left a file '{}', which is none of a training's", name));
    there = there || name == kMadeModel;
  }
  if (there) return {};
  return refuse(reason::kFunctionError, "train(ctx) left no model.onnx");
}

}  // namespace

// What one slice works with, and where.
struct PythonTrainSlices::Course {
  TrainJob job;
  std::vector<SourceFile> snapshot;
  std::vector<SourceFile> given;  // facts.json and parity/
  std::vector<SourceFile> made;
  std::vector<SourceFolder> folders;  // gone when the slice is over
};

Task<SliceOutcome> PythonTrainSlices::run(SliceAsk ask) {
  SliceOutcome outcome{.result = JobStore::SliceResult{}, .retry = true, .pin = parts_.store.pin()};
  Course course;
  outcome.result = co_await run_in(ask, course, outcome);
  for (SourceFolder& folder : course.folders)
    co_await remove_folder(parts_.pool, std::move(folder));
  co_return outcome;
}

Task<Result<JobStore::SliceResult>> PythonTrainSlices::run_in(SliceAsk& ask, Course& course,
                                                              SliceOutcome& outcome) {
  CO_TRY(auto job, parse_train_job(ask.job.spec.detail));
  if (!job || !is_function(job->trainer))
    co_return fail(Code::Internal, "the job's detail is no training by a function");
  course.job = *std::move(job);
  course.job.threads = std::max(ask.job.spec.cpus, 1U);
  course.job.memory = ask.job.spec.memory;
  course.job.restored = ask.job.slices > 0;
  CO_TRY(course.snapshot, co_await find_snapshot_(ask.job));
  if (std::ranges::any_of(course.snapshot, is_held_back))
    co_return fail(Code::Internal, "a file of the test split was to be mounted into a training");
  CO_TRY_STATUS(co_await gather_facts(ask, course, outcome));
  CO_TRY(const bool done, co_await train(ask, course, outcome));
  if (!done) co_return JobStore::SliceResult{};
  co_return co_await check(ask, course, outcome);
}

JobSpec PythonTrainSlices::spec_of(const SliceAsk& ask, const SourceFolder& folder,
                                   std::string request) const {
  return {.label = label_of(ask.job),
          .runtime = RuntimeKind::Training,
          .source = folder.source(),
          .work = folder.work(),
          .request = std::move(request),
          .memory = ask.job.spec.memory,
          .threads = std::max(ask.job.spec.cpus, 1U),
          .timeout = parts_.patience,
          .idle = true};
}

// A worker of the platform's, which has nothing to say before its end; gives the end's result.
Task<Result<std::string>> PythonTrainSlices::run_quietly(SliceAsk& ask, JobSpec spec,
                                                         SliceOutcome& outcome) {
  SliceJail jail(parts_.loop, parts_.jobs);
  auto ended = co_await jail.run(
      spec, {.stop = {}, .kill = ask.kill, .stop_message = ""}, [&jail](std::string_view) {
        jail.expel(
            refuse(reason::kInstanceCrashed, "the job broke its protocol: it has nothing to say")
                .error());
      });
  if (!ended) co_return std::unexpected(std::move(ended).error());
  outcome.cpu += ended->cpu;
  outcome.memory = std::max(outcome.memory, ended->peak_memory);
  outcome.retry = may_retry_slice(jail, *ended);
  if (auto failure = failure_of_slice(jail, *ended, spec))
    co_return std::unexpected(*std::move(failure));
  co_return co_await parts_.pool.run([&]() -> Result<std::string> {
    const Fd file = TRY(open_left(spec.work / "end.json", kMaxTrainEnd));
    const std::string text = TRY(read_all_fd(file.get(), kMaxTrainEnd));
    TrainEnd end = TRY(parse_train_end(text));
    outcome.retry = false;  // what the worker says of rows and models stands
    if (end.how == TrainEnd::How::Refused) return refuse(end.refused.reason, end.refused.message);
    if (end.how != TrainEnd::How::Finished)
      return refuse(reason::kInstanceCrashed, "the job broke its protocol: it has stopped");
    return std::move(end.result);
  });
}

// What a jail left, as files for the next one, beneath `as`.
Result<std::vector<SourceFile>> PythonTrainSlices::take(const Path& folder, const char* as,
                                                        Pin& pin) const {
  std::vector<SourceFile> files;
  for (const JobFile& file : TRY(take_folder(parts_, folder, FileRole::Part, pin))) {
    files.push_back({.file = {.path = (Path(as) / file.name).native(),
                              .sha256 = to_string(file.digest),
                              .size = file.size},
                     .blobs = &parts_.blobs});
  }
  return files;
}

Task<Status> PythonTrainSlices::gather_facts(SliceAsk& ask, Course& course, SliceOutcome& outcome) {
  CO_TRY(SourceFolder made, co_await parts_.pool.run(
                                [&] { return SourceFolder::create(parts_.tmp, course.snapshot); }));
  const SourceFolder& folder = course.folders.emplace_back(std::move(made));
  CO_TRY_STATUS(co_await run_quietly(
      ask, spec_of(ask, folder, to_json(FunctionStep::Facts, course.job)), outcome));
  const Path output = folder.work() / "output";
  CO_TRY(course.given, co_await parts_.pool.run([&] { return take(output, "", outcome.pin); }));
  co_return Status{};
}

Task<Result<bool>> PythonTrainSlices::train(SliceAsk& ask, Course& course, SliceOutcome& outcome) {
  CO_TRY(const JobCode code, co_await find_code_(ask.job, course.job.function));
  CO_TRY(SourceFolder made, co_await parts_.pool.run([&]() -> Result<SourceFolder> {
    SourceFolder folder =
        TRY(SourceFolder::create(parts_.tmp, joined(course.snapshot, course.given)));
    TRY(lay_out(checkpoint_sources(ask, parts_), folder.work() / "restored"));
    return folder;
  }));
  const SourceFolder& folder = course.folders.emplace_back(std::move(made));
  JobSpec spec = spec_of(
      ask, folder, to_json(TrainFunctionJob{.job = course.job, .invocation = ask.job.spec.id}));
  spec.runtime = RuntimeKind::Python;
  spec.source = code.artifact;
  spec.data = folder.source();
  spec.max_messages = kMessagesOfFunction;
  spec.secrets = code.secrets;
  spec.environment = code.environment;
  spec.tools = JobTools::Programs;
  spec.timeout = kUninterrupted;  // its fit may be one call of a library
  outcome.retry = true;
  RunTalk talk(ask, parts_, folder.work());
  auto ended = co_await talk.run(spec);
  if (!ended) co_return std::unexpected(std::move(ended).error());
  outcome.cpu += ended->cpu;
  outcome.memory = std::max(outcome.memory, ended->peak_memory);
  outcome.retry = may_retry_slice(talk.jail(), *ended);
  if (auto failure = failure_of_slice(talk.jail(), *ended, spec))
    co_return std::unexpected(*std::move(failure));
  outcome.retry = false;  // what the function itself says stands
  const bool kept = talk.kept();
  co_return co_await parts_.pool.run([&]() -> Result<bool> {
    const auto file = open_left(folder.work() / "end.json", kMaxRunEnd);
    if (!file)
      return refuse(reason::kFunctionError,
                    "train(ctx) ended its process without a result; its logs may say why");
    const std::string text = TRY(read_all_fd(file->get(), kMaxRunEnd));
    const RunEnd end = TRY(parse_run_end(text));
    if (end.how == RunEnd::How::Raised) return refuse(reason::kFunctionError, end.error);
    if (end.how == RunEnd::How::Stopped && !kept)
      return refuse(reason::kInstanceCrashed, "the training stopped without a checkpoint");
    if (end.how == RunEnd::How::Stopped) return false;
    TRY(look_at_made(folder.work() / "made"));
    course.made = TRY(take(folder.work() / "made", "made", outcome.pin));
    TRY(check_made(course.made));
    return true;
  });
}

Task<Result<JobStore::SliceResult>> PythonTrainSlices::check(SliceAsk& ask, Course& course,
                                                             SliceOutcome& outcome) {
  CO_TRY(SourceFolder made, co_await parts_.pool.run([&] {
    std::vector<SourceFile> files = joined(course.snapshot, course.made);
    for (SourceFile source : course.given) {
      source.file.path = (Path("given") / source.file.path).native();
      files.push_back(std::move(source));
    }
    return SourceFolder::create(parts_.tmp, files);
  }));
  const SourceFolder& folder = course.folders.emplace_back(std::move(made));
  outcome.retry = true;
  JobStore::SliceResult result;
  result.finished = true;
  CO_TRY(result.result,
         co_await run_quietly(ask, spec_of(ask, folder, to_json(FunctionStep::Check, course.job)),
                              outcome));
  const Path output = folder.work() / "output";
  CO_TRY(result.files, co_await parts_.pool.run([&] {
    return take_folder(parts_, output, FileRole::Result, outcome.pin);
  }));
  co_return result;
}

}  // namespace mayfly
