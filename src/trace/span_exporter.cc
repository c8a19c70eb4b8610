#include "trace/span_exporter.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <span>
#include <utility>

#include "base/log.h"
#include "core/reason.h"
#include "net/http_client.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// OTLP/HTTP: these may be tried again, all else may not.
bool comes_back(int status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

}  // namespace

SpanExporter::SpanExporter(Loop& loop, OtlpResource resource, Send send)
    : loop_(loop),
      resource_(std::move(resource)),
      send_(std::move(send)),
      pool_(loop, "trace", 1),
      timer_(loop, [this] { begin_sending(); }),
      inside_(loop) {}

void SpanExporter::offer(std::vector<Span> spans) {
  if (inside_.closed() || waiting_.size() + spans.size() > kMostSpans) {
    counts_.dropped += spans.size();
    return;
  }
  std::ranges::move(spans, std::back_inserter(waiting_));
  if (sending_) return;
  if (waiting_.size() >= kBatch) {
    begin_sending();
  } else if (!timer_.armed()) {
    timer_.arm_in(kLongestWait);
  }
}

void SpanExporter::begin_sending() {
  if (sending_ || waiting_.empty() || inside_.closed()) return;
  loop_.spawn(send());
}

Task<void> SpanExporter::send() {
  const auto hold = inside_.hold();
  sending_ = true;
  timer_.cancel();
  const std::size_t count = std::min(waiting_.size(), kBatch);
  const std::string text = encode_otlp(resource_, std::span(waiting_).first(count));
  const Taken taken = co_await pool_.run([&] { return send_(text); });
  sending_ = false;
  if (taken == Taken::Later) {
    timer_.arm_in(kRetry);
    co_return;
  }
  (taken == Taken::Yes ? counts_.sent : counts_.dropped) += count;
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(count));
  if (!waiting_.empty()) timer_.arm_in(waiting_.size() >= kBatch ? Duration::zero() : kLongestWait);
}

Task<void> SpanExporter::close() {
  timer_.cancel();
  co_await inside_.close();
  for (bool taken = true; taken && !waiting_.empty();) {
    const std::size_t count = std::min(waiting_.size(), kBatch);
    const std::string text = encode_otlp(resource_, std::span(waiting_).first(count));
    taken = co_await pool_.run([&] { return send_(text); }) == Taken::Yes;
    (taken ? counts_.sent : counts_.dropped) += count;
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(count));
  }
}

Result<SpanExporter::Send> send_to_collector(const std::string& endpoint) {
  const Url url = TRY(parse_url(endpoint));
  if (!url.unix_socket.empty())
    return refuse(reason::kInvalidSetting, "a collector is reached over http:// or https://");
  HttpClient::Options patience;
  patience.connect_timeout = 2s;
  patience.stall_timeout = patience.reply_timeout = 5s;
  const auto client = std::make_shared<HttpClient>(url, std::move(patience));
  return [client, well = true](const std::string& otlp) mutable {
    const auto reply = client->send({.method = "POST",
                                     .target = "/v1/traces",
                                     .headers = {{"Content-Type", "application/json"}},
                                     .body = otlp});
    const bool good = reply && reply->status / 100 == 2;
    if (!good && std::exchange(well, good)) {
      LOG(warn, "the trace collector does not take spans", {"url", client->url().text},
          {"status", reply ? reply->status : 0}, {"error", reply ? "" : reply.error().message});
    }
    well = good;
    if (good) return SpanExporter::Taken::Yes;
    const bool later = !reply || comes_back(reply->status);
    return later ? SpanExporter::Taken::Later : SpanExporter::Taken::Never;
  };
}

}  // namespace mayfly
