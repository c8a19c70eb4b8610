#include "sandbox/process_template.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxComplaint = 2000;
constexpr std::size_t kEarlyExits = 64;
// More than a socket holds of what a template sent before its end; its instances may still write.
constexpr int kLastTurns = 64;

// A hostile template's words: bounded, and without what a terminal would act upon.
std::string printable(std::string_view text) {
  std::string clean(text.substr(0, kMaxComplaint));
  for (char& c : clean) {
    const auto code = static_cast<unsigned char>(c);
    if (code < ' ' || code == 127) c = ' ';
  }
  return clean;
}

std::string describe(const Exit& exit) {
  if (exit.oom) return "it ran out of memory";
  if (exit.signal != 0) return fmt::format("it was ended by signal {}", exit.signal);
  return fmt::format("it ended with code {}", exit.code);
}

// Each message then carries its sender's number, which the kernel vouches for.
Status ask_for_credentials(int socket) {
  const int on = 1;
  if (::setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
    return fail_errno("SO_PASSCRED");
  return {};
}

}  // namespace

TemplateJail::TemplateJail(Loop& loop, JailProcess::Making making,
                           std::shared_ptr<const Signature> signature, Limits limits,
                           TemplateEvents events, std::function<void()> on_end)
    : loop_(loop),
      signature_(std::move(signature)),
      limits_(limits),
      events_(std::move(events)),
      on_end_(std::move(on_end)),
      asked_(loop.now()),
      start_timer_(loop,
                   [this] {
                     complaint_ = fmt::format("it was not ready within {}",
                                              to_string(limits_.start_timeout));
                     jail_.kill();
                   }),
      origin_(making.plan.awaits_version ? Origin::Environment : Origin::Artifact),
      jail_(loop, std::move(making),
            {.on_control = [this] { return handle_control(); },
             .on_process_exit = [this](const JailExit& report) { handle_exit_report(report); },
             .on_end = [this](const JailProcess::Ended& ended) { handle_end(ended); },
             .on_failed = [this](Error error) { complaint_ = std::move(error.message); }}) {}

Status TemplateJail::start(BlankProcess& blank, std::function<void(std::string_view line)> on_log) {
  TRY(jail_.make(blank, std::move(on_log)));
  start_timer_.arm_in(limits_.start_timeout);
  return {};
}

// ---- Environments -------------------------------------------------------------------------------

Status TemplateJail::give(const std::shared_ptr<TemplateJail>& self, BlankProcess& blank,
                          Version version) {
  if (self->state_ != State::Waiting) return fail(Code::Aborted, "the environment is gone");
  TRY(self->jail_.fit(blank, std::move(version.fitting),
                      [weak = std::weak_ptr(self)](const Status& fitted) {
                        if (const auto jail = weak.lock()) jail->handle_fitted(fitted);
                      }));
  self->signature_ = std::move(version.signature);
  self->limits_ = version.limits;
  self->events_ = std::move(version.events);
  self->asked_ = self->loop_.now();
  self->answered_ = false;
  self->origin_ = Origin::Given;
  self->state_ = State::Fitting;
  self->start_timer_.arm_in(self->limits_.start_timeout);
  return {};
}

void TemplateJail::handle_fitted(const Status& fitted) {
  if (state_ != State::Fitting) return;
  state_ = State::Building;
  const Status told =
      fitted ? send_spawn(jail_.control(), {.kind = SpawnKind::Give}) : Status(fitted);
  if (!told) {
    unfit_ = told.error().message;
    jail_.kill();
  }
}

// ---- Forks --------------------------------------------------------------------------------------

Result<std::shared_ptr<InstanceProcess>> TemplateJail::fork(InstanceEvents events) {
  if (state_ != State::Ready) return refuse(reason::kStartFailed, "the template is gone");
  InstanceProcess::Making making;
  making.signature = signature_;
  making.max_reply = limits_.max_reply;
  SocketPair doorbell = TRY(make_seqpacket_pair());
  TRY(set_nonblocking(doorbell.ours.get()));
  TRY(ask_for_credentials(doorbell.ours.get()));
  making.own = std::make_shared<Region>(TRY(Region::create(kInstanceRegion)));
  making.doorbell = std::move(doorbell.ours);
  std::array<int, 2> passed = {doorbell.theirs.get(), -1};
  if (jail_.groups()) {
    making.slot = TRY(jail_.groups()->acquire());
    passed[1] = making.slot->join;
  }
  const std::size_t count = passed[1] >= 0 ? 2 : 1;
  const std::optional<MemorySlot> slot = making.slot;
  const std::uint64_t id = next_id_++;
  if (Status sent = send_spawn(jail_.control(), {.kind = SpawnKind::Fork, .id = id}, {},
                               std::span(passed).first(count));
      !sent) {
    // It died, or its whole jail did, and that has not been told yet.
    if (slot) jail_.groups()->release(*slot);
    return refuse(reason::kStartFailed, std::move(sent).error().in("ask the template").message);
  }
  auto instance = std::make_shared<InstanceProcess>(loop_, jail_, std::move(making),
                                                    std::move(events), [this, id] {
                                                      instances_.erase(id);
                                                      end_if_idle();
                                                    });
  instances_.emplace(id, instance);
  return instance;
}

std::vector<std::shared_ptr<InstanceProcess>> TemplateJail::all_instances() const {
  std::vector<std::shared_ptr<InstanceProcess>> all;
  for (const auto& [id, instance] : instances_) all.push_back(instance);
  return all;
}

void TemplateJail::evict() {
  evicted_ = true;
  start_timer_.cancel();
  const bool has_been_ready = state_ == State::Ready || state_ == State::Lost;
  if (!has_been_ready || instances_.empty()) return jail_.kill();
  // It reads the end of the messages after the forks that it was asked for.
  jail_.finish_control();
}

void TemplateJail::end_if_idle() {
  if ((evicted_ || state_ == State::Lost) && instances_.empty()) jail_.kill();
}

// ---- What comes back ----------------------------------------------------------------------------

bool TemplateJail::handle_control() {
  for (int i = 0; i < kControlPerTurn; ++i) {
    if (jail_.control() < 0) return false;
    auto message = receive_spawn(jail_.control());
    if (message && !*message) return false;
    if (!message) {
      // Malformed: it means harm, or is beyond help.
      if (message.error().code != Code::Unavailable) jail_.kill();
      handle_template_gone();
      return false;
    }
    handle_message(std::move(**message));
  }
  return true;
}

void TemplateJail::handle_message(SpawnMessage message) {
  // Nothing is asked of it while it waits: what it says then is meant for nobody.
  if (state_ == State::Waiting) return jail_.kill();
  if (message.header.kind == SpawnKind::Ready) return handle_ready();
  if (message.header.kind == SpawnKind::StartFailed) {
    complaint_ = printable(message.body);
    return;
  }
  if (message.header.kind == SpawnKind::Unfit) {
    unfit_ = printable(message.body);
    return;
  }
  const auto found = instances_.find(message.header.id);
  if (found == instances_.end()) return;
  const std::shared_ptr<InstanceProcess> instance = found->second;
  if (message.header.kind == SpawnKind::Forked && message.descriptors.size() == 1) {
    instance->handle_forked(message.header.pid, std::move(message.descriptors[0]));
    for (const JailExit& early : early_exits_) instance->handle_report(early);
  } else if (message.header.kind == SpawnKind::ForkFailed) {
    instance->handle_never_forked();
  }
}

void TemplateJail::handle_ready() {
  if (state_ != State::Building || evicted_ || !complaint_.empty()) return;
  if (origin_ == Origin::Environment && jail_.worker_has_threads()) {
    complaint_ = "importing its packages started threads, which no fork inherits";
    return jail_.kill();
  }
  state_ = origin_ == Origin::Environment ? State::Waiting : State::Ready;
  answered_ = true;
  start_timer_.cancel();
  // It may be given away meanwhile, with other events.
  auto on_ready = std::move(events_.on_ready);
  on_ready(TemplateReady{.build = loop_.now() - asked_, .private_bytes = jail_.worker_memory()});
}

void TemplateJail::handle_template_gone() {
  jail_.close_control();
  for (const auto& instance : all_instances()) instance->handle_template_gone();
}

void TemplateJail::handle_exit_report(const JailExit& report) {
  if (report.pid == kWorkerPid) {
    Exit exit = exit_of(report);
    exit.oom = jail_.worker_oom();
    // What it had sent before its end counts.
    for (int turn = 0; turn < kLastTurns && handle_control();) ++turn;
    lose(exit);
    return;
  }
  for (const auto& instance : all_instances()) instance->handle_report(report);
  keep_if_early(report);
}

// A process may have ended before its template, waiting for a processor, tells which fork it was.
void TemplateJail::keep_if_early(const JailExit& report) {
  const auto awaited = [](const auto& entry) { return entry.second->awaits_fork(); };
  if (std::ranges::none_of(instances_, awaited)) return early_exits_.clear();
  // A hostile template makes as many processes as it likes.
  if (early_exits_.size() == kEarlyExits) early_exits_.erase(early_exits_.begin());
  early_exits_.push_back(report);
}

// What an environment template does not suit can still be started without one.
Error TemplateJail::why_not_started(const Exit& exit) const {
  if (!complaint_.empty()) return refuse(reason::kStartFailed, complaint_).error();
  std::string why = unfit_.empty()
                        ? fmt::format("the template did not start: {}", describe(exit))
                        : fmt::format("the environment template does not suit it: {}", unfit_);
  if (origin_ != Origin::Given) return refuse(reason::kStartFailed, std::move(why)).error();
  return {.code = Code::Aborted, .message = std::move(why)};
}

void TemplateJail::lose(Exit exit) {
  if (state_ == State::Building || state_ == State::Fitting) {
    fail_start(why_not_started(exit));
  } else if (state_ == State::Ready || state_ == State::Waiting) {
    state_ = State::Lost;
    if (!evicted_ && events_.on_lost) events_.on_lost(exit);
  }
  state_ = State::Lost;
  end_if_idle();
}

void TemplateJail::fail_start(Error error) {
  start_timer_.cancel();
  if (std::exchange(answered_, true) || evicted_) return;
  events_.on_ready(std::unexpected(std::move(error)));
}

void TemplateJail::handle_end(const JailProcess::Ended& ended) {
  for (const auto& instance : all_instances()) instance->handle_jail_end();
  lose(ended.worker);
  const auto on_end = std::move(on_end_);
  on_end();  // destroys this
}

}  // namespace mayfly
