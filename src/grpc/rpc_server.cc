#include "grpc/rpc_server.h"

#include <fmt/format.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security_constants.h>
#include <grpc/support/log.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>

#include "async/event.h"
#include "base/log.h"
#include "core/reason.h"
#include "grpc/message_bytes.h"

namespace mayfly {
namespace {

// Frames, headers and what the messages are wrapped in.
constexpr std::uint64_t kAroundMessage = 64 * 1024;
constexpr int kStreamsPerConnection = 1024;

std::string_view view(const grpc::string_ref& text) { return {text.data(), text.size()}; }

// gRPC's own words go where ours go.
void log_of_grpc(gpr_log_func_args* said) {
  const std::string_view text = said->message == nullptr ? "" : said->message;
  if (said->severity == GPR_LOG_SEVERITY_ERROR) {
    LOG(debug, "gRPC", {"error", text});
  } else {
    LOG(debug, "gRPC", {"note", text});
  }
}

// "ipv4:127.0.0.1:51234", "ipv6:%5B::1%5D:51234", "unix:/path"; brackets are escaped in some
// versions of gRPC only.
std::string peer_of(std::string_view of_grpc) {
  const std::size_t colon = of_grpc.find(':');
  if (of_grpc.substr(0, colon) == "unix" || colon == std::string_view::npos) return "unix";
  std::string address(of_grpc.substr(colon + 1));
  for (const auto& [escaped, plain] : {std::pair("%5B", '['), std::pair("%5D", ']')}) {
    if (const std::size_t at = address.find(escaped); at != std::string::npos)
      address.replace(at, 3, 1, plain);
  }
  return address;
}

grpc::Status status_of(const Status& status) {
  if (status) return grpc::Status::OK;
  // Code has gRPC's numbers.
  return {static_cast<grpc::StatusCode>(status.error().code), shortened(status.error().message)};
}

int message_size(Bytes limit) {
  return static_cast<int>(std::min<std::uint64_t>(limit.count + kAroundMessage, INT32_MAX));
}

}  // namespace

class RpcServer::Impl {
 public:
  Impl(Loop& loop, const RpcLimits& limits, RpcHandler handler)
      : loop_(loop),
        limits_(limits),
        handler_(std::move(handler)),
        gate_(loop),
        queue_ended_(loop) {}
  ~Impl();

  Status start(const RpcAddress& address);
  Task<void> close(Duration timeout);
  int port() const { return port_; }
  std::size_t calls() const { return gate_.holders(); }

 private:
  class Call;
  void serve_queue();
  void take_next_call();
  void end_queue();
  // Whether the queue still takes operations; run under its lock, because starting one on a closed
  // queue aborts.
  template <typename Operation>
  bool start_operation(Operation operation) {
    const std::scoped_lock lock(queue_mutex_);
    if (queue_closed_) return false;
    operation();
    return true;
  }
  void begin(const std::shared_ptr<Call>& call);
  Task<void> serve(std::shared_ptr<Call> call, Gate::Hold hold);

  Loop& loop_;
  const RpcLimits limits_;
  const RpcHandler handler_;
  Gate gate_;
  CancelSource closing_;
  grpc::AsyncGenericService service_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::shared_ptr<grpc::ServerCredentials> credentials_;  // asked at each handshake
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  bool demands_certificates_ = false;
  std::mutex queue_mutex_;
  bool queue_closed_ = false;  // guarded by queue_mutex_
  Future<void> queue_ended_;
  Promise<void> ended_ = queue_ended_.promise();
  std::jthread thread_;
};

// Shared by what gRPC has been asked to do and by the handler's task.
class RpcServer::Impl::Call final : public Rpc, public std::enable_shared_from_this<Call> {
 public:
  explicit Call(Impl& server) : server_(server) {}

  // ---- On gRPC's thread -----------------------------------------------------------------------

  enum class Kind : std::uint8_t { Arrived, Read, Written, Finished, Done };

  // What the completion queue hands back: it keeps the call alive until then.
  struct Event {
    Kind kind;
    std::shared_ptr<Call> call = nullptr;
    // gRPC's queue orders handing over and taking back; this says so in our own words.
    std::atomic<bool> handed = false;
  };

  static void happened(void* tag, bool succeeded) {
    Event& event = *static_cast<Event*>(tag);
    std::ignore = event.handed.load(std::memory_order_acquire);
    const std::shared_ptr<Call> call = std::move(event.call);
    call->on_event(event.kind, succeeded, call);
  }

  // Waits for a client to call.
  void wait_for_call() {
    context_.AsyncNotifyWhenDone(tag(done_event_));
    server_.service_.RequestCall(&context_, &stream_, server_.queue_.get(), server_.queue_.get(),
                                 tag(arrived_event_));
  }

  // ---- On the loop ----------------------------------------------------------------------------

  std::string_view method() const override { return context_.method(); }
  std::string peer() const override { return peer_of(context_.peer()); }

  std::string client_certificate() const override {
    if (!server_.demands_certificates_) return {};
    const auto found =
        context_.auth_context()->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
    return found.empty() ? std::string() : std::string(view(found.front()));
  }

  std::optional<std::string_view> metadata(std::string_view name) const override {
    std::string lower(name);
    std::ranges::transform(lower, lower.begin(), [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
    });
    const auto& all = context_.client_metadata();
    const auto found = all.find(grpc::string_ref(lower.data(), lower.size()));
    if (found == all.end()) return std::nullopt;
    return view(found->second);
  }

  std::optional<Duration> time_left() const override {
    const auto deadline = context_.deadline();
    if (deadline == std::chrono::system_clock::time_point::max()) return std::nullopt;
    return std::chrono::duration_cast<Duration>(deadline - std::chrono::system_clock::now());
  }

  CancelToken cancelled() override { return cancel_.token(); }
  CancelToken draining() override { return server_.closing_.token(); }

  void trail(std::string_view name, std::string_view value) override {
    context_.AddTrailingMetadata(std::string(name), std::string(value));
  }

  Task<std::optional<grpc::ByteBuffer>> read() override {
    if (first_) {
      first_ = false;
      if (!has_first_) co_return std::nullopt;
      co_return take_message();
    }
    if (server_.closing_.cancelled()) co_return std::nullopt;
    Future<bool> arrived(server_.loop_);
    read_ = arrived.promise();
    if (!server_.start_operation([&] { stream_.Read(&incoming_, tag(read_event_)); })) {
      co_return std::nullopt;
    }
    const CancelCallback on_close(server_.closing_.token(), [&] {
      arrived.cancel(Error{Code::Unavailable, "the node is shutting down"});
    });
    const Result<bool> there = co_await arrived;
    if (!there || !*there) co_return std::nullopt;
    co_return take_message();
  }

  Task<bool> write(grpc::ByteBuffer message) override {
    Future<bool> written(server_.loop_);
    written_ = written.promise();
    outgoing_.Swap(&message);
    if (!server_.start_operation([&] { stream_.Write(outgoing_, tag(written_event_)); })) {
      co_return false;
    }
    const Result<bool> sent = co_await written;
    co_return sent && *sent;
  }

  void reply(grpc::ByteBuffer message) override {
    outgoing_.Swap(&message);
    has_reply_ = true;
  }

  // Given back when the answer has been taken, or nobody will take it.
  void keep(Gate::Hold hold) {
    if (!finished_) hold_.emplace(std::move(hold));
  }

  void finish(const Status& status) {
    if (!status && !status.error().reason.empty()) trail("mayfly-reason", status.error().reason);
    finished_ = !server_.start_operation([&] {
      if (status && has_reply_) {
        stream_.WriteAndFinish(outgoing_, grpc::WriteOptions(), grpc::Status::OK,
                               tag(finished_event_));
      } else {
        stream_.Finish(status_of(status), tag(finished_event_));
      }
    });
  }

 private:
  grpc::ByteBuffer take_message() {
    grpc::ByteBuffer message;
    message.Swap(&incoming_);
    return message;
  }

  Event* tag(Event& event) {
    event.call = shared_from_this();
    event.handed.store(true, std::memory_order_release);
    return &event;
  }

  void on_event(Kind kind, bool succeeded, const std::shared_ptr<Call>& self) {
    switch (kind) {
      case Kind::Arrived:
        return on_arrived(succeeded);
      case Kind::Read:
        return server_.loop_.post([self, succeeded] { self->on_read(succeeded); });
      case Kind::Written:
        return server_.loop_.post([self, succeeded] { self->written_.set(succeeded); });
      case Kind::Done:
        if (context_.IsCancelled()) server_.loop_.post([self] { self->cancel_.cancel(); });
        return;
      case Kind::Finished:
        return server_.loop_.post([self] {
          self->finished_ = true;
          self->hold_.reset();
        });
    }
  }

  void on_arrived(bool succeeded) {
    if (!succeeded) {  // the server stops; then gRPC never says that the call is done
      done_event_.call.reset();
      return;
    }
    server_.take_next_call();
    server_.start_operation([&] { stream_.Read(&incoming_, tag(read_event_)); });
  }

  void on_read(bool succeeded) {
    if (std::exchange(begun_, true)) return read_.set(succeeded);
    has_first_ = succeeded;
    server_.begin(shared_from_this());
  }

  Impl& server_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_{&context_};
  Event arrived_event_{Kind::Arrived};
  Event read_event_{Kind::Read};
  Event written_event_{Kind::Written};
  Event finished_event_{Kind::Finished};
  Event done_event_{Kind::Done};
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer outgoing_;
  Promise<bool> read_;
  Promise<bool> written_;
  CancelSource cancel_;
  bool begun_ = false;      // the first read has ended, and the handler has begun
  bool first_ = true;       // its message was not taken yet
  bool has_first_ = false;  // there is one
  bool has_reply_ = false;
  bool finished_ = false;  // nothing of it is under way any more
  std::optional<Gate::Hold> hold_;
};

RpcServer::Impl::~Impl() {
  if (!server_) return;
  server_->Shutdown(std::chrono::system_clock::now());
  end_queue();
}

Status RpcServer::Impl::start(const RpcAddress& address) {
  gpr_set_log_function(log_of_grpc);
  grpc::ServerBuilder builder;
  demands_certificates_ =
      address.tls != nullptr && address.tls->clients() == RpcTls::Clients::WithCertificate;
  credentials_ = address.tls ? address.tls->credentials() : grpc::InsecureServerCredentials();
  builder.AddListeningPort(address.text, credentials_, &port_);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10 * 1000);
  builder.RegisterAsyncGenericService(&service_);
  builder.SetMaxReceiveMessageSize(message_size(limits_.max_message));
  builder.SetMaxSendMessageSize(message_size(limits_.max_reply));
  builder.SetResourceQuota(grpc::ResourceQuota("mayfly").Resize(limits_.memory.count));
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a port that is taken is an error
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsPerConnection);
  // A peer that has vanished, or has nothing to ask, keeps no descriptor.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, 5 * 60 * 1000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60 * 1000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20 * 1000);
  builder.AddChannelArgument(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET,
                             1 << GRPC_COMPRESS_NONE);
  queue_ = builder.AddCompletionQueue();
  server_ = builder.BuildAndStart();
  if (!server_ || port_ == 0) {
    end_queue();
    server_.reset();
    return fail(Code::Unavailable,
                fmt::format("{} cannot be listened at: is the port taken?", address.text));
  }
  take_next_call();
  thread_ = std::jthread([this] { serve_queue(); });
  return {};
}

void RpcServer::Impl::serve_queue() {
  ::pthread_setname_np(::pthread_self(), "grpc");
  void* tag = nullptr;
  bool succeeded = false;
  while (queue_->Next(&tag, &succeeded)) Call::happened(tag, succeeded);
  loop_.post([this] { ended_.set(); });
}

void RpcServer::Impl::take_next_call() {
  const auto call = std::make_shared<Call>(*this);
  start_operation([&] { call->wait_for_call(); });
}

void RpcServer::Impl::end_queue() {
  {
    const std::scoped_lock lock(queue_mutex_);
    if (std::exchange(queue_closed_, true)) return;
    queue_->Shutdown();
  }
  if (thread_.joinable()) return;
  void* tag = nullptr;
  bool succeeded = false;
  while (queue_->Next(&tag, &succeeded)) Call::happened(tag, succeeded);
}

void RpcServer::Impl::begin(const std::shared_ptr<Call>& call) {
  std::optional<Gate::Hold> hold = gate_.hold();
  if (!hold) {
    return call->finish(
        refuse(reason::kDraining, "the node is shutting down; send the request elsewhere"));
  }
  if (gate_.holders() > limits_.max_calls) {
    return call->finish(refuse(
        reason::kNodeBusy, fmt::format("{} calls are open; try again soon", limits_.max_calls)));
  }
  loop_.spawn(serve(call, *std::move(hold)));
}

// A call counts until its client has taken its answer.
Task<void> RpcServer::Impl::serve(std::shared_ptr<Call> call, Gate::Hold hold) {
  call->finish(co_await handler_(*call));
  call->keep(std::move(hold));
}

Task<void> RpcServer::Impl::close(Duration timeout) {
  closing_.cancel();
  Future<void> stopped(loop_);
  auto promise = std::make_shared<Promise<void>>(stopped.promise());
  // Blocks until the last call has ended or the time is over.
  const std::jthread stopping([&, promise, until = std::chrono::system_clock::now() + timeout] {
    server_->Shutdown(until);
    loop_.post([promise] { promise->set(); });
  });
  (void)co_await stopped;
  co_await gate_.close();  // what was cancelled ends soon
  end_queue();
  (void)co_await queue_ended_;  // and with it all that was posted before
}

RpcServer::RpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RpcServer::~RpcServer() = default;

Result<std::unique_ptr<RpcServer>> RpcServer::listen(Loop& loop, const RpcAddress& address,
                                                     const RpcLimits& limits, RpcHandler handler) {
  auto impl = std::make_unique<Impl>(loop, limits, std::move(handler));
  TRY(impl->start(address));
  return std::unique_ptr<RpcServer>(new RpcServer(std::move(impl)));
}

int RpcServer::port() const { return impl_->port(); }
std::size_t RpcServer::calls() const { return impl_->calls(); }
Task<void> RpcServer::close(Duration timeout) { return impl_->close(timeout); }

}  // namespace mayfly
