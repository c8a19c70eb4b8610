#include "cli/node_client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "cli/table.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr int kUploadTries = 5;
constexpr std::size_t kLongestKeyFile = 16 * 1024;
constexpr Duration kUploadPause = std::chrono::milliseconds(50);
// Longer than any prediction may take: what waits for the node's own deadline must not give up
// before it.
constexpr Duration kLongestCall = std::chrono::hours(25);

Code code_of_status(int status) {
  switch (status) {
    case 400:
    case 415:
    case 422:
      return Code::InvalidArgument;
    case 401:
      return Code::Unauthenticated;
    case 403:
      return Code::PermissionDenied;
    case 404:
      return Code::NotFound;
    case 409:
      return Code::FailedPrecondition;
    case 413:
    case 431:
      return Code::OutOfRange;
    case 429:
      return Code::ResourceExhausted;
    case 501:
      return Code::Unimplemented;
    case 503:
      return Code::Unavailable;
    case 504:
      return Code::DeadlineExceeded;
    default:
      return Code::Internal;
  }
}

Error error_of(int status, const std::string& body) {
  const CliJson json = CliJson::parse(body, nullptr, false);
  Error error{.code = code_of_status(status),
              .message = fmt::format("the node answered {}", status)};
  if (!json.is_object()) return error;
  error.message = json.value("error", error.message);
  if (const ReasonEntry* entry = find_reason(json.value("reason", ""))) error.reason = entry->slug;
  return error;
}

std::string traceback_of(const std::string& body) {
  const CliJson json = CliJson::parse(body, nullptr, false);
  std::string text;
  if (!json.is_object() || !json.contains("traceback") || !json["traceback"].is_array())
    return text;
  for (const CliJson& line : json["traceback"]) {
    if (line.is_string()) text += line.get<std::string>() + "\n";
  }
  return text;
}

// The lines of server-sent events (core/wire/chunk.h) as they arrive.
class EventLines {
 public:
  EventLines(const std::function<void(std::string_view)>& on_chunk, std::string& traceback)
      : on_chunk_(on_chunk), traceback_(traceback) {}

  Status take(std::string_view piece) {
    std::size_t begin = 0;
    std::size_t end = pending_.size();  // what was there before holds no end
    pending_ += piece;
    for (; (end = pending_.find('\n', end)) != std::string::npos; begin = ++end)
      TRY(read(std::string_view(pending_).substr(begin, end - begin)));
    pending_.erase(0, begin);
    return {};
  }

 private:
  Status read(std::string_view line) {
    constexpr std::string_view kData = "data: ";
    if (line.empty()) is_error_ = false;
    if (line == "event: error") is_error_ = true;
    if (!line.starts_with(kData)) return {};
    line.remove_prefix(kData.size());
    if (is_error_) {
      Error error = error_of(500, std::string(line));
      traceback_ = traceback_of(std::string(line));
      if (const ReasonEntry* entry = find_reason(error.reason)) error.code = entry->code;
      return std::unexpected(std::move(error));
    }
    on_chunk_(line);
    return {};
  }

  const std::function<void(std::string_view)>& on_chunk_;
  std::string& traceback_;  // of the function, where the event of an error tells it
  std::string pending_;
  bool is_error_ = false;
};

// Not an answer of the node, which has a reason.
bool is_broken_connection(const Error& error) {
  return error.reason.empty() &&
         (error.code == Code::Unavailable || error.code == Code::Cancelled ||
          error.code == Code::DeadlineExceeded);
}

Result<CliJson> json_of(const std::string& body) {
  CliJson json = CliJson::parse(body.empty() ? "null" : body, nullptr, false);
  if (json.is_discarded())
    return fail(Code::Internal, "the node answered with something that is not JSON");
  return json;
}

Status check_url(const std::string& text) {
  if (const auto url = parse_url(text)) return {};
  return fail(
      Code::InvalidArgument,
      fmt::format("'{}': a node's URL is http[s]://HOST[:PORT] or unix:PATH, an absolute path",
                  text));
}

}  // namespace

std::string url_of_environment() {
  const char* url = std::getenv("MAYFLY_URL");
  return url == nullptr ? std::string() : std::string(url);
}

std::string find_node_url(const std::string& flag, const std::string& configured) {
  if (!flag.empty()) return flag;
  if (std::string url = url_of_environment(); !url.empty()) return url;
  return configured.empty() ? "http://127.0.0.1:8080" : configured;
}

std::string url_of_listen(const std::string& listen, bool tls) {
  if (listen.starts_with("unix:")) return listen;
  return fmt::format("{}://{}", tls ? "https" : "http", listen.empty() ? "127.0.0.1:8080" : listen);
}

TlsClientFiles find_tls_files(const TlsClientFiles& flags) {
  const auto find = [](const Path& flag, const char* variable) -> Path {
    const char* value = std::getenv(variable);
    return flag.empty() && value != nullptr ? Path(value) : flag;
  };
  return {.ca = find(flags.ca, "MAYFLY_CA"),
          .certificate = find(flags.certificate, "MAYFLY_CLIENT_CERT"),
          .key = find(flags.key, "MAYFLY_CLIENT_KEY")};
}

std::string path_segment(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '.' || c == '_' || c == '-' || c == '~' || c == '@';
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

std::string function_path(std::string_view name) {
  return "/api/v1/functions/" + path_segment(name);
}

Result<std::string> find_key(const Path& file) {
  if (file.empty()) {
    const char* value = std::getenv("MAYFLY_KEY");
    return value == nullptr ? std::string() : std::string(value);
  }
  std::string text = TRY(read_file(file, kLongestKeyFile));
  text.resize(std::min(text.find_first_of("\r\n"), text.size()));
  return text;
}

NodeClient::NodeClient(std::string url, TlsClientFiles tls, Result<std::string> key)
    : url_(std::move(url)),
      key_(std::move(key)),
      usable_(check_url(url_)),
      http_(parse_url(url_).value_or(Url{}),
            {.reply_timeout = kLongestCall, .tls = std::move(tls)}) {}

Result<ClientResponse> NodeClient::call(ClientRequest request) {
  TRY(Status(usable_));
  const std::string key = TRY(Result<std::string>(key_));
  if (!key.empty()) request.headers.add("Authorization", "Bearer " + key);
  return http_.send(std::move(request));
}

Result<CliJson> NodeClient::get(const std::string& path) { return json_of(TRY(get_text(path))); }

Result<std::string> NodeClient::get_text(const std::string& path) {
  const WaitingLine waiting("waiting for the node");
  ClientRequest request{.method = "GET", .target = path};
  ClientResponse response = TRY(call(std::move(request)));
  if (response.status / 100 != 2) return std::unexpected(error_of(response.status, response.body));
  return std::move(response.body);
}

Result<CliJson> NodeClient::send(std::string_view method, const std::string& path,
                                 const CliJson& body) {
  const WaitingLine waiting("the node is at work");
  ClientRequest request{.method = std::string(method), .target = path};
  if (!body.is_null()) {
    request.headers.add("Content-Type", "application/json");
    request.body = body.dump();
  }
  const ClientResponse response = TRY(call(std::move(request)));
  if (response.status / 100 != 2) return std::unexpected(error_of(response.status, response.body));
  return json_of(response.body);
}

Result<CliJson> NodeClient::put_bytes(const std::string& path, std::string bytes) {
  const WaitingLine waiting("the node is at work");
  ClientRequest request{.method = "PUT", .target = path, .headers = {}, .body = std::move(bytes)};
  request.headers.add("Content-Type", "application/octet-stream");
  const ClientResponse response = TRY(call(std::move(request)));
  if (response.status / 100 != 2) return std::unexpected(error_of(response.status, response.body));
  return json_of(response.body);
}

Result<RawReply> NodeClient::post_events(const std::string& path, std::string body,
                                         const Headers& headers,
                                         const std::function<void(std::string_view)>& on_chunk) {
  std::optional<WaitingLine> waiting("predicting");
  traceback_.clear();
  EventLines events(on_chunk, traceback_);
  std::string collected;
  bool are_events = false;
  ClientRequest request{
      .method = "POST", .target = path, .headers = headers, .body = std::move(body)};
  request.on_head = [&](int, const Headers& told) {
    are_events = told.find("Content-Type").value_or("").starts_with("text/event-stream");
    if (are_events) waiting.reset();
  };
  request.sink = [&](std::string_view piece) -> Status {
    if (are_events) return events.take(piece);
    collected += piece;
    return {};
  };
  ClientResponse response = TRY(call(std::move(request)));
  if (response.status / 100 != 2) {
    traceback_ = traceback_of(response.body);
    return std::unexpected(error_of(response.status, response.body));
  }
  return RawReply{response.status, std::move(response.headers), std::move(collected)};
}

Result<RawReply> NodeClient::get_raw(const std::string& path) {
  ClientRequest request{.method = "GET", .target = path, .headers = {}, .body = {}};
  ClientResponse response = TRY(call(std::move(request)));
  if (response.status / 100 != 2) return std::unexpected(error_of(response.status, response.body));
  return RawReply{response.status, std::move(response.headers), std::move(response.body)};
}

Status NodeClient::stream(std::string_view method, const std::string& path, const CliJson& body,
                          const std::function<void(const CliJson&)>& on_line) {
  std::string pending;
  const auto take = [&](std::string_view piece) -> Status {
    pending += piece;
    for (std::size_t end = 0; (end = pending.find('\n')) != std::string::npos;
         pending.erase(0, end + 1)) {
      const CliJson line = CliJson::parse(pending.substr(0, end), nullptr, false);
      if (line.is_discarded()) continue;
      // A stream has begun with 200: a failure after that is a line of its own.
      if (line.contains("error"))
        return std::unexpected(error_of(line.value("status", 500), line.dump()));
      on_line(line);
    }
    return {};
  };
  ClientRequest request{.method = std::string(method), .target = path};
  request.headers.add("Accept", "application/x-ndjson");
  if (!body.is_null()) request.body = body.dump();
  request.sink = take;
  const ClientResponse response = TRY(call(std::move(request)));
  if (response.status / 100 != 2) return std::unexpected(error_of(response.status, response.body));
  return {};
}

Status NodeClient::fetch(const std::string& path,
                         const std::function<Status(std::string_view)>& take) {
  ClientRequest request{.method = "GET", .target = path};
  request.sink = take;
  const ClientResponse response = TRY(call(std::move(request)));
  if (response.status / 100 != 2) return std::unexpected(error_of(response.status, response.body));
  return {};
}

Status NodeClient::upload(const std::string& sha256, std::uint64_t size, const Path& file,
                          const std::function<void(std::uint64_t)>& on_progress) {
  std::optional<std::uint64_t> reached;
  for (int failures = 0;;) {
    Status done;
    auto offset = upload_offset(sha256, size);
    if (offset) {
      if (!*offset) return {};
      if (reached && *offset > reached) failures = 0;
      reached = *offset;
      done = append_blob(sha256, size, **offset, file, on_progress);
    } else {
      done = std::unexpected(std::move(offset).error());
    }
    // The node's own words, and a file that cannot be read, are final.
    if (done || !is_broken_connection(done.error()) || ++failures >= kUploadTries) return done;
    std::this_thread::sleep_for(kUploadPause * (1 << failures));
  }
}

Result<std::optional<std::uint64_t>> NodeClient::upload_offset(const std::string& sha256,
                                                               std::uint64_t size) {
  ClientRequest request{.method = "HEAD", .target = "/api/v1/blobs/" + sha256};
  request.headers.add("Upload-Length", std::to_string(size));
  const ClientResponse response = TRY(call(std::move(request)));
  if (response.status == 200) return std::nullopt;
  const auto offset = response.headers.find("Upload-Offset");
  if (response.status != 404 || !offset) {
    return fail(
        code_of_status(response.status),
        fmt::format("the node answered {} when asked for the upload's state", response.status));
  }
  return std::strtoull(std::string(*offset).c_str(), nullptr, 10);
}

Status NodeClient::append_blob(const std::string& sha256, std::uint64_t size, std::uint64_t offset,
                               const Path& path,
                               const std::function<void(std::uint64_t)>& on_progress) {
  const Fd file = TRY(open_file(path, O_RDONLY));
  if (::lseek(file.get(), static_cast<off_t>(offset), SEEK_SET) < 0)
    return fail_errno(path.native());
  std::uint64_t sent = offset;
  BodySource source{
      .length = size - offset, .read = [&](std::span<std::byte> into) -> Result<std::size_t> {
        const ssize_t got =
            ::read(file.get(), into.data(), std::min<std::uint64_t>(into.size(), size - sent));
        if (got < 0) return fail_errno(path.native());
        if (got == 0 && sent < size) {
          return fail(Code::FailedPrecondition,
                      fmt::format("{}: became shorter while it was uploaded", path.native()));
        }
        sent += static_cast<std::uint64_t>(got);
        on_progress(sent);
        return static_cast<std::size_t>(got);
      }};
  ClientRequest request{.method = "PATCH", .target = "/api/v1/blobs/" + sha256};
  request.headers.add("Upload-Offset", std::to_string(offset));
  request.headers.add("Upload-Length", std::to_string(size));
  request.body = std::move(source);
  const ClientResponse response = TRY(call(std::move(request)));
  if (response.status / 100 != 2) return std::unexpected(error_of(response.status, response.body));
  return {};
}

}  // namespace mayfly
