#include "publish/job_outcome.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <variant>

#include "core/json_reader.h"
#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

std::string clean(std::string_view text) {
  std::string result(text.substr(0, 256));
  std::ranges::replace_if(
      result, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 127; }, '?');
  return result;
}

std::string how_it_failed(const JobEnd& end, const VersionOptions& options) {
  if (end.exit.oom) {
    return fmt::format("publishing ran out of memory (publish_memory = {})",
                       to_string(options.publish_memory));
  }
  if (end.timed_out) {
    return fmt::format("publishing did not end within publish_timeout = {}",
                       to_string(options.publish_timeout));
  }
  if (end.exit.signal != 0) {
    return fmt::format("publishing was killed by signal {}", end.exit.signal);
  }
  return fmt::format("publishing ended with exit code {}", end.exit.code);
}

}  // namespace

std::optional<JobStep> parse_progress(std::string_view message) {
  if (message.size() > kMaxJobMessage) return std::nullopt;
  const auto json = parse_json(message, "progress");
  if (!json) return std::nullopt;
  JobStep step;
  JsonReader reader(*json, "progress", reason::kBadRequest);
  reader.text("step", step.step).text("detail", step.detail);
  if (!reader.finish()) return std::nullopt;
  return JobStep{clean(step.step), clean(step.detail)};
}

std::optional<Error> failure_of(const JobEnd& end, std::string_view last_step,
                                const VersionOptions& options) {
  // Memory may have run out in a trial only; the job then went on without that form.
  if (!end.timed_out && end.exit.signal == 0 && end.exit.code == 0) return std::nullopt;
  const std::string where =
      last_step.empty() ? "before its first step" : fmt::format("in step '{}'", last_step);
  return refuse(reason::kPublishFailed, fmt::format("{}, {}", how_it_failed(end, options), where))
      .error();
}

Result<Report> read_report(const Path& work) {
  const Path path = work / "report.json";
  const auto file = open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file) return refuse(reason::kPublishFailed, "publishing left no report");
  struct stat status{};
  if (::fstat(file->get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return refuse(reason::kPublishFailed, "the publish report is no plain file");
  }
  const auto text = read_all_fd(file->get(), kMaxReport);
  if (!text) return refuse(reason::kPublishFailed, "the publish report is too long");
  PublishOutcome outcome = TRY(parse_outcome(*text));
  if (const auto* refusal = std::get_if<Refusal>(&outcome)) {
    return refuse(refusal->reason, refusal->message);
  }
  return std::get<Report>(std::move(outcome));
}

}  // namespace mayfly
