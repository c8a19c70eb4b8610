// How a node is configured. One precedence, for every setting: command-line flag, then environment
// variable (MAYFLY_LISTEN for `listen`), then the TOML file, then the default.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/result.h"
#include "dispatch/environment_slot.h"
#include "meter/ledger.h"
#include "remote/s3_place.h"

namespace mayfly {

enum class IsolationLevel : std::uint8_t { Best, Strict };

struct Config {
  // [server]
  std::string listen = "127.0.0.1:8080";
  // "off", or empty: no gRPC. Off, too, where this is not set and `listen` is a socket file or
  // clients must show a certificate: both are there to keep others out.
  std::string grpc_listen = "127.0.0.1:8081";
  Path data;                       // default: $XDG_DATA_HOME/mayfly or ~/.local/share/mayfly
  std::vector<std::string> hosts;  // Host headers accepted besides loopback
  std::vector<std::string> cors_origins;
  Duration drain_timeout = std::chrono::seconds(30);
  std::string tls_certificate;  // PEM files; without them plain HTTP
  std::string tls_key;
  std::string tls_client_ca;
  // [identity]
  Path issuers;       // whose tokens are taken (identity/token_issuer.h); empty: nobody's
  Path certificates;  // for whom clients' certificates stand (identity/certificate_map.h)
  // [limits]
  Bytes max_header = kib(16);
  Bytes cache = mib(64);     // of replies
  Bytes max_body = mib(64);  // of a prediction, decompressed
  Bytes max_reply = mib(64);
  Bytes body_memory;  // of the bodies of all predictions; 0: a quarter of the machine's
  Bytes max_upload = gib(64);
  std::uint32_t max_connections = 10'000;
  std::uint32_t max_connections_per_address = 0;  // 0: half of max_connections
  Duration header_timeout = std::chrono::seconds(10);
  Duration keep_alive_timeout = std::chrono::seconds(75);
  Duration body_timeout = std::chrono::seconds(30);
  Duration write_timeout = std::chrono::seconds(30);
  Bytes min_rate{256};  // a second
  // [sandbox]
  IsolationLevel isolation_level = IsolationLevel::Best;
  Bytes memory;            // for instances and templates; 0: three quarters of the machine's
  std::uint32_t cpus = 0;  // CPU tokens; 0: the machine's
  // [python]
  std::string index_url;                 // of packages; empty: as pip is configured; "off": none
  std::vector<std::string> index_hosts;  // besides the index's own
  EnvironmentPolicy environment_templates = EnvironmentPolicy::Kept;
  // [store]
  std::string store_s3;  // s3://bucket/prefix; empty: blobs are on this machine's disk
  std::string store_s3_endpoint;
  std::string store_s3_region = "us-east-1";
  S3Addressing store_s3_addressing = S3Addressing::Path;
  Path store_s3_credentials;  // empty: of the environment
  Path store_s3_ca;
  Bytes store_cache = gib(20);
  // [client_shm]
  std::optional<std::uint32_t> client_shm_uid;  // whose shared memory requests may name
  // [ledger]
  LedgerSync ledger_sync = LedgerSync::Interval;
  Duration ledger_keep = std::chrono::hours(24 * 90);
  Bytes ledger_max = gib(10);
  std::map<std::string, std::string> prices;  // [prices]: units of meter/prices.h
  // [store]
  Duration scrub_interval = std::chrono::hours(24);  // 0: never
  Bytes scrub_rate = mib(32);                        // a second; 0: unlimited
  // [trace]
  std::string trace_endpoint;  // of an OTLP/HTTP collector; empty: nothing is recorded
  double trace_sample = 1;     // of the requests whose caller does not decide
  // [events]
  std::uint32_t event_concurrency = 4;  // attempts at a time
  // [egress]
  std::vector<std::string> egress_allow;  // net/egress_policy.h
  Path egress_ca;                         // trusted besides the system's; empty: none
  // [jobs]
  std::uint32_t job_cpus = 0;            // that all jobs together keep busy; 0: every core
  Bytes job_memory;                      // of all jobs together; 0: a quarter of the machine's
  std::uint32_t job_slice_seconds = 30;  // then another job's turn comes
  // [log]
  LogLevel log_level = LogLevel::info;
  LogFormat log_format = LogFormat::Text;
  bool operator==(const Config&) const = default;
};

// Every setting once: its key in the file ("server.listen"), flag and variable follow from the key.
struct ConfigKey {
  std::string_view key;
  std::string_view flag;         // "--listen"
  std::string_view environment;  // "MAYFLY_LISTEN"
  std::string_view fallback;     // the default as it would be written; empty: none, or see help
  std::string_view help;
};
std::vector<ConfigKey> config_keys();

// What was written, by key, as text; lists are comma-separated.
using ConfigValues = std::map<std::string, std::string, std::less<>>;

Result<ConfigValues> read_config_file(const Path& path);
// `path` stands in messages. Unknown keys are errors with line numbers.
Result<ConfigValues> parse_config(std::string_view text, const Path& path);
ConfigValues read_config_environment();
// The first source that names a key wins.
Result<Config> make_config(const std::vector<ConfigValues>& sources);

// --config, then MAYFLY_CONFIG, then $XDG_CONFIG_HOME/mayfly/mayfly.toml if there is one, then
// /etc/mayfly/mayfly.toml if there is one.
// `named` is the flag's value, perhaps empty. A file that was named must be there, a default one
// may be missing.
Result<ConfigValues> read_config_files(const std::string& named);
Path default_data_folder();

}  // namespace mayfly
