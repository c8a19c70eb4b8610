#include "remote/s3_blob_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"
#include "core/reason.h"
#include "remote/blob_origin.h"
#include "store/storage_error.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kClaimAgain = 15s;
constexpr Duration kTrimAgain = 5s;

}  // namespace

// From before a blob is looked for in the store until it has its name here: meanwhile no removal
// may take the object away.
struct S3BlobStore::Commit {
  explicit Commit(S3BlobStore& into) : store(into) {}
  Commit(const Commit&) = delete;
  Commit& operator=(const Commit&) = delete;
  ~Commit() {
    if (digest) store.end_commit(*digest);
  }
  static BeforeNaming hook(std::shared_ptr<Commit> self) {
    return [self = std::move(self)](const Digest& blob, int file, std::uint64_t size) {
      self->digest = blob;
      return self->store.begin_commit(blob, file, size);
    };
  }
  S3BlobStore& store;
  std::optional<Digest> digest;
};

class S3BlobWriter final : public BlobWriter {
 public:
  // `writer` has the commit too, and ends it when it goes.
  S3BlobWriter(S3BlobStore& store, std::unique_ptr<BlobWriter> writer)
      : store_(store), writer_(std::move(writer)) {}

  std::uint64_t offset() const override { return writer_->offset(); }
  Status append(std::span<const std::byte> bytes) override { return writer_->append(bytes); }
  Result<BlobInfo> commit() override {
    auto info = writer_->commit();
    if (info) store_.admit(*info);
    return info;
  }

 private:
  S3BlobStore& store_;
  std::unique_ptr<BlobWriter> writer_;
};

struct S3BlobStore::Hold {
  Hold(const S3BlobStore& held_in, const Digest& blob) : store(held_in), digest(blob) {}
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  ~Hold() { store.release(digest); }
  const S3BlobStore& store;
  const Digest digest;
};

S3BlobStore::S3BlobStore(S3Client& client, Options options, std::unique_ptr<LocalBlobStore> local)
    : client_(client), options_(std::move(options)), local_(std::move(local)) {}

S3BlobStore::~S3BlobStore() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (tidier_.joinable()) tidier_.join();
}

// Once the blobs are there, a store that is away keeps no node from serving what is here.
Result<std::unique_ptr<S3BlobStore>> S3BlobStore::open(S3Client& client, Options options,
                                                       Rng& rng) {
  auto local = TRY(LocalBlobStore::open(options.root, options.tmp));
  const Path root = options.root;
  const std::string prefix = options.prefix;
  const std::string address = fmt::format("s3://{}/{}", client.place().bucket(), prefix);
  BlobOrigin origin = TRY(begin_origin(root, address, rng));
  std::unique_ptr<S3BlobStore> store(new S3BlobStore(client, std::move(options), std::move(local)));
  const Status claimed = origin.there ? store->claim(origin.id)  // waits for nobody
                                      : claim_prefix(client, prefix, origin.id);
  if (!claimed && (!origin.there || claimed.error().code == Code::FailedPrecondition))
    return std::unexpected(claimed.error());
  if (!claimed) {
    LOG(error, "the object store does not answer; what is cached is served",
        {"error", claimed.error().message});
    store->unclaimed_ = origin.id;
  }
  if (claimed) store->abort_uploads();
  TRY(store->count_cache());
  if (!origin.there) {
    TRY(store->copy_to_store());
    origin.there = true;
    TRY(write_blob_origin(root, origin));
  }
  store->trim();
  store->tidier_ = std::thread([raw = store.get()] { raw->tidy(); });
  return store;
}

Status S3BlobStore::claim(const std::string& id) {
  const Duration patience = options_.start_patience;
  const S3Client::Hurry hurry(client_, client_.away() ? patience / 4 : patience);
  return claim_prefix(client_, options_.prefix, id);
}

// Of a store that was away when the node began.
void S3BlobStore::claim_late() {
  const Status claimed = claim_prefix(client_, options_.prefix, unclaimed_);
  if (claimed) {
    LOG(info, "the object store answers again", {"prefix", options_.prefix});
    unclaimed_.clear();
  } else if (claimed.error().code == Code::FailedPrecondition) {
    LOG(error, "the object store is another data folder's: stop this node",
        {"error", claimed.error().message});
  }
}

// Those of a process that died: the prefix is ours alone, and nothing of ours is under way yet.
void S3BlobStore::abort_uploads() {
  const auto aborted = client_.abort_uploads(options_.prefix);
  if (!aborted) {
    LOG(warn, "uploads that were cut off stay in the object store",
        {"error", aborted.error().message});
  } else if (*aborted > 0) {
    LOG(info, "uploads that were cut off are gone", {"uploads", *aborted});
  }
}

// The oldest is what goes first, as long as nobody has asked for it.
Status S3BlobStore::count_cache() {
  std::vector<BlobInfo> found;
  TRY(local_->for_each([&](const BlobInfo& info) -> Status {
    found.push_back(info);
    return {};
  }));
  std::ranges::sort(found, {}, &BlobInfo::modified);
  const std::scoped_lock lock(mutex_);
  for (const BlobInfo& info : found) {
    entries_[info.digest] = {.size = info.size, .used = ++tick_, .here = true};
    add_to_cache(info.size);
  }
  return {};
}

Status S3BlobStore::copy_to_store() {
  std::uint64_t bytes = 0;
  std::size_t blobs = 0;
  TRY(local_->for_each([&](const BlobInfo& info) -> Status {
    const Fd file = TRY(local_->open(info.digest));
    TRY(upload(info.digest, file.get(), info.size));
    bytes += info.size;
    ++blobs;
    return {};
  }));
  if (blobs == 0) return {};
  LOG(info, "blobs moved to the object store", {"bucket", client_.place().bucket()},
      {"prefix", options_.prefix}, {"blobs", blobs}, {"bytes", bytes});
  return {};
}

std::string S3BlobStore::key_of(const Digest& digest) const {
  return options_.prefix + to_string(digest);
}

// --- in ---

Status S3BlobStore::begin_commit(const Digest& digest, int file, std::uint64_t size) {
  {
    std::unique_lock lock(mutex_);
    committing_.insert(digest);
    changed_.wait(lock, [&] { return removing_ != digest; });
    removed_.erase(digest);
    gone_.erase(digest);
  }
  return upload(digest, file, size);
}

void S3BlobStore::end_commit(const Digest& digest) {
  const std::scoped_lock lock(mutex_);
  committing_.erase(committing_.find(digest));
}

Status S3BlobStore::upload(const Digest& digest, int file, std::uint64_t size) {
  const std::string key = key_of(digest);
  const auto there = TRY(client_.find(key));
  if (there && there->size == size) return {};
  return client_.put(key, file, size, digest);
}

Result<std::unique_ptr<BlobWriter>> S3BlobStore::create() {
  return std::make_unique<S3BlobWriter>(
      *this, TRY(local_->create(Commit::hook(std::make_shared<Commit>(*this)))));
}

Result<std::unique_ptr<BlobWriter>> S3BlobStore::resume(const std::optional<Digest>& expected,
                                                        const Digest& slot) {
  auto commit = std::make_shared<Commit>(*this);
  return std::make_unique<S3BlobWriter>(
      *this, TRY(local_->resume(expected, slot, Commit::hook(std::move(commit)))));
}

Result<BlobInfo> S3BlobStore::adopt(const Digest& digest, const BlobStore& from) {
  if (const auto known = TRY(find(digest))) return *known;
  auto info = local_->adopt(digest, from, Commit::hook(std::make_shared<Commit>(*this)));
  if (info) admit(*info);
  return info;
}

// --- out ---

Result<std::optional<BlobInfo>> S3BlobStore::find(const Digest& digest) const {
  if (is_removed(digest)) return std::nullopt;
  if (const auto here = TRY(local_->find(digest))) return here;
  const auto there = TRY(client_.find(key_of(digest)));
  if (!there) return std::nullopt;
  return BlobInfo{.digest = digest, .size = there->size, .modified = there->modified};
}

Result<Fd> S3BlobStore::open(const Digest& digest) const {
  const BlobFile held = TRY(file(digest));
  return local_->open(digest);
}

Result<BlobFile> S3BlobStore::file(const Digest& digest) const {
  // Held before it is looked for: what is there then stays.
  BlobFile found{.path = local_->path_of(digest), .hold = hold(digest)};
  if (!is_removed(digest)) {
    if (TRY(local_->find(digest))) {
      ++client_.counts().hits;
      return found;
    }
    ++client_.counts().misses;
    TRY(fetch(digest));
    if (TRY(local_->find(digest))) return found;
  }
  return fail(Code::NotFound, fmt::format("there is no blob {}", to_string(digest)));
}

Status S3BlobStore::for_each(const std::function<Status(const BlobInfo&)>& visit) const {
  {
    const std::scoped_lock lock(mutex_);
    ++listings_;
  }
  Status listed = client_.for_each(options_.prefix, [&](const S3Object& object) -> Status {
    if (!object.key.starts_with(options_.prefix)) return {};
    const auto digest = parse_digest(std::string_view(object.key).substr(options_.prefix.size()));
    if (!digest || !is_listed(*digest)) return {};
    BlobInfo info{.digest = *digest, .size = object.size, .modified = object.modified};
    // Uploaded again, it is young again, though the store had it.
    if (const auto here = TRY(local_->find(*digest)))
      info.modified = std::max(info.modified, here->modified);
    return visit(info);
  });
  end_listing();
  return listed;
}

bool S3BlobStore::is_listed(const Digest& digest) const {
  const std::scoped_lock lock(mutex_);
  return !removed_.contains(digest) && !gone_.contains(digest);
}

void S3BlobStore::end_listing() const {
  const std::scoped_lock lock(mutex_);
  if (--listings_ == 0) gone_.clear();
}

// One thread fetches, who else wants it waits.
Status S3BlobStore::fetch(const Digest& digest) const {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !fetching_.contains(digest); });
    const auto entry = entries_.find(digest);
    if (entry != entries_.end() && entry->second.here && TRY(local_->find(digest))) return {};
    fetching_.insert(digest);
  }
  Status fetched = fetch_once(digest);
  // What an earlier try had left may have been what was wrong.
  if (!fetched && fetched.error().code == Code::DataLoss) fetched = fetch_once(digest);
  {
    const std::scoped_lock lock(mutex_);
    fetching_.erase(digest);
  }
  changed_.notify_all();
  return fetched;
}

Status S3BlobStore::fetch_once(const Digest& digest) const {
  const std::string key = key_of(digest);
  const auto object = TRY(client_.find(key));
  if (!object) return fail(Code::NotFound, fmt::format("there is no blob {}", to_string(digest)));
  const Digest slot = sha256("fetched " + to_string(digest));
  if (TRY(local_->partial_size(slot)) > object->size) TRY(local_->drop_partial(slot));
  const auto damaged = [&](std::string_view why) {
    return fail(Code::DataLoss,
                fmt::format("the object {} in bucket '{}' of the object store at {} is not the "
                            "blob of that name: {}; put the right bytes there, from a backup",
                            key, client_.place().bucket(), client_.place().endpoint(), why));
  };
  const std::unique_ptr<BlobWriter> writer = TRY(local_->resume(digest, slot));
  bool longer = false;
  const Status got = client_.get(key, writer->offset(), [&](std::string_view piece) -> Status {
    longer = longer || piece.size() > object->size - writer->offset();
    if (longer) return damaged("it is longer than the store says");
    return writer->append(std::as_bytes(std::span(piece)));
  });
  if (!got && !longer) return got;
  // Only what hashes to its name is kept.
  auto info = writer->commit();
  if (!info && info.error().reason == reason::kDigestMismatch) return damaged(info.error().message);
  if (!info) return std::unexpected(std::move(info).error());
  admit(*info);
  return {};
}

// --- the cache ---

void S3BlobStore::add_to_cache(std::uint64_t bytes) const {
  total_ += bytes;
  client_.counts().cached += bytes;
}

void S3BlobStore::take_from_cache(std::uint64_t bytes) const {
  total_ -= bytes;
  client_.counts().cached -= bytes;
}

void S3BlobStore::admit(const BlobInfo& info) const {
  {
    const std::scoped_lock lock(mutex_);
    Entry& entry = entries_[info.digest];
    if (!entry.here) add_to_cache(info.size);
    entry.size = info.size;
    entry.used = ++tick_;
    entry.here = true;
  }
  trim();
}

void S3BlobStore::trim() const {
  std::vector<std::pair<std::uint64_t, Digest>> idle;
  {
    const std::scoped_lock lock(mutex_);
    if (total_ <= options_.cache.count) return;
    for (const auto& [digest, entry] : entries_)
      if (entry.here && entry.holds == 0) idle.emplace_back(entry.used, digest);
  }
  std::ranges::sort(idle);
  for (const auto& [used, digest] : idle) {
    if (options_.pinned && options_.pinned(digest)) continue;
    if (!evict(digest)) return;
  }
  changed_.notify_all();  // there is too much still: it is trimmed again
}

// False: enough has gone.
bool S3BlobStore::evict(const Digest& digest) const {
  const std::scoped_lock lock(mutex_);
  if (total_ <= options_.cache.count) return false;
  const auto entry = entries_.find(digest);
  if (entry == entries_.end() || entry->second.holds > 0 || !entry->second.here) return true;
  if (const Status gone = local_->remove(digest); !gone) {
    LOG(warn, "a cached blob stays", {"error", gone.error().message});
    return true;
  }
  take_from_cache(entry->second.size);
  entries_.erase(entry);
  return true;
}

std::shared_ptr<const void> S3BlobStore::hold(const Digest& digest) const {
  const std::scoped_lock lock(mutex_);
  Entry& entry = entries_[digest];
  ++entry.holds;
  entry.used = ++tick_;
  return std::make_shared<const Hold>(*this, digest);
}

void S3BlobStore::release(const Digest& digest) const {
  {
    const std::scoped_lock lock(mutex_);
    const auto entry = entries_.find(digest);
    if (entry == entries_.end()) return;
    if (--entry->second.holds == 0 && !entry->second.here) entries_.erase(entry);
  }
  trim();
}

Bytes S3BlobStore::cached() const {
  const std::scoped_lock lock(mutex_);
  return Bytes{total_};
}

// --- away ---

bool S3BlobStore::is_removed(const Digest& digest) const {
  const std::scoped_lock lock(mutex_);
  return removed_.contains(digest);
}

Status S3BlobStore::remove(const Digest& digest) {
  {
    const std::scoped_lock lock(mutex_);
    if (committing_.contains(digest)) return {};  // as if it had come a moment later
    TRY(local_->remove(digest));
    const auto entry = entries_.find(digest);
    if (entry != entries_.end() && std::exchange(entry->second.here, false)) {
      take_from_cache(entry->second.size);
      if (entry->second.holds == 0) entries_.erase(entry);
    }
    if (removed_.insert(digest).second) removals_.push_back(digest);
  }
  changed_.notify_all();
  return {};
}

void S3BlobStore::await_removals() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return removals_.empty() && !removing_; });
}

// What a deploy held while the cache was trimmed goes when it is over, whether or not anything else
// comes; and a store that was away is claimed.
std::optional<Duration> S3BlobStore::pause_before_chores() const {
  if (total_ > options_.cache.count) return kTrimAgain;
  if (!unclaimed_.empty()) return kClaimAgain;
  return std::nullopt;
}

void S3BlobStore::do_chores() {
  trim();
  if (!unclaimed_.empty()) claim_late();
}

// Waits for one. nullopt: I go.
std::optional<Digest> S3BlobStore::next_removal() {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto wanted = [&] { return stopping_ || !removals_.empty(); };
    if (const auto pause = pause_before_chores(); !pause) {
      changed_.wait(lock, [&] { return wanted() || pause_before_chores(); });
    } else if (!changed_.wait_for(lock, *pause, wanted)) {
      lock.unlock();
      do_chores();
      lock.lock();
    }
    if (stopping_) return std::nullopt;
    if (removals_.empty()) continue;
    const Digest digest = removals_.front();
    removals_.pop_front();
    if (removed_.contains(digest)) {
      removing_ = digest;
      return digest;
    }
    changed_.notify_all();  // it was uploaded again
  }
}

void S3BlobStore::tidy() {
  while (const auto digest = next_removal()) {
    const Status gone = client_.remove(key_of(*digest));
    if (!gone) LOG(warn, "a blob stays in the object store", {"error", gone.error().message});
    {
      const std::scoped_lock lock(mutex_);
      removing_.reset();
      removed_.erase(*digest);
      if (gone && listings_ > 0) gone_.insert(*digest);
      if (!gone) {
        // The others would not go either; the next collection finds them all.
        removals_.clear();
        removed_.clear();
      }
    }
    changed_.notify_all();
  }
}

}  // namespace mayfly
