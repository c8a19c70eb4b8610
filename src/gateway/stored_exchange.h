// A request that was kept, sent to a handler again, whose reply nobody waits for: it is collected.
// Its client never leaves by itself; `cancel` stands for that.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "async/cancel.h"
#include "net/exchange.h"

namespace mayfly {

class StoredExchange final : public Exchange {
 public:
  StoredExchange(RequestHead head, std::string body, CancelToken cancel)
      : head_(std::move(head)), body_(std::move(body)), cancel_(cancel) {
    head_.content_length = body_.size();
  }

  int status() const { return status_; }
  const Headers& headers() const { return headers_; }
  std::string take_reply() { return std::move(reply_); }

  const RequestHead& head() const override { return head_; }
  std::string_view peer() const override { return "event"; }
  CancelToken disconnected() override { return cancel_; }
  Task<Result<std::size_t>> read_some(std::span<std::byte> into) override {
    const std::size_t size = std::min(into.size(), body_.size() - read_);
    std::memcpy(into.data(), body_.data() + read_, size);
    read_ += size;
    co_return size;
  }
  Task<Status> respond(Response response) override {
    status_ = response.status;
    headers_ = std::move(response.headers);
    if (auto* text = std::get_if<std::string>(&response.body)) {
      reply_ = std::move(*text);
    } else {
      for (const auto& part : std::get<SharedBytes>(response.body).parts)
        reply_.append(reinterpret_cast<const char*>(part.data()), part.size());
    }
    co_return Status{};
  }
  Task<Status> start(int status, Headers headers) override {
    status_ = status;
    headers_ = std::move(headers);
    co_return Status{};
  }
  Task<Status> write(std::string_view bytes) override {
    reply_ += bytes;
    co_return Status{};
  }
  Task<Status> finish() override { co_return Status{}; }

 private:
  RequestHead head_;
  std::string body_;
  std::size_t read_ = 0;
  CancelToken cancel_;
  int status_ = 0;
  Headers headers_;
  std::string reply_;
};

}  // namespace mayfly
