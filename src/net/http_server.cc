#include "net/http_server.h"

#include <arpa/inet.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "async/timer.h"
#include "async/watch.h"
#include "base/log.h"
#include "net/http_connection.h"
#include "net/unix_address.h"

namespace mayfly {
namespace {

constexpr int kBacklog = 4096;
constexpr std::size_t kBuffer = 4096;
constexpr std::size_t kSpareBuffers = 64;
constexpr int kAcceptsPerTurn = 64;
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);
// How many idle connections go each time that there is no descriptor for a new one.
constexpr int kRoomOnShortage = 16;
// How many of those that are not served are told so at a time; the others see the connection end.
constexpr std::size_t kTurnedAwayAtOnce = 64;

struct Address {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Result<Address> parse_address(const std::string& text, std::uint16_t port) {
  Address address;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  if (::inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.size = sizeof(sockaddr_in);
    return address;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (::inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.size = sizeof(sockaddr_in6);
    return address;
  }
  return fail(Code::InvalidArgument,
              fmt::format("'{}' is not a numeric IPv4 or IPv6 address", text));
}

std::uint16_t port_of(const Address& address) {
  if (address.storage.ss_family == AF_INET) {
    return ntohs(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port);
  }
  return ntohs(reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port);
}

std::string describe(const Address& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.storage.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address.storage);
    (void)::inet_ntop(AF_INET, &v4->sin_addr, text.data(), text.size());
    return fmt::format("{}:{}", text.data(), ntohs(v4->sin_port));
  }
  if (address.storage.ss_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address.storage);
    (void)::inet_ntop(AF_INET6, &v6->sin6_addr, text.data(), text.size());
    return fmt::format("[{}]:{}", text.data(), ntohs(v6->sin6_port));
  }
  return "unix";
}

Result<Fd> open_listener(Address address, std::string_view what) {
  const int family = address.storage.ss_family;
  Fd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno("socket");
  const int one = 1;
  if (family == AF_UNIX) {
    (void)::fchmod(socket.get(), 0600);  // the mode that bind() gives the file
  } else {
    // Accepted sockets inherit TCP_NODELAY: replies are one write, and must not wait for an ACK.
    (void)::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    (void)::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  if (family == AF_INET6) {
    (void)::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  }
  if (::bind(socket.get(), address.get(), address.size) != 0 ||
      ::listen(socket.get(), kBacklog) != 0) {
    return fail_errno(fmt::format("listen on {}", what));
  }
  return socket;
}

// A socket file that nobody listens on is what a killed server left.
void remove_if_dead(Address address, const std::string& path) {
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(probe.get(), address.get(), address.size) != 0 && errno == ECONNREFUSED) {
    (void)::unlink(path.c_str());
  }
}

PeerGroup group_of(const Address& address) {
  PeerGroup group;
  if (address.storage.ss_family == AF_INET) {
    group.bits = reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr.s_addr;
  } else {
    group.ipv6 = true;
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address.storage);
    std::memcpy(&group.bits, v6->sin6_addr.s6_addr, sizeof group.bits);
  }
  return group;
}

}  // namespace

class HttpServer::Listener {
 public:
  Listener(HttpServer& server, Fd socket, std::filesystem::path file = {})
      : server_(server),
        socket_(std::move(socket)),
        file_(std::move(file)),
        resume_(server.shared_->loop, [this] { watch(); }) {
    watch();
  }
  ~Listener() {
    if (!file_.empty()) (void)::unlink(file_.c_str());
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

 private:
  void watch() {
    watch_.emplace(server_.shared_->loop, socket_.get(), Trigger::Readable,
                   [this](Ready) { accept_some(); });
  }

  void accept_some() {
    for (int i = 0; i < kAcceptsPerTurn; ++i) {
      Address peer;
      Fd socket(::accept4(socket_.get(), peer.get(), &peer.size, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (socket && !is_welcome(socket, peer)) continue;
      if (socket) {
        server_.take(newcomer(std::move(socket), peer));
        continue;
      }
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno != EAGAIN) {
        // Out of descriptors or memory: the listener stays readable, so look away for a moment.
        LOG(warn, "cannot accept a connection", {"error", std::strerror(errno)});
        for (int n = 0; n < kRoomOnShortage && server_.shared_->close_oldest_idle(); ++n) {
        }
        resume_.arm_in(kAcceptPause);
        watch_.reset();
      }
      return;
    }
  }

  // Root is welcome too: it can read the files of everybody.
  bool is_welcome(const Fd& socket, const Address& peer) const {
    const std::optional<uid_t> only = server_.shared_->options.only_user;
    if (!only || peer.storage.ss_family != AF_UNIX) return true;
    ucred who{};
    socklen_t size = sizeof who;
    return ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 &&
           (who.uid == *only || who.uid == 0);
  }

  Newcomer newcomer(Fd socket, const Address& peer) {
    Shared& shared = *server_.shared_;
    Newcomer who{.socket = std::move(socket), .peer = describe(peer), .session = {}, .place = {}};
    if (peer.storage.ss_family == AF_UNIX) return who;
    if (shared.tls) who.session = shared.tls->accept();
    who.place = shared.peers.take(group_of(peer));
    if (!who.place) who.fate = Newcomer::Fate::AddressIsFull;
    return who;
  }

  HttpServer& server_;
  Fd socket_;
  std::filesystem::path file_;
  Timer resume_;
  std::optional<Watch> watch_;
};

std::string_view HttpServer::Shared::date() {
  if (loop.turn_time() >= date_expires_) {
    const auto now = std::chrono::floor<std::chrono::seconds>(loop.clock().wall_now());
    date_ = fmt::format("{:%a, %d %b %Y %H:%M:%S} GMT",
                        fmt::gmtime(std::chrono::system_clock::to_time_t(now)));
    date_expires_ = loop.turn_time() + std::chrono::milliseconds(500);
  }
  return date_;
}

std::vector<char> HttpServer::Shared::take_buffer() {
  if (spare_buffers_.empty()) return std::vector<char>(kBuffer);
  std::vector<char> buffer = std::move(spare_buffers_.back());
  spare_buffers_.pop_back();
  return buffer;
}

void HttpServer::Shared::give_buffer(std::vector<char> buffer) {
  if (buffer.size() == kBuffer && spare_buffers_.size() < kSpareBuffers) {
    spare_buffers_.push_back(std::move(buffer));
  }
}

bool HttpServer::Shared::close_oldest_idle() {
  if (idle.empty()) return false;
  HttpConnection& oldest = idle.front();
  busy.push_back(oldest);  // chosen once
  oldest.leave();
  return true;
}

HttpServer::HttpServer(Loop& loop, HttpServerOptions options, Handler handler)
    : shared_(std::make_unique<Shared>(loop, options, std::move(handler))) {}

HttpServer::~HttpServer() = default;

std::size_t HttpServer::connections() const { return shared_->gate.holders(); }

Result<std::uint16_t> HttpServer::listen(std::string_view address, std::uint16_t port) {
  const std::string text(address);
  const Address wanted = TRY(parse_address(text, port));
  Fd socket = TRY(open_listener(wanted, fmt::format("{}:{}", text, port)));
  Address bound;
  if (::getsockname(socket.get(), bound.get(), &bound.size) != 0) return fail_errno("getsockname");
  listeners_.push_back(std::make_unique<Listener>(*this, std::move(socket)));
  return port_of(bound);
}

Status HttpServer::listen_unix(const std::filesystem::path& path) {
  const UnixAddress named = TRY(UnixAddress::of(path));
  Address address;
  std::memcpy(&address.storage, named.get(), UnixAddress::size());
  address.size = UnixAddress::size();
  remove_if_dead(address, path.native());
  Fd socket = TRY(open_listener(address, path.native()));
  listeners_.push_back(std::make_unique<Listener>(*this, std::move(socket), path));
  return {};
}

void HttpServer::set_tls(TlsContext context) { shared_->tls = std::move(context); }

void HttpServer::take(Newcomer newcomer) {
  const std::size_t served = shared_->gate.holders() - shared_->turned_away;
  if (newcomer.fate == Newcomer::Fate::Serve && served >= shared_->options.max_connections &&
      !shared_->close_oldest_idle()) {
    newcomer.fate = Newcomer::Fate::NodeIsFull;
  }
  if (newcomer.fate != Newcomer::Fate::Serve) {
    newcomer.place.reset();
    if (shared_->turned_away >= kTurnedAwayAtOnce) return;
  }
  shared_->loop.spawn(serve(*shared_, std::move(newcomer)));
}

Task<void> HttpServer::serve(Shared& shared, Newcomer newcomer) {
  const std::optional<Gate::Hold> hold = shared.gate.hold();
  if (!hold) co_return;
  const bool turned_away = newcomer.fate != Newcomer::Fate::Serve;
  shared.turned_away += turned_away ? 1 : 0;
  {
    HttpConnection connection(shared, std::move(newcomer));
    co_await connection.serve();
  }
  shared.turned_away -= turned_away ? 1 : 0;
}

Task<void> HttpServer::close(Duration timeout) {
  listeners_.clear();
  shared_->draining = true;
  HookList<HttpConnection> idle;
  idle.splice(shared_->idle);
  while (!idle.empty()) {
    HttpConnection& connection = idle.front();
    shared_->busy.push_back(connection);
    connection.leave();
  }
  Timer deadline(shared_->loop, [this] {
    shared_->busy.for_each([](HttpConnection& connection) { connection.abort(); });
    shared_->idle.for_each([](HttpConnection& connection) { connection.abort(); });
  });
  deadline.arm_in(timeout);
  co_await shared_->gate.close();
}

}  // namespace mayfly
