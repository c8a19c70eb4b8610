// As much of an S3-compatible store as S3Client asks for, over real HTTP on loopback: it checks
// signatures and hashes, and fails as a test says.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/testing/server_thread.h"
#include "remote/s3_client.h"

namespace mayfly {

class FakeS3 {
 public:
  FakeS3();

  // Of bucket "test-bucket". Pauses between tries are only counted.
  std::unique_ptr<S3Client> client(S3Client::Options options = small_parts());
  static S3Client::Options small_parts();  // 5 MiB, and 4 tries
  static S3Credentials credentials();

  // What happens instead of the usual, for each request: nothing, a status with an S3 code, or the
  // usual reply's first half and then silence of a closed connection.
  struct Fault {
    int status = 0;
    std::string code = {};
    bool cut = false;   // in the middle of the reply's body
    bool hang = false;  // no answer at all
  };
  // Of method and target; nullopt: as usual.
  using Faults =
      std::function<std::optional<Fault>(std::string_view method, std::string_view target)>;
  void set_faults(Faults faults);
  // The next `count` requests fail like that.
  void fail_next(int count, Fault fault);

  std::vector<std::string> keys();
  std::optional<std::string> object(const std::string& key);
  void set_object(const std::string& key, std::string bytes);
  void remove_object(const std::string& key);
  std::size_t uploads();  // that were begun and not ended
  void begin_upload(const std::string& key);
  // "PUT /test-bucket/key", of all since the last call.
  std::vector<std::string> requests();
  int pauses() const { return pauses_; }
  std::string url() const { return server_.url(); }

 private:
  struct Request {
    std::string method;
    std::string key;
    std::string body;
  };
  Task<void> answer(Exchange& exchange);
  std::optional<Fault> fault_of(const RequestHead& head);
  Response reply_to(const RequestHead& head, const Request& request);
  Response read(const RequestHead& head, const Request& request);
  Response write(const RequestHead& head, const Request& request);
  Response post(const RequestHead& head, const Request& request);
  Response list(const RequestHead& head);
  Response list_uploads(const RequestHead& head);
  static bool is_signed(const RequestHead& head, const Request& request);

  std::mutex mutex_;
  std::map<std::string, std::string> objects_;
  struct Upload {
    std::string key;
    std::map<int, std::string> parts;
  };
  std::map<std::string, Upload> uploads_;
  Faults faults_;
  std::vector<std::string> requests_;
  int next_upload_ = 0;
  int pauses_ = 0;
  SystemRng rng_;
  ServerThread server_;  // ends before what its handler uses
};

}  // namespace mayfly
