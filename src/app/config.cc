#include "app/config.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <toml++/toml.h>
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <iterator>

#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

using Setter = std::function<Status(Config&, const std::string&)>;

constexpr Bytes kLeastMessage = kib(1);

std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> items;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) items.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return items;
}

Setter text(std::string Config::* member) {
  return [member](Config& config, const std::string& value) -> Status {
    config.*member = value;
    return {};
  };
}

Setter list(std::vector<std::string> Config::* member) {
  return [member](Config& config, const std::string& value) -> Status {
    config.*member = split_list(value);
    return {};
  };
}

Setter duration(Duration Config::* member) {
  return [member](Config& config, const std::string& value) -> Status {
    config.*member = TRY(parse_duration(value));
    return {};
  };
}

Setter size(Bytes Config::* member, Bytes least = {}) {
  return [member, least](Config& config, const std::string& value) -> Status {
    config.*member = TRY(parse_bytes(value));
    if (config.*member >= least) return {};
    return refuse(reason::kInvalidSetting,
                  fmt::format("'{}' is less than {}", value, to_string(least)));
  };
}

Setter number(std::uint32_t Config::* member, std::uint32_t least = 0) {
  return [member, least](Config& config, const std::string& value) -> Status {
    std::uint32_t parsed = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
    if (error != std::errc() || end != value.data() + value.size()) {
      return refuse(reason::kInvalidSetting, fmt::format("'{}' is not a whole number", value));
    }
    if (parsed < least)
      return refuse(reason::kInvalidSetting, fmt::format("'{}' is less than {}", value, least));
    config.*member = parsed;
    return {};
  };
}

Setter user(std::optional<std::uint32_t> Config::* member) {
  return [member](Config& config, const std::string& value) -> Status {
    std::uint32_t uid = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), uid);
    const bool whole = error == std::errc() && end == value.data() + value.size();
    if (!whole && !value.empty())
      return refuse(reason::kInvalidSetting, fmt::format("'{}' is not a numeric user", value));
    config.*member = value.empty() ? std::nullopt : std::optional(uid);
    return {};
  };
}

Setter ratio(double Config::* member) {
  return [member](Config& config, const std::string& value) -> Status {
    double parsed = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
    const bool whole = error == std::errc() && end == value.data() + value.size();
    if (!whole || !(parsed >= 0 && parsed <= 1))
      return refuse(reason::kInvalidSetting,
                    fmt::format("'{}' is not a number from 0 to 1", value));
    config.*member = parsed;
    return {};
  };
}

template <typename Enum>
Setter choice(Enum Config::* member, std::vector<std::pair<std::string_view, Enum>> choices) {
  return
      [member, choices = std::move(choices)](Config& config, const std::string& value) -> Status {
        std::string known;
        for (const auto& [name, meaning] : choices) {
          if (name == value) {
            config.*member = meaning;
            return {};
          }
          known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", name);
        }
        return refuse(reason::kInvalidSetting, fmt::format("'{}' is none of {}", value, known));
      };
}

struct Entry {
  ConfigKey key;
  Setter set;
};

// The one table of settings, in two parts: file, environment, flags, help and documentation come
// from it.
std::vector<Entry> server_settings() {
  return {
      {{"server.listen", "--listen", "MAYFLY_LISTEN", "127.0.0.1:8080",
        "numeric address and port, loopback only until there is a key, or unix:PATH; port 0 picks "
        "a free one, which run/url in the data folder tells"},
       text(&Config::listen)},
      {{"server.grpc_listen", "--grpc-listen", "MAYFLY_GRPC_LISTEN", "127.0.0.1:8081",
        "the same for gRPC; port 0 picks a free one, which run/grpc in the data folder tells; off: "
        "no gRPC, which is the default beside a unix: socket"},
       text(&Config::grpc_listen)},
      {{"server.data", "--data", "MAYFLY_DATA", "",
        "the data folder; by default $XDG_DATA_HOME/mayfly or ~/.local/share/mayfly"},
       [](Config& config, const std::string& value) -> Status {
         config.data = value;
         return {};
       }},
      {{"server.hosts", "--hosts", "MAYFLY_HOSTS", "",
        "Host headers accepted besides loopback, comma-separated"},
       list(&Config::hosts)},
      {{"server.cors_origins", "--cors-origins", "MAYFLY_CORS_ORIGINS", "",
        "web origins whose pages may predict and control, comma-separated: https://app.example"},
       list(&Config::cors_origins)},
      {{"server.drain_timeout", "--drain-timeout", "MAYFLY_DRAIN_TIMEOUT", "30s",
        "how long SIGTERM waits for accepted requests, as in 500ms or 2m"},
       duration(&Config::drain_timeout)},
      {{"server.tls_certificate", "--tls-certificate", "MAYFLY_TLS_CERTIFICATE", "",
        "a PEM file with the certificate and its chain: with it the addresses speak HTTPS and gRPC "
        "over TLS, and nothing else. Read again when it changes, and on SIGHUP"},
       text(&Config::tls_certificate)},
      {{"server.tls_key", "--tls-key", "MAYFLY_TLS_KEY", "",
        "the PEM file with the certificate's key, without a passphrase"},
       text(&Config::tls_key)},
      {{"server.tls_client_ca", "--tls-client-ca", "MAYFLY_TLS_CLIENT_CA", "",
        "a PEM file with authorities: clients must show a certificate that one of them issued"},
       text(&Config::tls_client_ca)},
      {{"identity.issuers", "--issuers", "MAYFLY_ISSUERS", "",
        "a JSON file: whose signed tokens (JWT) are taken besides keys, and what they may do"},
       [](Config& config, const std::string& value) -> Status {
         config.issuers = value;
         return {};
       }},
      {{"identity.certificates", "--certificates", "MAYFLY_CERTIFICATES", "",
        "a JSON file: for whom the certificates stand that clients show (server.tls_client_ca), "
        "and "
        "what they may do"},
       [](Config& config, const std::string& value) -> Status {
         config.certificates = value;
         return {};
       }},
  };
}

std::vector<Entry> limit_settings() {
  return {
      {{"limits.max_header", "--max-header", "MAYFLY_MAX_HEADER", "16KiB",
        "largest request header"},
       size(&Config::max_header, kLeastMessage)},
      {{"limits.max_body", "--max-body", "MAYFLY_MAX_BODY", "64MiB",
        "largest prediction body, decompressed"},
       size(&Config::max_body, kLeastMessage)},
      {{"limits.max_reply", "--max-reply", "MAYFLY_MAX_REPLY", "64MiB", "largest prediction reply"},
       size(&Config::max_reply, kLeastMessage)},
      {{"limits.body_memory", "--body-memory", "MAYFLY_BODY_MEMORY", "0",
        "memory for the bodies over 64KiB of all predictions together, beyond which they get 503 "
        "node_busy; 0: a quarter of the machine's"},
       size(&Config::body_memory)},
      {{"limits.cache", "--cache", "MAYFLY_CACHE", "64MiB",
        "memory for replies of versions with cache = true; 0: none is kept"},
       size(&Config::cache)},
      {{"limits.max_upload", "--max-upload", "MAYFLY_MAX_UPLOAD", "64GiB", "largest uploaded file"},
       size(&Config::max_upload)},
      {{"limits.max_connections", "--max-connections", "MAYFLY_MAX_CONNECTIONS", "10000",
        "open connections; the next one closes the one that has been idle the longest, and gets "
        "503 when none is"},
       number(&Config::max_connections, 1)},
      {{"limits.max_connections_per_address", "--max-connections-per-address",
        "MAYFLY_MAX_CONNECTIONS_PER_ADDRESS", "0",
        "the same from one address (one /64 of IPv6), loopback too, socket files not; the next one "
        "gets 503. 0: half of limits.max_connections"},
       number(&Config::max_connections_per_address)},
      {{"limits.header_timeout", "--header-timeout", "MAYFLY_HEADER_TIMEOUT", "10s",
        "from the first byte of a request's header to its last; for the first one, from the "
        "connection on, with the TLS handshake; 408 past it"},
       duration(&Config::header_timeout)},
      {{"limits.keep_alive_timeout", "--keep-alive-timeout", "MAYFLY_KEEP_ALIVE_TIMEOUT", "75s",
        "how long a connection may be idle between requests"},
       duration(&Config::keep_alive_timeout)},
      {{"limits.body_timeout", "--body-timeout", "MAYFLY_BODY_TIMEOUT", "30s",
        "the patience with who sends a body: used up by waiting, given back by limits.min_rate"},
       duration(&Config::body_timeout)},
      {{"limits.write_timeout", "--write-timeout", "MAYFLY_WRITE_TIMEOUT", "30s",
        "the same with who takes a reply"},
       duration(&Config::write_timeout)},
      {{"limits.min_rate", "--min-rate", "MAYFLY_MIN_RATE", "256B",
        "bytes that give one second of patience back: who is slower in the long run is cut off"},
       size(&Config::min_rate)},
  };
}

Setter path(Path Config::* member) {
  return [member](Config& config, const std::string& value) -> Status {
    config.*member = value;
    return {};
  };
}

std::vector<Entry> store_settings() {
  return {
      {{"store.scrub_interval", "--scrub-interval", "MAYFLY_SCRUB_INTERVAL", "24h",
        "how often every stored byte is hashed again, and what is damaged put into quarantine; 0s: "
        "never"},
       duration(&Config::scrub_interval)},
      {{"store.scrub_rate", "--scrub-rate", "MAYFLY_SCRUB_RATE", "32MiB",
        "how much of that is read in a second; 0: as fast as it goes"},
       size(&Config::scrub_rate)},
      {{"store.s3", "--store-s3", "MAYFLY_STORE_S3", "",
        "s3://BUCKET/PREFIX of an S3-compatible store where the node's blobs are, the disk being "
        "their cache; empty: on the disk only"},
       text(&Config::store_s3)},
      {{"store.s3_endpoint", "--store-s3-endpoint", "MAYFLY_STORE_S3_ENDPOINT", "",
        "the store's http(s)://HOST[:PORT]; empty: Amazon's of the region"},
       text(&Config::store_s3_endpoint)},
      {{"store.s3_region", "--store-s3-region", "MAYFLY_STORE_S3_REGION", "us-east-1",
        "the bucket's region, which signatures name"},
       text(&Config::store_s3_region)},
      {{"store.s3_addressing", "--store-s3-addressing", "MAYFLY_STORE_S3_ADDRESSING", "path",
        "where the bucket stands: path: https://HOST/BUCKET; virtual: https://BUCKET.HOST"},
       choice(&Config::store_s3_addressing,
              {{"path", S3Addressing::Path}, {"virtual", S3Addressing::Virtual}})},
      {{"store.s3_credentials", "--store-s3-credentials", "MAYFLY_STORE_S3_CREDENTIALS", "",
        "a file in the form of ~/.aws/credentials, read for each request; empty: "
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"},
       path(&Config::store_s3_credentials)},
      {{"store.s3_ca", "--store-s3-ca", "MAYFLY_STORE_S3_CA", "",
        "a PEM file with authorities that the store's certificate is trusted by besides the "
        "system's"},
       path(&Config::store_s3_ca)},
      {{"store.cache", "--store-cache", "MAYFLY_STORE_CACHE", "20GiB",
        "disk for the blobs of versions that are in store.s3, and as much again for the files of "
        "jobs; the least recently used go first"},
       size(&Config::store_cache)},
  };
}

std::vector<Entry> other_settings() {
  return {
      {{"sandbox.isolation_level", "--isolation-level", "MAYFLY_ISOLATION_LEVEL", "best",
        "best: serve with the layers this machine has; strict: refuse when one is missing"},
       choice(&Config::isolation_level,
              {{"best", IsolationLevel::Best}, {"strict", IsolationLevel::Strict}})},
      {{"sandbox.memory", "--memory", "MAYFLY_MEMORY", "0",
        "memory for instances and templates; 0: three quarters of the machine's"},
       size(&Config::memory)},
      {{"sandbox.cpus", "--cpus", "MAYFLY_CPUS", "0",
        "CPUs that predictions may use at once; 0: the machine's"},
       number(&Config::cpus)},
      {{"python.index_url", "--index-url", "MAYFLY_INDEX_URL", "",
        "where packages of Python functions are looked up; empty: as pip is configured here; off: "
        "only wheels in their folders"},
       text(&Config::index_url)},
      {{"python.index_hosts", "--index-hosts", "MAYFLY_INDEX_HOSTS", "",
        "hosts besides the index's own that files may be fetched from, comma-separated: "
        "files.example.org or files.example.org:8443"},
       list(&Config::index_hosts)},
      {{"python.environment_templates", "--environment-templates", "MAYFLY_ENVIRONMENT_TEMPLATES",
        "kept",
        "kept: a process with the packages of each environment in use imported waits for the next "
        "function that needs it; none: cold starts import them"},
       choice(&Config::environment_templates,
              {{"kept", EnvironmentPolicy::Kept}, {"none", EnvironmentPolicy::None}})},
      {{"client_shm.uid", "--client-shm-uid", "MAYFLY_CLIENT_SHM_UID", "",
        "the numeric user whose POSIX shared-memory segments (/mayfly.PROJECT.NAME) requests may "
        "name; empty: nobody's"},
       user(&Config::client_shm_uid)},
      {{"ledger.sync", "--ledger-sync", "MAYFLY_LEDGER_SYNC", "interval",
        "interval: records are on the disk within 100 ms; always: before each reply"},
       choice(&Config::ledger_sync,
              {{"interval", LedgerSync::Interval}, {"always", LedgerSync::Always}})},
      {{"ledger.keep", "--ledger-keep", "MAYFLY_LEDGER_KEEP", "2160h",
        "records older than this are folded into hourly totals, as in 720h"},
       duration(&Config::ledger_keep)},
      {{"ledger.max", "--ledger-max", "MAYFLY_LEDGER_MAX", "10GiB",
        "records beyond this size are folded, oldest first"},
       size(&Config::ledger_max)},
      {{"trace.endpoint", "--trace-endpoint", "MAYFLY_TRACE_ENDPOINT", "",
        "an OpenTelemetry collector that gets the spans of predictions over OTLP/HTTP: "
        "http://127.0.0.1:4318; empty: nothing is recorded"},
       text(&Config::trace_endpoint)},
      {{"trace.sample", "--trace-sample", "MAYFLY_TRACE_SAMPLE", "1",
        "how much is recorded of what comes without a traceparent, which decides for itself: 0 to "
        "1"},
       ratio(&Config::trace_sample)},
      {{"events.concurrency", "--events-concurrency", "MAYFLY_EVENTS_CONCURRENCY", "4",
        "events (Prefer: respond-async) that run at the same time, as guests of the requests that "
        "somebody waits for"},
       number(&Config::event_concurrency, 1)},
      {{"egress.allow", "--egress-allow", "MAYFLY_EGRESS_ALLOW", "",
        "where webhooks may go besides https on the internet, comma-separated: 10.0.0.0/8, "
        "127.0.0.1:9000, hooks.internal:8080; plain http goes nowhere else"},
       list(&Config::egress_allow)},
      {{"egress.ca", "--egress-ca", "MAYFLY_EGRESS_CA", "",
        "a PEM file with authorities whose certificates webhooks trust besides the system's"},
       [](Config& config, const std::string& value) -> Status {
         config.egress_ca = value;
         return {};
       }},
      {{"jobs.cpus", "--jobs-cpus", "MAYFLY_JOBS_CPUS", "0",
        "cores that all jobs together may keep busy, as guests of requests; 0: every core"},
       number(&Config::job_cpus, 0)},
      {{"jobs.memory", "--jobs-memory", "MAYFLY_JOBS_MEMORY", "0",
        "memory of all jobs together; 0: a quarter of the machine's"},
       size(&Config::job_memory)},
      {{"jobs.slice_seconds", "--jobs-slice-seconds", "MAYFLY_JOBS_SLICE_SECONDS", "30",
        "a job that has run for so long stops at its next checkpoint, and another's turn comes; "
        "while no other waits, one that keeps checkpoints goes on, up to four times as long"},
       number(&Config::job_slice_seconds, 1)},
      {{"log.level", "--log-level", "MAYFLY_LOG_LEVEL", "info", "debug, info, warn or error"},
       choice(&Config::log_level, {{"debug", LogLevel::debug},
                                   {"info", LogLevel::info},
                                   {"warn", LogLevel::warn},
                                   {"error", LogLevel::error}})},
      {{"log.format", "--log-format", "MAYFLY_LOG_FORMAT", "text", "text or json"},
       choice(&Config::log_format, {{"text", LogFormat::Text}, {"json", LogFormat::Json}})},
  };
}

const std::vector<Entry>& entries() {
  static const std::vector<Entry> table = [] {
    std::vector<Entry> all = server_settings();
    std::ranges::move(limit_settings(), std::back_inserter(all));
    std::ranges::move(store_settings(), std::back_inserter(all));
    std::ranges::move(other_settings(), std::back_inserter(all));
    return all;
  }();
  return table;
}

const Entry* find_entry(std::string_view key) {
  const auto found =
      std::ranges::find_if(entries(), [&](const Entry& entry) { return entry.key.key == key; });
  return found == entries().end() ? nullptr : &*found;
}

Result<std::string> toml_text(const toml::node& node) {
  if (const auto* value = node.as_string()) return value->get();
  if (const auto* value = node.as_integer()) return std::to_string(value->get());
  if (const auto* value = node.as_boolean()) return std::string(value->get() ? "true" : "false");
  if (const auto* items = node.as_array()) {
    std::string text;
    for (const toml::node& item : *items) {
      if (!item.is_string()) return refuse(reason::kInvalidSetting, "a list must hold texts");
      text += (text.empty() ? "" : ",") + item.as_string()->get();
    }
    return text;
  }
  return refuse(reason::kInvalidSetting,
                "must be a text, a whole number, true or false, or a list of texts");
}

Status read_section(const Path& path, std::string_view section, const toml::table& table,
                    ConfigValues& values) {
  for (const auto& [name, node] : table) {
    const std::string key = fmt::format("{}.{}", section, name.str());
    const auto where = fmt::format("{}:{}: {}", path.native(), node.source().begin.line, key);
    if (section != "prices" && find_entry(key) == nullptr) {
      return refuse(reason::kInvalidSetting,
                    where + ": unknown setting; `mayfly serve --help` lists them");
    }
    auto text = toml_text(node);
    if (!text) return std::unexpected(std::move(text).error().in(where));
    values[key] = *std::move(text);
  }
  return {};
}

Path home_folder() {
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') return home;
  const passwd* user = ::getpwuid(::getuid());
  return user != nullptr ? Path(user->pw_dir) : Path("/");
}

Path xdg_folder(const char* variable, const char* fallback) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value == '/' ? Path(value) : home_folder() / fallback;
}

}  // namespace

std::vector<ConfigKey> config_keys() {
  std::vector<ConfigKey> keys;
  for (const Entry& entry : entries()) keys.push_back(entry.key);
  return keys;
}

Result<ConfigValues> read_config_file(const Path& path) {
  const std::string text = TRY(read_file(path));
  return parse_config(text, path);
}

Result<ConfigValues> parse_config(std::string_view text, const Path& path) {
  ConfigValues values;
  try {
    const toml::table root = toml::parse(text, path.native());
    for (const auto& [section, node] : root) {
      const toml::table* table = node.as_table();
      if (table == nullptr) {
        return refuse(reason::kInvalidSetting,
                      fmt::format("{}:{}: '{}' must stand in a section such as [server]",
                                  path.native(), node.source().begin.line, section.str()));
      }
      TRY(read_section(path, section.str(), *table, values));
    }
  } catch (const toml::parse_error& e) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("{}:{}: {}", path.native(), e.source().begin.line, e.description()));
  }
  return values;
}

ConfigValues read_config_environment() {
  ConfigValues values;
  for (const Entry& entry : entries()) {
    const char* value = std::getenv(std::string(entry.key.environment).c_str());
    if (value != nullptr) values.emplace(entry.key.key, value);
  }
  return values;
}

namespace {

// Where the other door is closed to other users, gRPC's is not opened beside it.
void settle_grpc(Config& config, const std::vector<ConfigValues>& sources) {
  const auto sets_grpc = [](const ConfigValues& source) {
    return source.contains("server.grpc_listen");
  };
  if (config.listen.starts_with("unix:") && std::ranges::none_of(sources, sets_grpc))
    config.grpc_listen = "off";
}

}  // namespace

Result<Config> make_config(const std::vector<ConfigValues>& sources) {
  Config config;
  config.data = default_data_folder();
  for (const Entry& entry : entries()) {
    for (const ConfigValues& source : sources) {
      const auto found = source.find(entry.key.key);
      if (found == source.end()) continue;
      auto set = entry.set(config, found->second);
      if (!set) return std::unexpected(std::move(set).error().in(entry.key.key));
      break;
    }
  }
  settle_grpc(config, sources);
  for (auto source = sources.rbegin(); source != sources.rend(); ++source) {
    for (const auto& [key, value] : *source) {
      if (key.starts_with("prices.")) config.prices[key.substr(7)] = value;
    }
  }
  if (config.data.empty() || !config.data.is_absolute())
    config.data = std::filesystem::absolute(config.data);
  return config;
}

Path default_data_folder() { return xdg_folder("XDG_DATA_HOME", ".local/share") / "mayfly"; }

Result<ConfigValues> read_config_files(const std::string& named) {
  const char* variable = std::getenv("MAYFLY_CONFIG");
  if (!named.empty()) return read_config_file(named);
  if (variable != nullptr && *variable != '\0') return read_config_file(variable);
  for (const Path& path : {xdg_folder("XDG_CONFIG_HOME", ".config") / "mayfly/mayfly.toml",
                           Path("/etc/mayfly/mayfly.toml")}) {
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored)) return read_config_file(path);
  }
  return ConfigValues{};
}

}  // namespace mayfly
