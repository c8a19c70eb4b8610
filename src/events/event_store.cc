#include "events/event_store.h"

#include <tuple>
#include <utility>

#include "base/file.h"

namespace mayfly {
namespace {

constexpr std::size_t kSweptAtOnce = 1000;
constexpr std::size_t kLargestKept = std::size_t{1} << 40;  // what was accepted is read, whole

}  // namespace

Result<Digest> EventStore::put(std::string_view bytes, Pin& pin) {
  const Digest digest = sha256(bytes);
  pin.add(digest);
  if (TRY(blobs_.find(digest))) return digest;
  const auto writer = TRY(blobs_.create());
  TRY(writer->append(std::as_bytes(std::span(bytes))));
  return TRY(writer->commit()).digest;
}

Result<std::string> EventStore::get(const Digest& digest) const {
  const auto file = blobs_.open(digest);
  if (!file) {
    return fail(Code::DataLoss, "the bytes of an event are missing: " + file.error().message);
  }
  return read_all_fd(file->get(), kLargestKept);
}

Result<WorkQueue::Enqueued> EventStore::accept(WorkSpec spec, std::string_view payload,
                                               std::uint64_t limit) {
  const auto attempt = [&]() -> Result<WorkQueue::Enqueued> {
    Pin pin = pins_.hold({});
    spec.payload = TRY(put(payload, pin));
    return queue_.enqueue(spec, limit);
  };
  auto enqueued = attempt();
  // What is refused keeps nothing on the disk.
  if (!enqueued) std::ignore = remove_unnamed({spec.payload});
  return enqueued;
}

Result<std::string> EventStore::payload(const WorkItem& item) const {
  return get(item.spec.payload);
}

Result<std::string> EventStore::result(const WorkItem& item) const {
  if (!item.result) return fail(Code::NotFound, "the event has no result");
  return get(item.result->blob);
}

Result<std::optional<std::string>> EventStore::result_up_to(const WorkItem& item,
                                                            std::size_t most) const {
  if (!item.result) return std::nullopt;
  const auto known = TRY(blobs_.find(item.result->blob));
  if (!known || known->size > most) return std::nullopt;
  std::string body = TRY(get(item.result->blob));
  return body;
}

Status EventStore::complete(const Lease& lease, WallTime now, Answer answer) {
  Digest body{};
  const auto attempt = [&]() -> Status {
    Pin pin = pins_.hold({});
    body = TRY(put(answer.body, pin));
    return queue_.complete(lease, {.now = now,
                                   .result = {.detail = std::move(answer.detail), .blob = body},
                                   .receipt = std::move(answer.receipt)});
  };
  Status completed = attempt();
  if (!completed) std::ignore = remove_unnamed({body});
  return completed;
}

Result<std::uint64_t> EventStore::sweep(WallTime now) {
  std::uint64_t changed = 0;
  for (;;) {
    const WorkQueue::Swept swept = TRY(queue_.sweep(now, kSweptAtOnce));
    TRY(remove_unnamed(swept.unreferenced));
    changed += swept.changed;
    if (swept.changed < kSweptAtOnce) return changed;
  }
}

Status EventStore::keep(std::string_view bytes, const std::function<Status(const Digest&)>& name) {
  Digest digest{};
  const auto attempt = [&]() -> Status {
    Pin pin = pins_.hold({});
    digest = TRY(put(bytes, pin));
    return name(digest);
  };
  Status named = attempt();
  if (!named) std::ignore = remove_unnamed({digest});
  return named;
}

Result<bool> EventStore::is_named(const Digest& digest) {
  if (TRY(queue_.refers_to(digest))) return true;
  return named_elsewhere_ ? named_elsewhere_(digest) : false;
}

// The sweep begins before it is asked who names them: see Pins.
Status EventStore::remove_unnamed(const std::vector<Digest>& digests) {
  if (digests.empty()) return {};
  Sweep sweep = TRY(pins_.begin_sweep());
  for (const Digest& digest : digests) {
    if (TRY(is_named(digest))) continue;
    std::ignore = TRY(sweep.remove_unless_pinned(digest, [&] { return blobs_.remove(digest); }));
  }
  return {};
}

Status EventStore::remove_orphans() {
  std::vector<Digest> orphans;
  TRY(blobs_.for_each([&](const BlobInfo& info) -> Status {
    if (!TRY(is_named(info.digest))) orphans.push_back(info.digest);
    return {};
  }));
  return remove_unnamed(orphans);
}

}  // namespace mayfly
