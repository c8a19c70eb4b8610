#include "grpc/rpc_server.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "async/event.h"
#include "core/reason.h"
#include "grpc/message_bytes.h"
#include "net/testing/test_certificates.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

std::string text_of(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  REQUIRE(buffer.Dump(&slices).ok());
  std::string text;
  for (const grpc::Slice& slice : slices)
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return text;
}

std::string address_of(const RpcServer& server) {
  return "127.0.0.1:" + std::to_string(server.port());
}

// A client that waits for each step, on a thread of its own.
class Client {
 public:
  explicit Client(const std::string& address)
      : Client(grpc::CreateChannel(address, grpc::InsecureChannelCredentials())) {}
  explicit Client(const std::shared_ptr<grpc::Channel>& channel) : stub_(channel) {}
  ~Client() { queue_.Shutdown(); }

  void call(const std::string& method, std::chrono::milliseconds deadline = 30s) {
    context.set_deadline(std::chrono::system_clock::now() + deadline);
    call_ = stub_.PrepareCall(&context, method, &queue_);
    call_->StartCall(this);
    next();
  }
  bool write(std::string text) {
    call_->Write(to_buffer(std::move(text)), this);
    return next();
  }
  std::optional<std::string> read() {
    grpc::ByteBuffer message;
    call_->Read(&message, this);
    if (!next()) return std::nullopt;
    return text_of(message);
  }
  void half_close() {
    call_->WritesDone(this);
    next();
  }
  grpc::Status finish() {
    grpc::Status status;
    call_->Finish(&status, this);
    next();
    return status;
  }

  grpc::ClientContext context;

 private:
  bool next() {
    void* tag = nullptr;
    bool succeeded = false;
    queue_.Next(&tag, &succeeded);
    return succeeded;
  }
  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
};

// Answers each message with itself; "fail at length" fails, "hang" waits for the client to give up.
Task<Status> echo(Loop& loop, Rpc& rpc) {
  if (rpc.method() == "/test/Refused") co_return refuse(reason::kQueueFull, "come again");
  while (std::optional<grpc::ByteBuffer> message = co_await rpc.read()) {
    const std::string text = text_of(*message);
    if (text == "fail at length") {
      std::string complaint = ".";
      while (complaint.size() < 9000) complaint += "ü";
      co_return refuse(reason::kInvalidInput, complaint);
    }
    if (text == "hang") {
      Future<void> gone(loop);
      const CancelCallback on_cancel(rpc.cancelled(),
                                     [promise = gone.promise()]() mutable { promise.set(); });
      (void)co_await gone;
      co_return refuse(reason::kClientGone, "gone");
    }
    rpc.trail("x-peer", rpc.peer());
    if (const auto shown = parse_peer_certificate(rpc.client_certificate()))
      rpc.trail("x-certificate", shown->common_name);
    rpc.trail("x-seen", rpc.metadata("X-Given").value_or("nothing"));
    if (rpc.method() == "/test/Unary") {
      rpc.reply(to_buffer(text));
      co_return Status{};
    }
    if (!co_await rpc.write(to_buffer(text))) break;
  }
  co_return Status{};
}

// Runs `client` beside the loop, then closes the server.
void with_server(const std::function<void(RpcServer&)>& client, RpcLimits limits = {},
                 const std::shared_ptr<RpcTls>& tls = nullptr) {
  Loop loop;
  auto server = RpcServer::listen(loop, {"127.0.0.1:0", tls}, limits,
                                  [&loop](Rpc& rpc) { return echo(loop, rpc); });
  REQUIRE(server.has_value());
  std::thread thread([&] {
    client(**server);
    loop.stop();
  });
  loop.run();
  thread.join();
  loop.run((*server)->close(5s));
  CHECK((*server)->calls() == 0);
}

}  // namespace

TEST_CASE("a unary call gets its reply, with metadata both ways") {
  with_server([](RpcServer& server) {
    Client client(address_of(server));
    client.context.AddMetadata("x-given", "this");
    client.call("/test/Unary");
    CHECK(client.write("hello"));
    CHECK(client.read() == "hello");
    CHECK(client.finish().ok());
    const auto& trailing = client.context.GetServerTrailingMetadata();
    REQUIRE(trailing.contains("x-seen"));
    CHECK(trailing.find("x-seen")->second == "this");
    CHECK(trailing.find("x-peer")->second.starts_with("127.0.0.1:"));
  });
}

TEST_CASE("an error is the call's status, with its reason beside it") {
  with_server([](RpcServer& server) {
    Client client(address_of(server));
    client.call("/test/Refused");
    client.write("x");
    const grpc::Status status = client.finish();
    CHECK(status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
    CHECK(status.error_message() == "come again");
    CHECK(client.context.GetServerTrailingMetadata().find("mayfly-reason")->second == "queue_full");
  });
}

TEST_CASE("a long message is cut so that clients take it") {
  with_server([](RpcServer& server) {
    Client client(address_of(server));
    client.call("/test/Stream");
    client.write("fail at length");
    const grpc::Status status = client.finish();
    CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
    CHECK(status.error_message().size() < 2100);
    CHECK(status.error_message().ends_with("ü …"));
  });
}

TEST_CASE("a stream goes back and forth until its client has said all") {
  with_server([](RpcServer& server) {
    Client client(address_of(server));
    client.call("/test/Stream");
    for (const std::string text : {"a", "", "c"}) {
      CHECK(client.write(text));
      CHECK(client.read() == text);
    }
    client.half_close();
    CHECK_FALSE(client.read().has_value());
    CHECK(client.finish().ok());
  });
}

TEST_CASE("a handler learns that its client gave up") {
  with_server([](RpcServer& server) {
    {
      Client client(address_of(server));
      client.call("/test/Stream");
      CHECK(client.write("hang"));
      client.context.TryCancel();
      CHECK(client.finish().error_code() == grpc::StatusCode::CANCELLED);
    }
    Client late(address_of(server));
    late.call("/test/Stream", 50ms);
    late.write("hang");  // on a slow machine it may be too late already
    CHECK(late.finish().error_code() == grpc::StatusCode::DEADLINE_EXCEEDED);
  });  // close() ends at once: nobody hangs
}

TEST_CASE("messages beyond the limit are refused, and calls beyond theirs") {
  with_server(
      [](RpcServer& server) {
        Client large(address_of(server));
        large.call("/test/Unary");
        large.write(std::string(1 << 20, 'x'));
        CHECK(large.finish().error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
      },
      {.max_message = kib(64)});
  with_server(
      [](RpcServer& server) {
        Client first(address_of(server));
        first.call("/test/Stream");
        CHECK(first.write("a"));
        CHECK(first.read() == "a");
        Client second(address_of(server));
        second.call("/test/Stream");
        second.write("a");
        CHECK(second.finish().error_code() == grpc::StatusCode::UNAVAILABLE);
        first.half_close();
        CHECK(first.finish().ok());
      },
      {.max_calls = 1});
}

TEST_CASE("closing ends streams that wait for their client, and cancels what does not end") {
  Loop loop;
  auto server = RpcServer::listen(loop, {"127.0.0.1:0", nullptr}, {},
                                  [&loop](Rpc& rpc) { return echo(loop, rpc); });
  REQUIRE(server.has_value());
  Client waiting(address_of(**server));
  Client hanging(address_of(**server));
  std::thread thread([&] {
    waiting.call("/test/Stream");
    CHECK(waiting.write("a"));
    CHECK(waiting.read() == "a");
    hanging.call("/test/Stream");
    CHECK(hanging.write("hang"));
    loop.stop();
  });
  loop.run();
  thread.join();
  std::thread finishing([&] {
    CHECK_FALSE(waiting.read().has_value());
    CHECK(waiting.finish().ok());
    CHECK_FALSE(hanging.finish().ok());
  });
  loop.run((*server)->close(100ms));
  finishing.join();
}

namespace {

std::string text_of_file(const Path& file) { return *read_file(file); }

std::shared_ptr<grpc::Channel> channel_to(const RpcServer& server, const TlsClientFiles& files) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = text_of_file(files.ca);
  if (!files.certificate.empty()) {
    options.pem_cert_chain = text_of_file(files.certificate);
    options.pem_private_key = text_of_file(files.key);
  }
  return grpc::CreateChannel(address_of(server), grpc::SslCredentials(options));
}

grpc::Status say_hello(Client& client) {
  client.call("/test/Unary", 5s);
  if (client.write("hello")) (void)client.read();
  return client.finish();
}

}  // namespace

TEST_CASE("over TLS new connections get the newest certificate, and open ones go on") {
  const TempDir folder = TempDir::create().value();
  const TestAuthority old(folder.path(), "old");
  const TestAuthority renewed(folder.path(), "renewed");
  const auto tls = std::make_shared<RpcTls>(RpcTls::Clients::Anybody);
  tls->use(TlsContext::server(old.issue("server")).value().pem());
  with_server(
      [&](RpcServer& server) {
        const auto open = channel_to(server, {.ca = old.file()});
        Client first(open);
        CHECK(say_hello(first).ok());
        tls->use(TlsContext::server(renewed.issue("server")).value().pem());
        Client newer(channel_to(server, {.ca = renewed.file()}));
        CHECK(say_hello(newer).ok());
        Client late(open);
        CHECK(say_hello(late).ok());
        Client plain(address_of(server));
        CHECK_FALSE(say_hello(plain).ok());
      },
      {}, tls);
}

TEST_CASE(
    "where clients must show a certificate, handlers see whose it is and others are refused") {
  const TempDir folder = TempDir::create().value();
  const TestAuthority servers(folder.path(), "servers");
  const TestAuthority clients(folder.path(), "clients");
  const auto tls = std::make_shared<RpcTls>(RpcTls::Clients::WithCertificate);
  TlsServerFiles files = servers.issue("server");
  files.client_ca = clients.file();
  tls->use(TlsContext::server(files).value().pem());
  with_server(
      [&](RpcServer& server) {
        const auto shown_by = [&](const TestAuthority& issuer, const CertificateWish& wish) {
          const TlsServerFiles own = issuer.issue(wish.common_name, wish);
          return channel_to(server,
                            {.ca = servers.file(), .certificate = own.certificate, .key = own.key});
        };
        Client alice(shown_by(clients, {.common_name = "alice"}));
        CHECK(say_hello(alice).ok());
        const auto& trailers = alice.context.GetServerTrailingMetadata();
        REQUIRE(trailers.contains("x-certificate"));
        CHECK(trailers.find("x-certificate")->second == "alice");
        Client stranger(shown_by(servers, {.common_name = "mallory"}));
        CHECK_FALSE(say_hello(stranger).ok());
        Client late(shown_by(clients, {.common_name = "late", .ends = -1h}));
        CHECK_FALSE(say_hello(late).ok());
        Client nobody(channel_to(server, {.ca = servers.file()}));
        CHECK_FALSE(say_hello(nobody).ok());
      },
      {}, tls);
}

TEST_CASE("a port that is taken is an error that names it") {
  Loop loop;
  const RpcHandler handler = [&loop](Rpc& rpc) { return echo(loop, rpc); };
  auto first = RpcServer::listen(loop, {"127.0.0.1:0", nullptr}, {}, handler);
  REQUIRE(first.has_value());
  const auto second = RpcServer::listen(loop, {address_of(**first), nullptr}, {}, handler);
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().message.contains(address_of(**first)));
  loop.run((*first)->close(1s));
}
