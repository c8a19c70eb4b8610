// mayfly batch, mayfly run, mayfly jobs: work that is no request, and what becomes of it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/batch_request.h"
#include "cli/job_watch.h"
#include "cli/table.h"
#include "cli/train_view.h"
#include "cli/verbs.h"
#include "core/names.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxInputs = 1 << 20;

struct BatchFlags {
  std::string name;
  BatchOptions batch;
  std::string output;
  std::string errors;
  bool detach = false;
};

struct RunFlags {
  std::string name;
  std::string data;
  std::string output;
  bool detach = false;
};

struct JobsFlags {
  std::string action = "list";
  std::string id;
  std::string file;
  std::string output;
  std::string function;
  std::string parent;
  std::string state;
  std::uint32_t limit = 100;
};

std::string jobs_of(const std::string& function) { return function_path(function) + "/jobs"; }

// The id alone is for whoever reads standard output.
void print_submitted(const CliJson& job, const CliContext& context) {
  if (context.json) return print_json(job);
  const std::string id = job.value("id", "");
  fmt::print("{}\n", id);
  fmt::print(stderr, "mayfly jobs show {0} says how far it is, mayfly jobs get {0} its files\n",
             id);
}

// Who waits may have to come back for it.
void say_job(const CliJson& accepted) { fmt::print(stderr, "job {}\n", accepted.value("id", "")); }

bool are_one_file(const std::string& one, const std::string& other) {
  std::error_code none;
  return std::filesystem::equivalent(one, other, none);
}

Status check_files(const BatchFlags& flags) {
  const std::string& input = flags.batch.input;
  if (are_one_file(flags.output, input) || are_one_file(flags.errors, input))
    return refuse(reason::kBadRequest,
                  fmt::format("{}: it is the input, and would be overwritten", input));
  const Path folder = Path(flags.output).parent_path();
  std::error_code none;
  if (!flags.detach && !folder.empty() && !std::filesystem::is_directory(folder, none))
    return refuse(reason::kBadRequest, fmt::format("{}: there is no such folder", folder.native()));
  return {};
}

Status print_done(const CliJson& job, const CliContext& context, const std::string& where) {
  if (context.json) {
    print_json(job);
    return {};
  }
  const CliJson result = job.value("result", CliJson::object());
  if (job.value("kind", "") == "batch") {
    fmt::print("{} rows, {} failed, in {:.1f} s ({:.1f} s of CPU besides the predictions) → {}\n",
               human_count(result.value("rows", std::uint64_t{0})),
               human_count(result.value("failed", std::uint64_t{0})), job.value("ran_s", 0.0),
               job.value("cpu_s", 0.0), where);
  } else {
    fmt::print("{}\n", result.dump(2));
  }
  return {};
}

Status batch(const BatchFlags& flags, const CliContext& context) {
  TRY(parse_model_ref(flags.name));
  TRY(check_files(flags));
  NodeClient node = context.node();
  const CliJson wanted = TRY(batch_request(node, flags.batch, flags.output));
  const CliJson accepted = TRY(node.send("POST", jobs_of(flags.name), wanted));
  const std::string id = accepted.value("id", "");
  if (flags.detach) {
    print_submitted(accepted, context);
    return {};
  }
  say_job(accepted);
  const CliJson done = TRY(follow_job(node, id));
  const CliJson result = done.value("result", CliJson::object());
  TRY(fetch_job_file(node, id, result.value("output", ""), flags.output));
  if (result.value("failed", std::uint64_t{0}) > 0) {
    const std::string errors = flags.errors.empty() ? flags.output + ".errors.jsonl" : flags.errors;
    TRY(fetch_job_file(node, id, "errors.jsonl", errors));
    fmt::print(stderr, "rows that failed, and why: {}\n", errors);
  }
  return print_done(done, context, flags.output);
}

Result<CliJson> run_inputs(const std::string& data) {
  if (data.empty()) return CliJson::object();
  const std::string text =
      data.starts_with('@') ? TRY(read_file(data.substr(1), kMaxInputs)) : data;
  CliJson inputs = CliJson::parse(text, nullptr, false);
  if (inputs.is_discarded()) return refuse(reason::kBadRequest, "--data is no JSON");
  return inputs;
}

Status fetch_all(NodeClient& node, const CliJson& job, const Path& folder) {
  TRY(make_directories(folder));
  for (const CliJson& file : job.value("files", CliJson::array())) {
    const std::string name = file.value("name", "");
    const Path into = folder / Path(name).relative_path();
    TRY(make_directories(into.parent_path()));
    TRY(fetch_job_file(node, job.value("id", ""), name, into));
    fmt::print(stderr, "{}\n", into.native());
  }
  return {};
}

Status run(const RunFlags& flags, const CliContext& context) {
  TRY(parse_model_ref(flags.name));
  NodeClient node = context.node();
  const CliJson wanted{{"kind", "run"}, {"inputs", TRY(run_inputs(flags.data))}};
  const CliJson accepted = TRY(node.send("POST", jobs_of(flags.name), wanted));
  if (flags.detach) {
    print_submitted(accepted, context);
    return {};
  }
  say_job(accepted);
  const CliJson done = TRY(follow_job(node, accepted.value("id", "")));
  if (!flags.output.empty()) TRY(fetch_all(node, done, flags.output));
  return print_done(done, context, flags.output);
}

void print_job(const CliJson& job) {
  for (const auto& [key, value] : job.items()) {
    if (key == "files" || key == "training") continue;
    fmt::print("{:12} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  }
  for (const CliJson& file : job.value("files", CliJson::array())) {
    fmt::print("{:12} {} ({})\n", "file", file.value("name", ""),
               human_bytes(file.value("size", std::uint64_t{0})));
  }
  if (job.contains("training")) fmt::print("\nwhat was settled before it ran\n{}", plan_text(job));
}

std::string subject_of_job(const CliJson& job) {
  if (job.contains("dataset")) return job.value("dataset", "");
  const std::string function = job.value("function", "");
  return job.contains("version") ? fmt::format("{}@{}", function, job.value("version", 0))
                                 : function;
}

void print_jobs(const CliJson& jobs) {
  if (jobs.empty()) {
    fmt::print("no jobs; mayfly batch, run and train submit one\n");
    return;
  }
  Table table({"JOB", "OF", "KIND", "PROGRESS", "SUBMITTED", "REASON"});
  for (const CliJson& job : jobs) {
    table.add({job.value("id", ""), subject_of_job(job), job.value("kind", ""), job_line(job),
               job.value("submitted", ""), job.value("reason", "")});
  }
  fmt::print("{}", table.str());
}

Result<CliJson> list_jobs(const JobsFlags& flags, NodeClient& node) {
  std::string path = fmt::format("/api/v1/jobs?limit={}", flags.limit);
  if (!flags.state.empty()) path += "&state=" + path_segment(flags.state);
  if (!flags.function.empty()) path += "&function=" + path_segment(flags.function);
  if (!flags.parent.empty()) path += "&parent=" + path_segment(flags.parent);
  return node.get(path);
}

// Its lines are among those of its function.
Status print_job_logs(const std::string& id, NodeClient& node) {
  const CliJson job = TRY(node.get(job_path(id)));
  if (job.contains("dataset"))
    return refuse(reason::kBadRequest, "an ingest has no logs; mayfly jobs show has its report");
  const std::string path = function_path(job.value("function", "")) + "/logs";
  return node.stream("GET", path, CliJson(), [&](const CliJson& line) {
    if (line.value("source", "").ends_with("#" + id))
      fmt::print("{} {}\n", line.value("time", ""), line.value("text", ""));
  });
}

Result<CliJson> act_on_job(const JobsFlags& flags, NodeClient& node) {
  const std::string path = job_path(flags.id);
  if (flags.action == "show") return node.get(path);
  if (flags.action == "cancel") return node.send("DELETE", path, CliJson());
  if (flags.action == "wait") {
    TRY(node.get(path));  // a wrong address is no node that starts again
    return follow_job(node, flags.id);
  }
  return node.send("POST", path + "/" + flags.action, CliJson::object());
}

Status jobs(const JobsFlags& flags, const CliContext& context) {
  NodeClient node = context.node();
  if (flags.action == "list") {
    const CliJson listed = TRY(list_jobs(flags, node));
    context.json ? print_json(listed) : print_jobs(listed["jobs"]);
    return {};
  }
  if (flags.id.empty())
    return refuse(reason::kBadRequest,
                  fmt::format("name the job: mayfly jobs {} JOB", flags.action));
  if (flags.action == "logs") return print_job_logs(flags.id, node);
  if (flags.action == "get")
    return fetch_all(node, TRY(node.get(job_path(flags.id))),
                     flags.output.empty() ? "." : flags.output);
  const CliJson job = TRY(act_on_job(flags, node));
  context.json ? print_json(job) : print_job(job);
  return {};
}

}  // namespace

void add_batch_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("batch", "Predict for every row of a file");
  auto flags = std::make_shared<BatchFlags>();
  verb->add_option("NAME", flags->name, "the function, or one of its versions: NAME@3")->required();
  verb->add_option("--output", flags->output,
                   "where the predictions go: .csv, .jsonl or .parquet; with --detach it says only "
                   "which of these")
      ->required();
  verb->add_option("--errors", flags->errors,
                   "where rows that failed go, with why; OUTPUT.errors.jsonl");
  add_batch_options(*verb, flags->batch)->required();
  verb->add_flag("--detach", flags->detach, "do not wait; mayfly jobs says how far it is");
  verb->callback([flags, &context] { context.outcome = batch(*flags, context); });
}

void add_run_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("run", "Run the run(inputs, ctx) of a Python function");
  auto flags = std::make_shared<RunFlags>();
  verb->add_option("NAME", flags->name, "the function, or one of its versions: NAME@3")->required();
  verb->add_option("--data", flags->data, "its inputs: JSON, or @FILE");
  verb->add_option("--output", flags->output, "a folder for the files that it makes");
  verb->add_flag("--detach", flags->detach, "do not wait; mayfly jobs says how far it is");
  verb->callback([flags, &context] { context.outcome = run(*flags, context); });
}

void add_jobs_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("jobs", "List, show, pause, resume or cancel jobs");
  auto flags = std::make_shared<JobsFlags>();
  verb->add_option("ACTION", flags->action,
                   "list (default), or of a JOB: show, wait, logs, pause, resume, cancel, get (its "
                   "files)")
      ->check(CLI::IsMember({"list", "show", "wait", "logs", "pause", "resume", "cancel", "get"}));
  verb->add_option("JOB", flags->id, "of all but list");
  verb->add_option("--output", flags->output, "of get: the folder; the current one");
  verb->add_option("--function", flags->function, "of list: only its jobs");
  verb->add_option("--parent", flags->parent, "of list: the parts of this job");
  verb->add_option("--state", flags->state,
                   "of list: queued, running, paused, done, failed, cancelled or expired");
  verb->add_option("--limit", flags->limit, "of list: how many; 100");
  verb->callback([flags, &context] { context.outcome = jobs(*flags, context); });
}

}  // namespace mayfly
