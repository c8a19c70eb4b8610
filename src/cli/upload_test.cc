// Uploads over a connection that breaks.
#include <array>
#include <cstdint>
#include <fstream>
#include <string>

#include "cli/node_client.h"
#include "net/testing/server_thread.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

// Takes an upload, cutting the connection whenever so many bytes have come.
struct CuttingNode {
  std::size_t patience;
  std::string received = {};
  int cuts = 0;

  static Task<void> serve(CuttingNode& node, Exchange& exchange) {
    if (exchange.head().method == Method::Head) {
      Response state{.status = 404, .headers = {}, .body = ""};
      state.headers.add("Upload-Offset", std::to_string(node.received.size()));
      (void)co_await exchange.respond(std::move(state));
      co_return;
    }
    std::array<std::byte, 4096> piece{};
    for (std::size_t taken = 0; taken < node.patience;) {
      const Result<std::size_t> got = co_await exchange.read_some(piece);
      if (!got) co_return;
      if (*got == 0) {
        (void)co_await exchange.respond({.status = 200, .headers = {}, .body = "{}"});
        co_return;
      }
      node.received.append(reinterpret_cast<const char*>(piece.data()), *got);
      taken += *got;
    }
    ++node.cuts;
    (void)co_await exchange.start(200, {});  // and never finished
  }
};

struct UploadRig {
  explicit UploadRig(std::size_t patience) : node{.patience = patience} {
    for (int i = 0; content.size() < 1 << 20; ++i) content += std::to_string(i);
    std::ofstream(file) << content;
  }
  Status upload() {
    ServerThread server([this](Exchange& exchange) { return CuttingNode::serve(node, exchange); });
    NodeClient client(server.url());
    return client.upload(std::string(64, 'a'), content.size(), file, [](std::uint64_t) {});
  }
  TempDir folder = TempDir::create().value();
  Path file = folder.path() / "weights";
  std::string content;
  CuttingNode node;
};

}  // namespace

TEST_CASE("an upload goes on where its connection broke, however often, while it gets on") {
  UploadRig rig(100'000);
  const Status done = rig.upload();
  CHECK_MESSAGE(done.has_value(), done.error().message);
  CHECK(rig.node.cuts >= 10);
  CHECK(rig.node.received == rig.content);
}

TEST_CASE("an upload that does not get on is given up") {
  UploadRig rig(0);
  CHECK_FALSE(rig.upload().has_value());
  CHECK(rig.node.cuts == 5);
  CHECK(rig.node.received.empty());
}
