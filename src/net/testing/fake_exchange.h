// An Exchange without a socket: a handler's test gives it a request and looks at what was answered.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "net/exchange.h"

namespace mayfly {

class FakeExchange final : public Exchange {
 public:
  FakeExchange(std::string method, std::string target, std::string body = {})
      : body_(std::move(body)) {
    head_.method = parse_method(method);
    head_.method_text = std::move(method);
    head_.target = std::move(target);
    head_.host = "localhost";
    if (!body_.empty()) head_.content_length = body_.size();
  }

  RequestHead& request() { return head_; }
  // The body is read in pieces of at most this size.
  void set_piece(std::size_t size) { piece_ = size; }
  // From now on, reading the body fails like this.
  void break_body(Error error) { body_error_ = std::move(error); }
  void disconnect() { disconnected_.cancel(); }

  bool answered() const { return finished_; }
  int status() const { return status_; }
  const Headers& headers() const { return headers_; }
  const std::string& reply() const { return reply_; }

  const RequestHead& head() const override { return head_; }
  std::string_view peer() const override { return "127.0.0.1:1"; }
  CancelToken disconnected() override { return disconnected_.token(); }

  Task<Result<std::size_t>> read_some(std::span<std::byte> into) override {
    if (body_error_) co_return std::unexpected(*body_error_);
    const std::size_t size = std::min({into.size(), piece_, body_.size() - read_});
    std::memcpy(into.data(), body_.data() + read_, size);
    read_ += size;
    co_return size;
  }
  Task<Status> respond(Response response) override {
    status_ = response.status;
    headers_ = std::move(response.headers);
    if (const auto* text = std::get_if<std::string>(&response.body)) {
      reply_ = *text;
    } else {
      for (const auto& part : std::get<SharedBytes>(response.body).parts) {
        reply_.append(reinterpret_cast<const char*>(part.data()), part.size());
      }
    }
    finished_ = true;
    co_return Status();
  }
  Task<Status> start(int status, Headers headers) override {
    status_ = status;
    headers_ = std::move(headers);
    co_return Status();
  }
  Task<Status> write(std::string_view bytes) override {
    reply_ += bytes;
    co_return Status();
  }
  Task<Status> finish() override {
    finished_ = true;
    co_return Status();
  }

 private:
  RequestHead head_;
  std::string body_;
  std::size_t read_ = 0;
  std::size_t piece_ = static_cast<std::size_t>(-1);
  std::optional<Error> body_error_;
  CancelSource disconnected_;
  int status_ = 0;
  Headers headers_;
  std::string reply_;
  bool finished_ = false;
};

}  // namespace mayfly
