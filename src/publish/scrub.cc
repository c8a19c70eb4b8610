#include "publish/scrub.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>
#include <utility>

#include "async/sleep.h"
#include "base/log.h"
#include "base/remove_tree.h"
#include "publish/taken_file.h"

namespace mayfly {
namespace {

constexpr const char* kStamp = "last-scrub";
constexpr int kIoWhoThread = 1;   // IOPRIO_WHO_PROCESS: the calling thread
constexpr int kIoIdle = 3 << 13;  // IOPRIO_CLASS_IDLE
constexpr auto kSoonest = std::chrono::seconds(1);

// It takes what nobody else wants, of the processor and of the disk.
void become_idle() {
  const sched_param none{};
  ::sched_setscheduler(0, SCHED_IDLE, &none);
  ::syscall(SYS_ioprio_set, kIoWhoThread, 0, kIoIdle);
}

bool is_gone(const Path& path) {
  struct stat status{};
  return ::lstat(path.c_str(), &status) != 0 && errno == ENOENT;
}

}  // namespace

std::string_view to_string(Damage::Kind kind) {
  return kind == Damage::Kind::Blob ? "blob" : "form";
}

std::string quarantined_name(Damage::Kind kind, std::string_view name) {
  return fmt::format("{}-{}", to_string(kind), name);
}

Scrub::Scrub(Parts parts, Options options, OnDamage on_damage)
    : parts_(std::move(parts)),
      options_(options),
      on_damage_(std::move(on_damage)),
      pool_(parts_.loop, "scrub", 1) {}

Scrub::Counts Scrub::counts() const {
  Counts counts = counts_;
  counts.bytes = bytes_;
  return counts;
}

Result<std::vector<Digest>> Scrub::list_blobs() const {
  std::vector<Digest> digests;
  TRY(parts_.blobs.for_each([&](const BlobInfo& info) -> Status {
    digests.push_back(info.digest);
    return {};
  }));
  return digests;
}

Result<std::vector<std::string>> Scrub::list_forms() const {
  std::vector<std::string> keys;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(parts_.compiled, error))
    keys.push_back(entry.path().filename());
  if (error) return std::unexpected(errno_error(parts_.compiled.native(), error.value()));
  return keys;
}

Status Scrub::pace(std::uint64_t bytes) {
  bytes_ += bytes;
  if (stopping_) return fail(Code::Cancelled, "the node is stopping");
  if (options_.rate.count > 0)
    std::this_thread::sleep_for(
        std::chrono::nanoseconds(bytes * 1'000'000'000 / options_.rate.count));
  return {};
}

Result<std::optional<Damage>> Scrub::quarantine(Damage damage, const Path& from) {
  TRY(make_directories(parts_.quarantine));
  const Path to = parts_.quarantine / quarantined_name(damage.kind, damage.name);
  TRY(remove_tree(to));
  if (::rename(from.c_str(), to.c_str()) == 0) return damage;
  if (errno == ENOENT) return std::nullopt;  // it went meanwhile
  return fail_errno(fmt::format("move {} to quarantine", from.native()));
}

Result<std::optional<Damage>> Scrub::check_blob(const Digest& digest) {
  become_idle();
  if (!parts_.blobs.is_here(digest)) return std::nullopt;  // is hashed when it is fetched
  const auto blob = parts_.blobs.file(digest);
  if (!blob && blob.error().code == Code::NotFound) return std::nullopt;
  if (!blob) return std::unexpected(blob.error());
  const Path path = blob->path;
  const auto file = parts_.blobs.open(digest);
  if (!file && is_gone(path)) return std::nullopt;
  const auto hash =
      file ? hash_file(file->get(), [this](std::uint64_t bytes) { return pace(bytes); })
           : std::unexpected(file.error());
  if (!hash && hash.error().code == Code::Cancelled) return std::unexpected(hash.error());
  const std::string name = to_string(digest);
  if (hash && *hash == name) return std::nullopt;
  return quarantine(
      {.kind = Damage::Kind::Blob,
       .name = name,
       .why = hash ? fmt::format("its bytes hash to {}", *hash) : hash.error().message},
      path);
}

Result<std::optional<Damage>> Scrub::check_form(const std::string& key) {
  become_idle();
  const Status whole =
      parts_.forms.verify(key, [this](std::uint64_t bytes) { return pace(bytes); });
  const Path path = parts_.forms.folder(key);
  if (whole || is_gone(path)) return std::nullopt;
  if (whole.error().code == Code::Cancelled) return std::unexpected(whole.error());
  return quarantine({.kind = Damage::Kind::Form, .name = key, .why = whole.error().message}, path);
}

template <typename Check>
Task<Status> Scrub::look_at(Check check) {
  CO_TRY(std::optional<Damage> damage, co_await pool_.run(std::move(check)));
  if (!damage) co_return Status{};
  ++(damage->kind == Damage::Kind::Blob ? counts_.damaged_blobs : counts_.damaged_forms);
  if (on_damage_) co_await on_damage_(*std::move(damage));
  co_return Status{};
}

Task<Status> Scrub::round(CancelToken stop) {
  const CancelCallback stopped(stop, [this] { stopping_ = true; });
  CO_TRY(const std::vector<Digest> blobs, co_await pool_.run([&] { return list_blobs(); }));
  for (const Digest& digest : blobs) {
    CO_TRY_STATUS(co_await look_at([this, digest] { return check_blob(digest); }));
  }
  CO_TRY(const std::vector<std::string> forms, co_await pool_.run([&] { return list_forms(); }));
  for (const std::string& key : forms) {
    CO_TRY_STATUS(co_await look_at([this, key] { return check_form(key); }));
  }
  ++counts_.rounds;
  co_return co_await pool_.run([&]() -> Status {
    TRY(make_directories(parts_.quarantine));
    return write_file_durably(parts_.quarantine / kStamp, "");
  });
}

// From the end of the last round, whichever process made it.
Duration Scrub::until_due() const {
  struct stat status{};
  if (::stat((parts_.quarantine / kStamp).c_str(), &status) != 0) return options_.every;
  const WallTime last(std::chrono::seconds(status.st_mtim.tv_sec));
  const Duration since = parts_.loop.clock().wall_now() - last;
  return std::clamp<Duration>(options_.every - since, kSoonest, options_.every);
}

Task<void> Scrub::keep_on(std::optional<Gate::Hold> hold, CancelToken stop) {
  if (!hold || options_.every == Duration::zero()) co_return;
  Duration wait = co_await pool_.run([&] { return until_due(); });
  while (co_await sleep_until(parts_.loop, parts_.loop.now() + wait, stop)) {
    const TimePoint begun = parts_.loop.now();
    const Counts before = counts();
    const Status done = co_await round(stop);
    if (!done && done.error().code == Code::Cancelled) co_return;
    if (!done) LOG(error, "scrub failed", {"error", done.error().message});
    const Counts after = counts();
    LOG(info, "scrub ended", {"bytes", after.bytes - before.bytes},
        {"damaged",
         after.damaged_blobs + after.damaged_forms - before.damaged_blobs - before.damaged_forms},
        {"seconds",
         std::chrono::duration_cast<std::chrono::seconds>(parts_.loop.now() - begun).count()});
    wait = options_.every;
  }
}

}  // namespace mayfly
