// Blobs in an S3-compatible store; those in use are also on this machine's disk:
//
//   s3://BUCKET/PREFIX/abcdef…   every blob, named by its 64 digits
//   s3://BUCKET/PREFIX/owner     whose they are: the id of one data folder
//   ROOT/sha256/, ROOT/partial/  of a LocalBlobStore: the cache, and uploads under way
//   ROOT/origin                  the address and the id (blob_origin.h)
//
// A commit returns when the store has the blob. Only then it gets its name in the cache, so what is
// there is in the store too, and may go when the cache is full. Where the store is away a commit
// fails and what came stays in its slot: the upload goes on from its end. What is not here is
// fetched, and has its name only after its bytes were hashed.
//
// A removal is quick: the object goes soon after, on a thread of its own. One whose removal fails
// is listed again, and the next collection finds it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>

#include "base/bytes.h"
#include "base/rng.h"
#include "remote/s3_client.h"
#include "store/local_blob_store.h"

namespace mayfly {

class S3BlobStore final : public BlobStore {
 public:
  struct Options {
    Path root;           // of the cache
    Path tmp;            // on its file system
    std::string prefix;  // of the keys, with its final slash; no other data folder's
    Bytes cache;         // about: what is held or pinned stays beyond it
    // Blobs that stay in the cache. Called with no lock held; empty: none.
    std::function<bool(const Digest&)> pinned = {};
    // With a store that has the blobs already and is silent; less, where it is known to be away.
    Duration start_patience = std::chrono::seconds(4);
  };
  // The first time, what lies in `root` is copied to the store before it returns. `client` outlives
  // me. FailedPrecondition: the prefix is another data folder's, or this one's blobs are elsewhere.
  // Once the blobs are in the store, one that is away or silent holds it up for `start_patience`
  // only: then what is cached is served, and whose the prefix is is asked again until it answers.
  static Result<std::unique_ptr<S3BlobStore>> open(S3Client& client, Options options, Rng& rng);
  ~S3BlobStore() override;

  Result<std::unique_ptr<BlobWriter>> create() override;
  using BlobStore::resume;
  Result<std::unique_ptr<BlobWriter>> resume(const std::optional<Digest>& expected,
                                             const Digest& slot) override;
  Result<std::uint64_t> partial_size(const Digest& slot) const override {
    return local_->partial_size(slot);
  }
  Status drop_partial(const Digest& slot) override { return local_->drop_partial(slot); }
  Status for_each_partial(const std::function<Status(const BlobInfo&)>& visit) const override {
    return local_->for_each_partial(visit);
  }
  Result<Fd> open(const Digest& digest) const override;
  Result<BlobFile> file(const Digest& digest) const override;
  bool is_here(const Digest& digest) const override { return local_->is_here(digest); }
  Result<std::optional<BlobInfo>> find(const Digest& digest) const override;
  Result<BlobInfo> adopt(const Digest& digest, const BlobStore& from) override;
  Status remove(const Digest& digest) override;
  Status for_each(const std::function<Status(const BlobInfo&)>& visit) const override;

  // Returns when the objects of all removals have gone, or could not be removed.
  void await_removals();
  Bytes cached() const;

 private:
  friend class S3BlobWriter;
  struct Entry {
    std::uint64_t size = 0;
    std::uint64_t used = 0;  // the greater, the later
    int holds = 0;
    bool here = false;
  };
  struct Hold;
  struct Commit;

  S3BlobStore(S3Client& client, Options options, std::unique_ptr<LocalBlobStore> local);
  Status claim(const std::string& id);
  void claim_late();
  void abort_uploads();
  Status count_cache();
  Status copy_to_store();
  std::string key_of(const Digest& digest) const;
  Status upload(const Digest& digest, int file, std::uint64_t size);
  Status begin_commit(const Digest& digest, int file, std::uint64_t size);
  void end_commit(const Digest& digest);
  Status fetch(const Digest& digest) const;
  Status fetch_once(const Digest& digest) const;
  void admit(const BlobInfo& info) const;
  void add_to_cache(std::uint64_t bytes) const;
  void take_from_cache(std::uint64_t bytes) const;
  void trim() const;
  bool evict(const Digest& digest) const;
  std::shared_ptr<const void> hold(const Digest& digest) const;
  void release(const Digest& digest) const;
  bool is_removed(const Digest& digest) const;
  bool is_listed(const Digest& digest) const;
  void end_listing() const;
  void tidy();
  std::optional<Digest> next_removal();
  // Of the thread that tidies: what is to be done without anybody's asking, and how soon.
  std::optional<Duration> pause_before_chores() const;
  void do_chores();

  S3Client& client_;
  const Options options_;
  const std::unique_ptr<LocalBlobStore> local_;

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  mutable std::unordered_map<Digest, Entry> entries_;
  mutable std::uint64_t total_ = 0;  // bytes of entries that are here
  mutable std::uint64_t tick_ = 0;
  mutable std::set<Digest> fetching_;
  std::multiset<Digest> committing_;  // on their way to the store and into the cache
  std::set<Digest> removed_;          // and perhaps still objects
  std::deque<Digest> removals_;       // whose objects are to go
  std::optional<Digest> removing_{};  // whose object goes right now
  // Removed while a list was read, which may be older than that.
  mutable int listings_ = 0;
  mutable std::set<Digest> gone_;
  bool stopping_ = false;
  std::string unclaimed_;  // the id that the prefix is still to be claimed with; empty: it is ours
  std::thread tidier_;
};

}  // namespace mayfly
