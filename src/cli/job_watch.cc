#include "cli/job_watch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <span>
#include <thread>

#include "base/fd.h"
#include "cli/table.h"
#include "core/reason.h"

namespace mayfly {
namespace {

// How often it is asked how far a job is: at first often.
constexpr std::chrono::milliseconds kFirstAsk(50);
constexpr std::chrono::milliseconds kLongestAsk(1000);
// A node that does not answer may be starting again; its jobs go on.
constexpr std::chrono::seconds kPatience(60);

bool job_is_over(const std::string& state) {
  return state != "queued" && state != "running" && state != "paused";
}

std::string spelled_seconds(double seconds) {
  return seconds < 90 ? fmt::format("{:.0f} s", seconds) : fmt::format("{:.0f} min", seconds / 60);
}

}  // namespace

std::string job_path(const std::string& id) { return "/api/v1/jobs/" + path_segment(id); }

std::string job_line(const CliJson& job) {
  std::string line = job.value("state", "?");
  const CliJson progress = job.value("progress", CliJson::object());
  if (const std::string text = progress.value("text", ""); !text.empty()) line += ", " + text;
  if (progress.contains("fraction") && progress["fraction"].is_number())
    line += fmt::format(", {:.0f} %", 100 * progress["fraction"].get<double>());
  if (progress.contains("eta_s") && progress["eta_s"].is_number())
    line += fmt::format(", {} left", spelled_seconds(progress["eta_s"].get<double>()));
  return line;
}

Result<CliJson> follow_job(NodeClient& node, const std::string& id) {
  using Clock = std::chrono::steady_clock;
  ProgressLine line;
  Clock::time_point heard = Clock::now();
  for (auto pause = kFirstAsk;; pause = std::min(2 * pause, kLongestAsk)) {
    auto found = node.get(job_path(id));
    if (!found) {
      if (found.error().code != Code::Unavailable) return found;
      if (Clock::now() - heard > kPatience)
        return fail(Code::Unavailable,
                    fmt::format("{}; job {} goes on when the node does: mayfly jobs wait {}, then "
                                "mayfly jobs get {}",
                                found.error().message, id, id, id));
      line.show("the node does not answer; its jobs go on when it does");
      std::this_thread::sleep_for(pause);
      continue;
    }
    heard = Clock::now();
    CliJson job = *std::move(found);
    const std::string state = job.value("state", "");
    if (state == "done") return job;
    if (job_is_over(state)) {
      const std::string slug = job.value("reason", std::string(reason::kConflict));
      return refuse(find_reason(slug) == nullptr ? reason::kConflict : std::string_view(slug),
                    fmt::format("the job {}{}{}", state, job.contains("error") ? ": " : "",
                                job.value("error", "")));
    }
    line.show(job_line(job));
    std::this_thread::sleep_for(pause);
  }
}

Status fetch_job_file(NodeClient& node, const std::string& id, const std::string& name,
                      const Path& into) {
  const Path part = into.native() + ".part";
  const Fd file = TRY(open_file(part, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  const Status fetched =
      node.fetch(fmt::format("{}/file?name={}", job_path(id), path_segment(name)),
                 [&](std::string_view piece) { return write_all(file.get(), piece); });
  if (!fetched) {
    ::unlink(part.c_str());
    return fetched;
  }
  if (::fsync(file.get()) != 0) return fail_errno(part.native());
  if (::rename(part.c_str(), into.c_str()) != 0) return fail_errno(into.native());
  return {};
}

}  // namespace mayfly
