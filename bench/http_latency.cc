// Sends the same request N times over each of C keep-alive connections, one at a time a connection,
// and prints what each took: from the first byte written to the last byte read. Blocking sockets
// and one thread a connection, so that it adds the same little to every server it is used on.
//
//   --port P --path /x [--body FILE] [--header "K: V"]… --count N [--connections C]
//   --before PATH        POST this before each request, not timed (to evict a function, say)
//   --settle-us N        wait after that, until what it ended has gone
//   --expect-start TIER  count only replies with this Mayfly-Start; others are repeated, and told
//   --pause-us N         wait after each request
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tool.h"

namespace mayfly::bench {
namespace {

struct Reply {
  int status = 0;
  std::string start;  // Mayfly-Start
};

class Connection {
 public:
  explicit Connection(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    require_call(socket_ >= 0, "socket");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    require_call(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0,
                 "connect");
    const int on = 1;
    ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  Connection(Connection&&) = delete;
  ~Connection() { ::close(socket_); }

  Reply exchange(const std::string& request) {
    write_exactly(socket_, std::as_bytes(std::span(request)));
    buffer_.clear();
    std::size_t head = std::string::npos;
    while ((head = buffer_.find("\r\n\r\n")) == std::string::npos) read_more();
    const std::string_view text = std::string_view(buffer_).substr(0, head + 2);
    const std::string length(header(text, "content-length").value_or("0"));
    Reply reply{.status = std::atoi(buffer_.c_str() + sizeof "HTTP/1.1"),
                .start = std::string(header(text, "mayfly-start").value_or(""))};
    const std::size_t total = head + 4 + std::strtoull(length.c_str(), nullptr, 10);
    while (buffer_.size() < total) read_more();
    last_body_ = buffer_.substr(head + 4);
    return reply;
  }
  const std::string& last_body() const { return last_body_; }

 private:
  static std::optional<std::string_view> header(std::string_view head, std::string_view name) {
    for (std::size_t at = head.find("\r\n"); at + 2 < head.size(); at = head.find("\r\n", at + 2)) {
      const std::string_view line = head.substr(at + 2, head.find("\r\n", at + 2) - at - 2);
      if (line.size() > name.size() && line[name.size()] == ':' &&
          ::strncasecmp(line.data(), name.data(), name.size()) == 0) {
        std::string_view value = line.substr(name.size() + 1);
        value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
        return value;
      }
    }
    return std::nullopt;
  }

  void read_more() {
    const std::size_t before = buffer_.size();
    buffer_.resize(before + kPiece);
    const ssize_t got = ::read(socket_, buffer_.data() + before, kPiece);
    require_call(got >= 0, "read");
    require(got > 0, "the server closed the connection");
    buffer_.resize(before + static_cast<std::size_t>(got));
  }

  static constexpr std::size_t kPiece = 64 * 1024;
  int socket_;
  std::string buffer_;
  std::string last_body_;
};

struct Plan {
  explicit Plan(const Arguments& arguments)
      : port(static_cast<std::uint16_t>(arguments.number("port", 0))),
        count(arguments.number("count", 1)),
        settle_us(static_cast<useconds_t>(arguments.number("settle-us", 0))),
        pause_us(static_cast<useconds_t>(arguments.number("pause-us", 0))),
        expect(arguments.text("expect-start", "")) {
    std::string body;
    if (arguments.has("body")) {
      const auto bytes = read_whole(arguments.text("body"));
      body.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    request = (body.empty() ? "GET " : "POST ") + arguments.text("path") +
              " HTTP/1.1\r\nHost: localhost\r\n";
    for (const std::string& line : arguments.all("header")) request += line + "\r\n";
    request += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    if (arguments.has("before")) {
      before = "POST " + arguments.text("before") +
               " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    }
  }
  std::uint16_t port;
  std::size_t count;
  useconds_t settle_us;
  useconds_t pause_us;
  std::string expect;
  std::string request;
  std::string before;
};

std::vector<double> converse(const Plan& plan, std::atomic<std::size_t>& unexpected) {
  Connection connection(plan.port);
  std::vector<double> samples;
  samples.reserve(plan.count);
  while (samples.size() < plan.count) {
    if (!plan.before.empty()) {
      const Reply done = connection.exchange(plan.before);
      require(done.status / 100 == 2, "--before was refused: " + connection.last_body());
      if (plan.settle_us > 0) ::usleep(plan.settle_us);
    }
    const double begin = now_us();
    const Reply reply = connection.exchange(plan.request);
    const double took = now_us() - begin;
    require(reply.status == 200, std::to_string(reply.status) + ": " + connection.last_body());
    if (plan.expect.empty() || reply.start == plan.expect) {
      samples.push_back(took);
    } else {
      require(++unexpected <= plan.count,
              "replies are " + reply.start + " starts instead of " + plan.expect);
    }
    if (plan.pause_us > 0) ::usleep(plan.pause_us);
  }
  return samples;
}

Report measure(const Arguments& arguments) {
  const Plan plan(arguments);
  std::vector<std::vector<double>> samples(arguments.number("connections", 1));
  std::atomic<std::size_t> unexpected = 0;
  const double begin = now_us();
  {
    std::vector<std::jthread> threads;
    for (auto& part : samples) {
      threads.emplace_back([&] { part = converse(plan, unexpected); });
    }
  }
  Report report{.samples_us = {}, .wall_s = (now_us() - begin) / 1e6, .more = {}};
  for (const auto& part : samples) {
    report.samples_us.insert(report.samples_us.end(), part.begin(), part.end());
  }
  report.more["unexpected"] = static_cast<double>(unexpected);
  return report;
}

}  // namespace
}  // namespace mayfly::bench

int main(int argc, char** argv) {
  using namespace mayfly::bench;
  print(measure(Arguments(argc, argv, 1)));
}
