#include "app/testing/crashing_stores.h"

#include <unistd.h>

#include <charconv>
#include <csignal>
#include <utility>
#include <vector>

namespace mayfly {
namespace {

template <typename Call>
auto run_at(CrashPoint& crash, const std::string& name, Call call) {
  crash.pass(name + ".before");
  auto done = call();
  crash.pass(name + ".after");
  return done;
}

class CrashingDeliveries final : public Deliveries {
 public:
  CrashingDeliveries(Deliveries& deliveries, CrashPoint& crash)
      : deliveries_(deliveries), crash_(crash) {}

  Result<std::vector<Delivery>> lease(const LeaseAsk& ask) override {
    auto leased = deliveries_.lease(ask);
    if (leased && !leased->empty()) crash_.pass("delivery_lease.after");
    return leased;
  }
  Status finish(const DeliveryKey& key, const Finish& finish) override {
    return run_at(crash_, "delivery_finish", [&] { return deliveries_.finish(key, finish); });
  }
  Result<Delivery> again(std::string_view item, WallTime now) override {
    return run_at(crash_, "delivery_again", [&] { return deliveries_.again(item, now); });
  }
  Result<std::vector<Delivery>> of(std::string_view item) override { return deliveries_.of(item); }
  Result<std::optional<WallTime>> next_due() override { return deliveries_.next_due(); }
  Result<std::uint64_t> unsettled() override { return deliveries_.unsettled(); }
  Status recover(WallTime now) override {
    return run_at(crash_, "delivery_recover", [&] { return deliveries_.recover(now); });
  }

 private:
  Deliveries& deliveries_;
  CrashPoint& crash_;
};

class CrashingQueue final : public WorkQueue {
 public:
  CrashingQueue(std::unique_ptr<WorkQueue> queue, CrashPoint& crash)
      : queue_(std::move(queue)), crash_(crash), deliveries_(queue_->deliveries(), crash) {}

  Result<Enqueued> enqueue(const WorkSpec& spec, std::uint64_t limit) override {
    if (!spec.told_by.item.empty())
      return run_at(crash_, "delivery_enqueue", [&] { return queue_->enqueue(spec, limit); });
    return run_at(crash_, "enqueue", [&] { return queue_->enqueue(spec, limit); });
  }
  Result<std::vector<WorkItem>> lease(const LeaseAsk& ask) override {
    auto leased = queue_->lease(ask);
    if (leased && !leased->empty()) crash_.pass("lease.after");
    return leased;
  }
  Status extend(const Lease& lease, WallTime until) override {
    return run_at(crash_, "extend", [&] { return queue_->extend(lease, until); });
  }
  Status complete(const Lease& lease, const Finish& finish) override {
    return run_at(crash_, "complete", [&] { return queue_->complete(lease, finish); });
  }
  Status retry(const Lease& lease, const Failure& failure) override {
    return run_at(crash_, "retry", [&] { return queue_->retry(lease, failure); });
  }
  Status bury(const Lease& lease, const Failure& failure) override {
    return run_at(crash_, "bury", [&] { return queue_->bury(lease, failure); });
  }
  Status put_back(const Lease& lease, const Failure& failure) override {
    return run_at(crash_, "put_back", [&] { return queue_->put_back(lease, failure); });
  }
  Status settle(const std::vector<Receipt>& receipts) override {
    if (receipts.empty()) return {};
    return run_at(crash_, "settle", [&] { return queue_->settle(receipts); });
  }
  Result<std::vector<WorkItem>> unsettled(std::size_t limit) override {
    return queue_->unsettled(limit);
  }
  Result<WorkItem> cancel(std::string_view id, WallTime now) override {
    return run_at(crash_, "cancel", [&] { return queue_->cancel(id, now); });
  }
  Result<WorkItem> redrive(std::string_view id, WallTime now, WallTime expires) override {
    return run_at(crash_, "redrive", [&] { return queue_->redrive(id, now, expires); });
  }
  Result<std::optional<WorkItem>> find(std::string_view id) override { return queue_->find(id); }
  Result<std::optional<WorkItem>> find_key(std::string_view lane, std::string_view key) override {
    return queue_->find_key(lane, key);
  }
  Result<std::vector<WorkItem>> list(const ListAsk& ask) override { return queue_->list(ask); }
  Result<Counts> counts(std::string_view lane) override { return queue_->counts(lane); }
  Result<Overview> overview() override { return queue_->overview(); }
  Result<std::vector<WorkItem>> recover(WallTime now) override {
    return run_at(crash_, "recover", [&] { return queue_->recover(now); });
  }
  Result<std::optional<WallTime>> next_due() override { return queue_->next_due(); }
  Result<Swept> sweep(WallTime now, std::size_t limit) override {
    auto swept = queue_->sweep(now, limit);
    if (swept && swept->changed > 0) crash_.pass("sweep.after");
    return swept;
  }
  Result<bool> refers_to(const Digest& blob) override { return queue_->refers_to(blob); }
  Deliveries& deliveries() override { return deliveries_; }

 private:
  std::unique_ptr<WorkQueue> queue_;
  CrashPoint& crash_;
  CrashingDeliveries deliveries_;
};

class CrashingWriter final : public BlobWriter {
 public:
  CrashingWriter(std::unique_ptr<BlobWriter> writer, CrashPoint& crash)
      : writer_(std::move(writer)), crash_(crash) {}
  std::uint64_t offset() const override { return writer_->offset(); }
  Status append(std::span<const std::byte> bytes) override { return writer_->append(bytes); }
  Result<BlobInfo> commit() override {
    return run_at(crash_, "blob", [&] { return writer_->commit(); });
  }

 private:
  std::unique_ptr<BlobWriter> writer_;
  CrashPoint& crash_;
};

class CrashingBlobs final : public BlobStore {
 public:
  CrashingBlobs(std::unique_ptr<BlobStore> blobs, CrashPoint& crash)
      : blobs_(std::move(blobs)), crash_(crash) {}

  Result<std::unique_ptr<BlobWriter>> create() override {
    auto writer = TRY(blobs_->create());
    return std::make_unique<CrashingWriter>(std::move(writer), crash_);
  }
  using BlobStore::resume;
  Result<std::unique_ptr<BlobWriter>> resume(const std::optional<Digest>& expected,
                                             const Digest& slot) override {
    return blobs_->resume(expected, slot);
  }
  Result<std::uint64_t> partial_size(const Digest& slot) const override {
    return blobs_->partial_size(slot);
  }
  Status drop_partial(const Digest& slot) override { return blobs_->drop_partial(slot); }
  Status for_each_partial(const std::function<Status(const BlobInfo&)>& visit) const override {
    return blobs_->for_each_partial(visit);
  }
  Result<Fd> open(const Digest& digest) const override { return blobs_->open(digest); }
  Result<BlobFile> file(const Digest& digest) const override { return blobs_->file(digest); }
  Result<BlobInfo> adopt(const Digest& digest, const BlobStore& from) override {
    return blobs_->adopt(digest, from);
  }
  Result<std::optional<BlobInfo>> find(const Digest& digest) const override {
    return blobs_->find(digest);
  }
  Status remove(const Digest& digest) override {
    return run_at(crash_, "remove", [&] { return blobs_->remove(digest); });
  }
  Status for_each(const std::function<Status(const BlobInfo&)>& visit) const override {
    return blobs_->for_each(visit);
  }

 private:
  std::unique_ptr<BlobStore> blobs_;
  CrashPoint& crash_;
};

}  // namespace

Result<CrashPoint> CrashPoint::parse(std::string_view text) {
  if (text.empty()) return CrashPoint("", 0);
  const std::size_t colon = text.find(':');
  std::uint64_t times = 0;
  if (colon != std::string_view::npos)
    std::from_chars(text.data() + colon + 1, text.data() + text.size(), times);
  if (times > 0) return CrashPoint(std::string(text.substr(0, colon)), times);
  return fail(Code::InvalidArgument, "a place to die at is written PLACE:TIMES");
}

void CrashPoint::pass(std::string_view place) {
  if (place == place_ && left_.fetch_sub(1) == 1) ::kill(::getpid(), SIGKILL);
}

EventStores crashing_stores(EventStores stores, CrashPoint& crash) {
  EventStores crashing;
  crashing.queue = std::make_unique<CrashingQueue>(std::move(stores.queue), crash);
  crashing.blobs = std::make_unique<CrashingBlobs>(std::move(stores.blobs), crash);
  crashing.schedules = std::move(stores.schedules);
  return crashing;
}

}  // namespace mayfly
