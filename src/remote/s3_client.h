// Objects of one bucket of an S3-compatible store. Every request is signed, bounded in time, and
// asked again with growing pauses where the store was away, slow or busy. Blocks; any thread.
//
// Errors have the reason store_unavailable and name endpoint, bucket, what was asked and what to
// do; no credentials are in them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "base/rng.h"
#include "net/http_client.h"
#include "net/tls.h"
#include "remote/backoff.h"
#include "remote/s3_credentials.h"
#include "remote/s3_place.h"
#include "remote/s3_reply.h"
#include "remote/store_counts.h"
#include "store/digest.h"

namespace mayfly {

class S3Client {
 public:
  // What tests say themselves.
  struct World {
    std::function<Result<S3Credentials>()> credentials;
    std::function<void(Duration)> sleep = {};  // between tries; empty: until then, or stop()
  };
  struct Options {
    Path ca = {};  // trusted besides the system's; empty: none
    RetryPlan retry = {};
    Duration patience = std::chrono::seconds(30);  // with a silent store; twice that begins no try
    Bytes slowest = kib(64);                       // a second; who is slower is given up
    // What is larger is uploaded in parts of this size, or larger ones where there would be more
    // than the 10,000 that S3 allows. S3 takes none below 5 MiB but the last.
    Bytes part = mib(32);
  };
  // `rng` outlives me. invalid_setting: the CA's file cannot be read.
  static Result<std::unique_ptr<S3Client>> create(S3Place place, World world, Options options,
                                                  Rng& rng);

  Result<std::optional<S3Object>> find(const std::string& key);
  // `size` bytes of the file, whose digest is known: the store refuses what arrives changed.
  Status put(const std::string& key, int file, std::uint64_t size, const Digest& digest);
  Status put(const std::string& key, std::string_view text);
  // From `offset` to its end, piece by piece; what breaks off goes on where it stood. NotFound.
  // An Error of the sink ends it with that.
  using Sink = std::function<Status(std::string_view)>;
  Status get(const std::string& key, std::uint64_t offset, const Sink& sink);
  Result<std::optional<std::string>> get_small(const std::string& key, std::size_t limit);
  Status remove(const std::string& key);  // absent is fine
  // In the order of keys.
  Status for_each(const std::string& prefix, const std::function<Status(const S3Object&)>& visit);
  // Ends uploads that nobody goes on with. Returns how many.
  Result<std::size_t> abort_uploads(const std::string& prefix);

  const S3Place& place() const { return place_; }
  StoreCounts& counts() { return counts_; }
  const StoreCounts& counts() const { return counts_; }

  // Since when no request was answered, or each as one that passes by itself is, and the last
  // error. nullopt: the last one was answered, or nothing was asked yet.
  struct Away {
    WallTime since{};
    std::string error;
  };
  std::optional<Away> away() const;

  // While one lives, no request of any thread takes longer than until `patience` after its making,
  // and none is asked again then: of a start, which waits for nobody.
  class Hurry {
   public:
    Hurry(S3Client& client, Duration patience);
    Hurry(const Hurry&) = delete;
    Hurry& operator=(const Hurry&) = delete;
    ~Hurry();

   private:
    S3Client& client_;
  };
  // What is under way ends within moments, and nothing begins.
  void stop() { stopped_ = true; }

 private:
  struct Ask {
    std::string_view method = "GET";
    std::string key = {};
    S3Query query = {};
    Headers headers = {};
    std::string body = {};
    // Instead of `body`: so much of a file.
    struct Part {
      int file = -1;
      std::uint64_t offset = 0;
      std::uint64_t size = 0;
      std::string sha256 = {};
    };
    std::optional<Part> part = {};
    std::uint64_t expected = 0;  // bytes of the reply, about
    const Sink* sink = nullptr;
    std::function<void(int status, const Headers& headers)> on_head = {};
  };

  S3Client(S3Place place, World world, Options options, TlsContext trust, Rng& rng)
      : place_(std::move(place)),
        world_(std::move(world)),
        options_(std::move(options)),
        trust_(std::move(trust)),
        rng_(rng) {}

  // One try. What is not 2xx or 404 is an error, which may pass or not.
  struct Attempt {
    Result<ClientResponse> reply;
    bool again = false;
  };
  Attempt attempt(const Ask& ask);
  struct Taken {
    Status outcome;  // the sink's
    int status = 0;
  };
  Attempt get_once(const std::string& key, std::uint64_t& at, const Sink& sink, Taken& taken);
  void note(const Ask& ask, StoreCounts::Outcome outcome, const Error* error);
  TimePoint deadline_for(Duration patience) const;
  Result<ClientResponse> ask(const Ask& ask);       // as often as the plan allows
  Result<ClientResponse> ask_once(const Ask& ask);  // any status
  ClientRequest request_of(const Ask& ask, const S3Credentials& credentials) const;
  Status send_parts(const std::string& key, const std::string& upload, int file,
                    std::uint64_t size);
  Result<std::string> send_part(const std::string& key, const std::string& upload, int number,
                                Ask::Part part);
  Status complete(const std::string& key, const std::string& upload,
                  const std::vector<std::string>& etags);
  Status abort(const std::string& key, const std::string& upload);
  std::unique_ptr<HttpClient> take_connection();
  void give_connection(std::unique_ptr<HttpClient> connection);
  // After so many failures since then. Pauses before it says so.
  bool may_try_again(int failed, TimePoint begun);
  Error unavailable(const Ask& ask, std::string_view why) const;
  Error refused(const Ask& ask, const ClientResponse& reply) const;

  S3Place place_;
  World world_;
  Options options_;
  TlsContext trust_;
  Rng& rng_;
  StoreCounts counts_;
  std::atomic<bool> stopped_ = false;
  std::atomic<TimePoint::rep> hurry_until_ = 0;  // of the clock; 0: there is none
  mutable std::mutex mutex_;                     // of what follows, and of rng_
  std::optional<Away> away_;
  std::vector<std::unique_ptr<HttpClient>> idle_;  // connections that may be open
};

}  // namespace mayfly
