// The control API seen from the command line: every verb is one or a few calls of it. Blocking.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "net/http_client.h"

namespace mayfly {

using CliJson = nlohmann::ordered_json;

std::string url_of_environment();  // MAYFLY_URL; empty: none
// --url, then MAYFLY_URL, then the URL of the configuration, then http://127.0.0.1:8080.
std::string find_node_url(const std::string& flag, const std::string& configured);
// What server.listen makes it, with or without server.tls_certificate.
std::string url_of_listen(const std::string& listen, bool tls);
// Each file by its flag, then MAYFLY_CA, MAYFLY_CLIENT_CERT, MAYFLY_CLIENT_KEY, then none.
TlsClientFiles find_tls_files(const TlsClientFiles& flags);

// The key to send: the first line of the file, else MAYFLY_KEY, else none.
Result<std::string> find_key(const Path& file);

struct RawReply {
  int status = 0;
  Headers headers;
  std::string body;
};

class NodeClient {
 public:
  // `tls`: who vouches for an https node, and who we are to it. `key`: empty: none.
  explicit NodeClient(std::string url, TlsClientFiles tls = {}, Result<std::string> key = "");

  // A reply that is not 2xx is an Error with the node's own message and reason.
  Result<CliJson> get(const std::string& path);
  Result<std::string> get_text(const std::string& path);
  Result<CliJson> send(std::string_view method, const std::string& path, const CliJson& body);
  Result<CliJson> put_bytes(const std::string& path, std::string bytes);
  // As the node answered; for invoke. A reply of server-sent events has no body: each one's data
  // goes to on_chunk as it arrives, and an error among them is ours.
  Result<RawReply> post_events(const std::string& path, std::string body, const Headers& headers,
                               const std::function<void(std::string_view)>& on_chunk);
  // Of the function, where post_events failed in it and the node told: lines.
  const std::string& traceback() const { return traceback_; }
  Result<RawReply> get_raw(const std::string& path);
  // The body of a 2xx reply, piece by piece, as long as it may be.
  Status fetch(const std::string& path, const std::function<Status(std::string_view)>& take);
  // Calls on_line for each line of a newline-delimited JSON reply as it arrives.
  Status stream(std::string_view method, const std::string& path, const CliJson& body,
                const std::function<void(const CliJson&)>& on_line);

  // Sends what the node lacks of the blob. A connection that breaks is tried again, a few times
  // without progress and with growing pauses, and goes on where it broke.
  Status upload(const std::string& sha256, std::uint64_t size, const Path& file,
                const std::function<void(std::uint64_t sent)>& on_progress);

  const std::string& url() const { return url_; }

 private:
  // Every request goes through here: a URL that is none is an InvalidArgument, a key that cannot be
  // read its error.
  Result<ClientResponse> call(ClientRequest request);
  // nullopt: the node has the whole blob; else the offset to go on from.
  Result<std::optional<std::uint64_t>> upload_offset(const std::string& sha256, std::uint64_t size);
  Status append_blob(const std::string& sha256, std::uint64_t size, std::uint64_t offset,
                     const Path& file, const std::function<void(std::uint64_t sent)>& on_progress);

  std::string url_;
  Result<std::string> key_;
  Status usable_;  // whether url_ is a URL of a node
  HttpClient http_;
  std::string traceback_;
};

// "a b/c" → "a%20b%2Fc"
std::string path_segment(std::string_view text);
// Where the control API has a function.
std::string function_path(std::string_view name);

}  // namespace mayfly
