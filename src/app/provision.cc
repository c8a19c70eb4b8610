#include "app/provision.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <thread>

#include "base/log.h"
#include "core/python_version.h"
#include "core/reason.h"

namespace mayfly {
namespace {

Bytes machine_memory() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page = ::sysconf(_SC_PAGESIZE);
  return Bytes{static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page)};
}

Bytes memory_budget(const Config& config) {
  return config.memory.count > 0 ? config.memory : Bytes{machine_memory().count / 4 * 3};
}

std::uint32_t cores(const Config& config) {
  return config.cpus > 0 ? config.cpus : std::max(1U, std::thread::hardware_concurrency());
}

// Until there are keys anybody who reaches the node may do anything, so that nobody elsewhere may.
Status check_reachable(const ListenAddress& listen, const std::optional<ListenAddress>& grpc) {
  TRY(check_loopback(listen, "server.listen"));
  return grpc ? check_loopback(*grpc, "server.grpc_listen") : Status{};
}

void warn_of_clear_text(const ListenAddress& where, std::string_view setting) {
  if (check_loopback(where, setting)) return;
  LOG(warn,
      "keys and what is asked travel in clear to whoever is on the way: use HTTPS "
      "(server.tls_certificate), or a proxy that speaks TLS before this address",
      {"setting", setting}, {"address", host_and_port(where)});
}

Result<Path> runner_path() {
  std::error_code error;
  const Path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return std::unexpected(errno_error("/proc/self/exe", error.value()));
  Path runner = self.parent_path() / "mayfly-runner";
  if (!std::filesystem::exists(runner)) {
    return fail(Code::NotFound,
                fmt::format("{} is missing: it belongs beside mayfly", runner.native()));
  }
  return runner;
}

PythonFolders python_folders(const Path& libraries) {
  return {.runtime = libraries / "python",
          .library = kPythonLibraryFolder,
          .libraries = kSystemLibraries,
          .packages = kPipFolder,
          .certificates = "/etc/ssl/certs"};
}

}  // namespace

Bytes body_memory(const Config& config) {
  return config.body_memory.count > 0 ? config.body_memory : Bytes{machine_memory().count / 4};
}

PredictionLimits prediction_limits(const Config& config) {
  return {.max_body = config.max_body, .max_reply = config.max_reply};
}

Path library_folder() {
  std::error_code error;
  const Path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return self.parent_path().parent_path() / "lib" / "mayfly";
}

Result<ProcessSpawnerOptions> spawner_options(const Config& config) {
  const Path runner = TRY(runner_path());
  ProcessSpawnerOptions options;
  options.runner = runner;
  const Path libraries = library_folder();
  options.python = python_folders(libraries);
  options.tables = libraries / "batch";
  options.training = libraries / "train";
  options.max_reply = config.max_reply;
  options.cpus = config.cpus;
  return options;
}

Result<std::unique_ptr<GuardedClient>> guarded_client(const Config& config) {
  auto policy = EgressPolicy::parse(config.egress_allow);
  if (!policy) return std::unexpected(std::move(policy).error().in("egress.allow"));
  auto client = GuardedClient::create(*std::move(policy), config.egress_ca);
  if (!client) return std::unexpected(std::move(client).error().in("egress.ca"));
  return client;
}

std::uint32_t fit_descriptors(std::uint32_t connections) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return connections;
  const rlim_t wanted = rlim_t{connections} / 3 * 4 + 4096;
  const rlim_t most = std::max(limit.rlim_max, wanted);
  const rlimit raised{.rlim_cur = most, .rlim_max = most};
  if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) return connections;
  // Only root may raise the hard limit.
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
  const auto room =
      static_cast<std::uint32_t>(std::min<rlim_t>(limit.rlim_max / 4 * 3, connections));
  if (room < connections) {
    LOG(warn, "limits.max_connections is more than the descriptors allow; ulimit -n or LimitNOFILE",
        {"descriptors", limit.rlim_max}, {"connections", room});
  }
  return room;
}

HttpServerOptions server_options(const Config& config, std::uint32_t connections) {
  const std::uint32_t each = config.max_connections_per_address;
  return {.max_header_bytes = config.max_header.count,
          .max_connections = connections,
          .max_per_address = each > 0 ? each : std::max(connections / 2, 1U),
          .header_timeout = config.header_timeout,
          .idle_timeout = config.keep_alive_timeout,
          .body_timeout = config.body_timeout,
          .write_timeout = config.write_timeout,
          .min_rate = config.min_rate.count};
}

std::string isolation_of(const std::vector<LayerHealth>& layers) {
  std::vector<std::string_view> missing;
  for (const LayerHealth& layer : layers) {
    if (layer.state == LayerState::Missing) missing.push_back(to_string(layer.layer));
  }
  if (missing.empty()) return "full";
  LOG(warn, "layers of isolation are missing; `mayfly doctor` says why and what helps",
      {"missing", fmt::format("{}", fmt::join(missing, ", "))});
  return fmt::format("without {}", fmt::join(missing, ", "));
}

Status check_isolation(const Config& config, const std::vector<LayerHealth>& layers) {
  if (config.isolation_level != IsolationLevel::Strict) return {};
  auto every = require_every_layer(layers);
  if (every) return {};
  return refuse(reason::kWeakIsolation, std::move(every).error().message);
}

HttpServerOptions admin_options() { return {.max_connections = 16, .only_user = ::geteuid()}; }

JobEngine::Options job_options(const Config& config) {
  return {
      .cpus = config.job_cpus > 0 ? config.job_cpus : cores(config),
      .memory = config.job_memory.count > 0 ? config.job_memory : Bytes{machine_memory().count / 4},
      .slice = std::chrono::seconds(config.job_slice_seconds),
      .longest_slice = 4 * std::chrono::seconds(config.job_slice_seconds)};
}

DispatchOptions dispatch_options(const Config& config) {
  return {.cores = cores(config), .memory = memory_budget(config)};
}

Status check_doors(const ListenAddress& listen, const std::optional<ListenAddress>& grpc,
                   bool closed, bool encrypted) {
  if (!closed) TRY(check_reachable(listen, grpc));
  if (encrypted) return {};
  warn_of_clear_text(listen, "server.listen");
  if (grpc) warn_of_clear_text(*grpc, "server.grpc_listen");
  return {};
}

Result<Prices> prices_of(const Config& config) {
  Prices prices;
  const std::map<std::string, std::uint64_t Prices::*> known = {
      {"gib_second", &Prices::gib_second},
      {"cpu_second", &Prices::cpu_second},
      {"million_requests", &Prices::million_requests}};
  for (const auto& [key, value] : config.prices) {
    const auto found = known.find(key);
    if (found == known.end())
      return refuse(reason::kInvalidSetting, fmt::format("prices.{}: no such price", key));
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size()) {
      return refuse(reason::kInvalidSetting,
                    fmt::format("prices.{}: write a whole number of billionths", key));
    }
    prices.*found->second = number;
  }
  return prices;
}

}  // namespace mayfly
