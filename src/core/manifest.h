// What a version is: everything that changes its answers or its process, fixed at deploy and never
// edited. Stored as canonical JSON (keys in the order of the struct, no white space); its SHA-256
// is the version's digest.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "core/batching.h"
#include "core/function_options.h"
#include "core/tensor.h"

namespace mayfly {

// Instance: an instance serves many requests of one version, one at a time. Request: every
// prediction gets a fresh fork that dies after it, so that no state survives a request.
enum class Isolation : std::uint8_t { Instance = 1, Request = 2 };
std::string_view to_string(Isolation isolation);

// What a deployer may choose: the keys of mayfly.toml and of "options" in the control API.
struct VersionOptions {
  std::string runtime = "onnx";  // or "python"
  std::string model;          // path of the model inside the folder; empty: the only *.onnx there
  FunctionOptions function;   // of runtime "python" only
  std::string example;        // path of example inputs; empty: example.json if it exists
  std::uint32_t threads = 1;  // 1..64
  Bytes memory = mib(512);    // private bytes of one instance; weights are shared and not counted
  Duration timeout = std::chrono::seconds(30);
  Isolation isolation = Isolation::Instance;
  Batching batching;
  bool cache = false;  // equal requests get the reply that was given before
  Bytes publish_memory = gib(2);
  Duration publish_timeout = std::chrono::minutes(10);
};

inline bool is_python(const VersionOptions& options) { return options.runtime == "python"; }

// Unknown keys, wrong types and values out of range are errors that name the key.
Result<VersionOptions> parse_version_options(std::string_view json);

struct ArtifactFile {
  std::string path;    // relative, inside the folder: no "..", no leading "/"
  std::string sha256;  // 64 lower-case hexadecimal digits
  std::uint64_t size = 0;
  bool operator==(const ArtifactFile&) const = default;
};

// "model.onnx", "weights/a.bin": at least one component, none empty, "." or "..", no control
// characters.
Status check_artifact_path(std::string_view path);

// A JSON list of {"path", "sha256", "size"}: at least one, no path twice; sorted by path.
Result<std::vector<ArtifactFile>> parse_artifact_files(std::string_view json);

// The packages of a Python function, as they were installed (publish/environment_store.h).
struct Environment {
  std::string digest;  // of the installed files; empty: there is none
  std::string lock;    // "numpy==2.4.6 --hash=sha256:…" lines, to install the same again
  bool operator==(const Environment&) const = default;
};

struct Manifest {
  VersionOptions options;
  std::vector<ArtifactFile> files;  // sorted by path
  Signature signature;
  // The session is built after the fork: threads > 1, or random operators without a seed. Of a
  // function: its modules and its state do not survive one.
  bool session_after_fork = false;
  // A function without types: requests and replies are JSON, or any bytes, and the signature is
  // document_signature().
  bool documents = false;
  // A function that is a generator: its replies are streams of chunks.
  bool streams = false;
  Environment environment;
};

std::string to_json(const Manifest& manifest);
// Strict: for manifests that come from disk or over the wire.
Result<Manifest> parse_manifest(std::string_view json);

// SHA-256 over the canonical list of files: equal artifacts share their compiled form.
std::string artifact_digest(const std::vector<ArtifactFile>& files);
std::string sha256_hex(std::string_view bytes);

}  // namespace mayfly
