#include "runner/train/worker.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <optional>
#include <utility>

#include "core/json_reader.h"
#include "core/reason.h"
#include "core/train_reason.h"

namespace mayfly {
namespace {

constexpr Duration kTellEvery = std::chrono::milliseconds(500);
constexpr std::uint32_t kEvaluations = 100;  // about, of a training that goes to its end
constexpr std::size_t kMostServerText = 16 * 1024;
constexpr std::size_t kLongestRefusal = 8000;
constexpr std::size_t kMostSaved = std::size_t{4} << 30;

Status write_new(const Path& path, std::string_view bytes) {
  const Fd file = TRY(open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  return write_all(file.get(), bytes);
}

// The control socket: what the worker says, and what it is told.
class TrainLink {
 public:
  explicit TrainLink(int socket) : socket_(socket) {}

  Status tell(const Json& message) const {
    const std::string text = message.dump(-1, ' ', false, Json::error_handler_t::replace);
    while (::send(socket_, text.data(), text.size(), MSG_NOSIGNAL) < 0) {
      if (errno != EINTR) return fail_errno("send to the server");
    }
    return {};
  }

  // The next message, after as many milliseconds at most; below 0: however long. An error when the
  // server is gone.
  Result<std::optional<Json>> hear(int wait) const {
    pollfd waiting{.fd = socket_, .events = POLLIN, .revents = 0};
    while (true) {
      const int ready = ::poll(&waiting, 1, wait);
      if (ready == 0) return std::nullopt;
      if (ready > 0) break;
      if (errno != EINTR) return fail_errno("poll");
    }
    std::array<char, kMostServerText> text{};
    const ssize_t got = ::recv(socket_, text.data(), text.size(), 0);
    if (got < 0) return fail_errno("receive from the server");
    if (got == 0) return fail(Code::Unavailable, "the server hung up");
    return TRY(parse_json({text.data(), static_cast<std::size_t>(got)}, "message"));
  }

 private:
  int socket_;
};

// How the held-out rows were scored, round by round, and which round was the best. What an
// uninterrupted training knows, one that goes on from a checkpoint knows, too.
class History {
 public:
  void add(std::uint32_t round, double value, const Training& training) {
    points_.push_back({round, value});
    if (std::isnan(value)) return;
    if (best_ && !training.better(value, best_->value)) return;
    best_ = points_.back();
  }
  std::optional<std::uint32_t> best_round() const {
    return best_ ? std::optional(best_->round) : std::nullopt;
  }
  double last() const { return points_.empty() ? std::nan("") : points_.back().value; }

  // The best within half, three quarters and all of these rounds; nothing where too few were
  // scored.
  Json curve(std::uint32_t rounds, const Training& training) const {
    Json json = Json::array();
    for (const std::uint32_t quarters : {2U, 3U, 4U}) {
      std::optional<double> best;
      for (const Point& point : points_) {
        if (std::uint64_t{point.round} * 4 > std::uint64_t{rounds} * quarters) break;
        if (!std::isnan(point.value) && (!best || training.better(point.value, *best)))
          best = point.value;
      }
      if (!best) return nullptr;
      json.push_back(*best);
    }
    return json;
  }

  Json to_json() const {
    Json json = Json::array();
    for (const Point& point : points_) json.push_back(Json::array({point.round, point.value}));
    return json;
  }
  static Result<History> parse(const Json& json, const Training& training) {
    History history;
    if (!json.is_array()) return fail(Code::DataLoss, "the checkpoint has no history");
    for (const Json& point : json) {
      if (!point.is_array() || point.size() != 2 || !point[0].is_number_unsigned())
        return fail(Code::DataLoss, "the checkpoint's history is none");
      history.add(point[0].get<std::uint32_t>(),
                  point[1].is_number() ? point[1].get<double>() : std::nan(""), training);
    }
    return history;
  }

 private:
  struct Point {
    std::uint32_t round = 0;
    double value = 0;
  };
  std::vector<Point> points_;
  std::optional<Point> best_;
};

class TrainWorker {
 public:
  // `begun`: when the preparation of the training did.
  TrainWorker(int control_fd, const TrainJob& job, const TrainFolders& folders, const Clock& clock,
              Training& training, TimePoint begun)
      : link_(control_fd),
        job_(job),
        folders_(folders),
        clock_(clock),
        training_(training),
        begun_(begun) {}

  Result<TrainEnd> run() {
    if (job_.restored) TRY(restore());
    const TimePoint began = clock_.now();
    next_checkpoint_ = began + job_.checkpoint_every;
    while (!done()) {
      TRY(step());
      TRY(hear(0));
      const TimePoint now = clock_.now();
      // The first step makes good what the checkpoint does not hold: predictions of all rows.
      if (!ready_) ready_ = now;
      const bool worked = now - *ready_ >= *ready_ - begun_;
      const bool over = job_.slice > Duration(0) && now - began >= job_.slice;
      if ((stopped_ || over || (due_ && worked)) && !done()) return stop();
      if (now >= next_checkpoint_ && !waiting_ && !done()) TRY(checkpoint());
    }
    // Whoever wants more rounds later goes on from here.
    if (fit().rounds() < fit().most_rounds() && !exhausted()) {
      TRY(answered());
      TRY(checkpoint());
      TRY(answered());
    }
    return finish();
  }

 private:
  Fit& fit() { return training_.fit(); }

  std::uint32_t target() {
    const std::uint32_t most = fit().most_rounds();
    return job_.rounds == 0 ? most : std::min(job_.rounds, most);
  }

  // No round has been better for too long.
  bool exhausted() {
    const std::uint32_t patience = training_.early_stop();
    const auto best = history_.best_round();
    return patience > 0 && best && fit().rounds() >= *best + patience;
  }

  bool done() { return fit().rounds() >= target() || exhausted(); }

  Status step() {
    TRY(fit().step());
    const std::uint32_t round = fit().rounds();
    const std::uint32_t every = std::max(1U, fit().most_rounds() / kEvaluations);
    if (round % every == 0 || round == fit().most_rounds()) TRY(evaluate());
    return report_progress();
  }

  Status evaluate() {
    const double value = TRY(training_.judge_valid());
    history_.add(fit().rounds(), value, training_);
    if (!std::isfinite(value)) return {};
    return link_.tell({{"metric", {{"name", training_.metric()}, {"value", value}}}});
  }

  Status report_progress() {
    const TimePoint now = clock_.now();
    if (now < next_report_) return {};
    next_report_ = now + kTellEvery;
    const std::uint32_t rounds = fit().rounds();
    std::string text = fmt::format("round {} of {}", rounds, target());
    if (std::isfinite(history_.last()))
      text += fmt::format(", {} {:.4g}", training_.metric(), history_.last());
    return link_.tell(
        {{"progress", {{"fraction", static_cast<double>(rounds) / target()}, {"text", text}}}});
  }

  Status hear(int wait) {
    while (const auto message = TRY(link_.hear(wait))) {
      if (message->contains("kept")) waiting_ = false;
      if (message->contains("stop")) stopped_ = true;
      if (message->contains("due")) due_ = true;
      wait = 0;
    }
    return {};
  }

  Status answered() {
    while (waiting_) TRY(hear(-1));
    return {};
  }

  Status checkpoint() {
    const std::string name = fmt::format("checkpoint-{}", ++checkpoints_);
    const Path folder = folders_.work / name;
    TRY(make_directories(folder));
    const std::string saved = TRY(fit().save());
    TRY(write_new(folder / "trainer", saved));
    const Json state{{"rounds", fit().rounds()}, {"history", history_.to_json()}};
    TRY(write_new(folder / "state.json", state.dump()));
    next_checkpoint_ = clock_.now() + job_.checkpoint_every;
    waiting_ = true;
    return link_.tell({{"checkpoint", name}});
  }

  Status restore() {
    const Path folder = folders_.work / "restored";
    const std::string state = TRY(read_file(folder / "state.json"));
    const Json json = TRY(parse_json(state, "state.json"));
    const std::string saved = TRY(read_file(folder / "trainer", kMostSaved));
    TRY(fit().restore(saved));
    if (!json.is_object() || json.value("rounds", Json()) != fit().rounds())
      return fail(Code::DataLoss, "the checkpoint's files are not of the same round");
    history_ = TRY(History::parse(json.value("history", Json()), training_));
    return {};
  }

  Result<TrainEnd> stop() {
    TRY(answered());
    TRY(checkpoint());
    TRY(answered());
    return TrainEnd{.how = TrainEnd::How::Stopped};
  }

  Result<TrainEnd> finish() {
    const std::uint32_t rounds = fit().rounds();
    const auto best = history_.best_round();
    const bool cut = training_.early_stop() > 0 && best;
    const bool exhausted = this->exhausted();
    if (cut) TRY(fit().keep_rounds(*best));
    Json result = TRY(training_.finish(folders_.work / "output", history_.to_json()));
    result["best_round"] = cut ? *best : fit().rounds();
    result["stopped_early"] = exhausted;
    if (const Json curve = history_.curve(rounds, training_); curve.is_array())
      result["curve"] = curve;
    return TrainEnd{.how = TrainEnd::How::Finished, .result = result.dump()};
  }

  const TrainLink link_;
  const TrainJob& job_;
  const TrainFolders& folders_;
  const Clock& clock_;
  Training& training_;
  History history_;
  std::uint32_t checkpoints_ = 0;
  bool waiting_ = false;  // for the server to keep the last one
  bool stopped_ = false;
  bool due_ = false;
  const TimePoint begun_;
  std::optional<TimePoint> ready_;  // after the first step
  TimePoint next_checkpoint_{};
  TimePoint next_report_{};
};

Result<TrainEnd> train_in(const OnnxRuntime& runtime, int control_fd, const TrainJob& job,
                          const TrainFolders& folders, const Clock& clock) {
  const TimePoint begun = clock.now();
  // Of a large table that takes a while.
  if (!job.restored)
    TRY(TrainLink(control_fd)
            .tell({{"progress", {{"fraction", 0.0}, {"text", "reading the rows"}}}}));
  const auto training = TRY(prepare_training(runtime, job, folders));
  TrainWorker worker(control_fd, job, folders, clock, *training, begun);
  return worker.run();
}

// Whose fault it is that there is no result.
std::optional<Refusal> refusal_of(const Error& error) {
  constexpr std::array kRefused = {reason::kInvalidInput, reason::kTooLarge, reason::kParityFailed};
  const bool listed = std::ranges::find(kRefused, error.reason) != kRefused.end();
  if (!listed && error.code != Code::InvalidArgument) return std::nullopt;
  return Refusal{.reason = std::string(listed ? error.reason : reason::kInvalidInput),
                 .message = error.message.substr(0, kLongestRefusal)};
}

}  // namespace

Status leave_end(const Path& work, Result<TrainEnd> end) {
  if (!end) {
    auto refused = refusal_of(end.error());
    if (!refused) return std::unexpected(std::move(end).error());
    end = TrainEnd{.how = TrainEnd::How::Refused, .result = {}, .refused = *std::move(refused)};
  }
  return write_new(work / "end.json", to_json(*end));
}

Status run_training(const OnnxRuntime& runtime, int control_fd, const TrainJob& job,
                    const TrainFolders& folders, const Clock& clock) {
  return leave_end(folders.work, train_in(runtime, control_fd, job, folders, clock));
}

}  // namespace mayfly
