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
  if (inside_.closed() || waiting_.size() + sent_now_ + spans.size() > kMostSpans) {
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

std::vector<Span> SpanExporter::take_batch() {
  const auto end =
      waiting_.begin() + static_cast<std::ptrdiff_t>(std::min(waiting_.size(), kBatch));
  std::vector<Span> batch(std::move_iterator(waiting_.begin()), std::move_iterator(end));
  waiting_.erase(waiting_.begin(), end);
  return batch;
}

Task<SpanExporter::Taken> SpanExporter::hand_over(std::span<const Span> batch) {
  co_return co_await pool_.run([this, batch] { return send_(encode_otlp(resource_, batch)); });
}

Task<void> SpanExporter::send() {
  const auto hold = inside_.hold();
  sending_ = true;
  timer_.cancel();
  std::vector<Span> batch = take_batch();
  sent_now_ = batch.size();
  const Taken taken = co_await hand_over(batch);
  sending_ = false;
  sent_now_ = 0;
  if (taken == Taken::Later) {
    waiting_.insert(waiting_.begin(), std::move_iterator(batch.begin()),
                    std::move_iterator(batch.end()));
    timer_.arm_in(kRetry);
    co_return;
  }
  (taken == Taken::Yes ? counts_.sent : counts_.dropped) += batch.size();
  if (!waiting_.empty()) timer_.arm_in(waiting_.size() >= kBatch ? Duration::zero() : kLongestWait);
}

Task<void> SpanExporter::close() {
  timer_.cancel();
  co_await inside_.close();
  const TimePoint patient_until = loop_.now() + kPatience;
  for (bool taken = true; taken && !waiting_.empty() && loop_.now() < patient_until;) {
    const std::vector<Span> batch = take_batch();
    taken = co_await hand_over(batch) == Taken::Yes;
    (taken ? counts_.sent : counts_.dropped) += batch.size();
  }
  counts_.dropped += waiting_.size();
  waiting_.clear();
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
