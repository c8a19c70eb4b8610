// What JobStore knows of blobs: which are there, who names them, and how much that is.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>

#include "core/caller_reason.h"
#include "core/reason.h"
#include "core/units.h"
#include "jobs/job_store.h"
#include "publish/taken_file.h"

namespace mayfly {

Result<JobFile> JobStore::put(FileRole role, std::string name, int file, Pin& pin) {
  const auto digest = parse_digest(TRY(hash_file(file)));
  if (!digest) return fail(Code::Internal, "a digest that is none");
  // Pinned before it is looked for: nothing that is there goes any more.
  pin.add(*digest);
  watch(*digest);
  std::optional<BlobInfo> info = TRY(blobs_.find(*digest));
  if (!info) info = TRY(write_blob(file));
  watch(info->digest);
  if (info->digest != *digest)
    return fail(Code::DataLoss, fmt::format("{} changed while it was kept", name));
  return JobFile{.role = role, .name = std::move(name), .digest = *digest, .size = info->size};
}

void JobStore::watch(const Digest& digest) {
  const std::scoped_lock lock(mutex_);
  watched_.insert(digest);
}

// As much as there was when it was hashed: whoever made it may write on.
Result<BlobInfo> JobStore::write_blob(int file) {
  struct stat status{};
  if (::fstat(file, &status) != 0) return fail_errno("fstat");
  if (::lseek(file, 0, SEEK_SET) != 0) return fail_errno("lseek");
  const auto writer = TRY(blobs_.create());
  std::vector<std::byte> piece(std::size_t{256} << 10);
  for (auto left = static_cast<std::size_t>(status.st_size); left > 0;) {
    const ssize_t got = ::read(file, piece.data(), std::min(left, piece.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read");
    if (got == 0) break;
    TRY(writer->append(std::span(piece).first(static_cast<std::size_t>(got))));
    left -= static_cast<std::size_t>(got);
  }
  return writer->commit();
}

Result<JobStore::Overview> JobStore::overview() {
  const std::scoped_lock lock(mutex_);
  Overview found;
  Statement jobs = TRY(database_.prepare(
      "count jobs", "SELECT kind, state, count(*) FROM jobs GROUP BY kind, state"));
  while (TRY(jobs.step())) {
    const auto kind = static_cast<std::size_t>(jobs.integer(0));
    const auto state = static_cast<std::size_t>(jobs.integer(1));
    if (kind < kJobKinds && state < kJobStates)
      found.jobs[kind][state] = static_cast<std::uint64_t>(jobs.integer(2));
  }
  Statement files = TRY(database_.prepare("sum the files of jobs",
                                          "SELECT role, sum(size) FROM job_files GROUP BY role"));
  while (TRY(files.step())) {
    const auto role = static_cast<std::size_t>(files.integer(0));
    if (role < kFileRoles) found.bytes[role] = static_cast<std::uint64_t>(files.integer(1));
  }
  return found;
}

Result<Bytes> JobStore::sum_bytes(std::string_view project) {
  Statement query = TRY(database_.prepare("sum a project's files",
                                          "SELECT coalesce(sum(size), 0) FROM (SELECT DISTINCT "
                                          "digest, size FROM job_files WHERE job IN "
                                          "(SELECT id FROM jobs WHERE project = ?1))"));
  query.bind(project);
  if (!TRY(query.step())) return Bytes{};
  return Bytes{static_cast<std::uint64_t>(query.integer(0))};
}

Result<Bytes> JobStore::bytes_of(std::string_view project) {
  const std::scoped_lock lock(mutex_);
  return sum_bytes(project);
}

// Within the transaction that named them. `before` it the project kept so much: what adds nothing
// is not refused, though the limit was lowered or others have filled it.
Status JobStore::check_bytes(std::string_view project, Bytes limit, Bytes before) {
  if (limit == Bytes{}) return {};
  const Bytes sum = TRY(sum_bytes(project));
  if (sum <= limit || sum <= before) return {};
  return refuse(
      reason::kQuotaExceeded,
      fmt::format("job_bytes: the project's jobs would keep {} of its {}; what is over is "
                  "forgotten after its keep_for",
                  to_string(sum), to_string(limit)));
}

// What is done is done: blobs that cannot be removed now are looked at again.
void JobStore::clean_up(const std::vector<Digest>& digests) {
  if (const Status removed = remove_unnamed(digests); removed) return;
  for (const Digest& digest : digests) watch(digest);
}

Result<bool> JobStore::is_named(const Digest& digest) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare("look whether a job names a blob",
                                          "SELECT 1 FROM job_files WHERE digest = ?1 LIMIT 1"));
  query.bind(std::span(digest.bytes));
  if (TRY(query.step())) return true;
  return named_elsewhere_ ? named_elsewhere_(digest) : false;
}

// The sweep begins before it is asked who names them: see Pins.
Status JobStore::remove_unnamed(const std::vector<Digest>& digests) {
  if (digests.empty()) return {};
  const std::scoped_lock one_at_a_time(sweeping_);
  Sweep sweep = TRY(pins_.begin_sweep());
  for (const Digest& digest : digests) {
    if (TRY(is_named(digest))) continue;
    const bool removed =
        TRY(sweep.remove_unless_pinned(digest, [&] { return blobs_.remove(digest); }));
    if (!removed) watch(digest);
  }
  return {};
}

Status JobStore::remove_orphans() {
  std::vector<Digest> orphans;
  TRY(blobs_.for_each([&](const BlobInfo& info) -> Status {
    if (!TRY(is_named(info.digest))) orphans.push_back(info.digest);
    return {};
  }));
  return remove_unnamed(orphans);
}

}  // namespace mayfly
