// The protocol's model repository on top of functions. Every version that is deployed can be asked
// at once, from zero if need be, so that all are READY: loading one only starts it before the first
// request, unloading ends its processes and leaves it READY. A load that brings files is a deploy.
// Loop thread; what blocks runs on the pool.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/cancel.h"
#include "async/pool.h"
#include "async/task.h"
#include "core/manifest.h"
#include "dispatch/dispatcher.h"
#include "identity/blob_owners.h"
#include "publish/publisher.h"
#include "registry/pins.h"
#include "serving/catalog.h"
#include "serving/metrics.h"
#include "serving/traffic_switch.h"
#include "store/blob_store.h"

namespace mayfly {

class ModelRepository {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Pool& pool;
    BlobStore& blobs;
    BlobOwners& owners;
    Pins& pins;
    Catalog& catalog;
    Dispatcher& dispatcher;
    TrafficSwitch& traffic;
    const QuotaGate& quotas;
    Publisher& publisher;
    Metrics& metrics;
  };
  struct Model {
    std::string name;
    VersionNumber version;
  };
  struct LoadedFile {
    std::string path;  // "file:1/model.onnx" as the request has it
    std::string bytes;
  };
  struct Load {
    std::string name;                   // "fraud", "fraud@2"
    std::optional<std::string> config;  // JSON
    std::vector<LoadedFile> files;
    std::string who;  // for the history
    CancelToken cancel{};
  };

  explicit ModelRepository(Parts parts) : parts_(parts) {}

  // All that is deployed, by name and number.
  std::vector<Model> index() const;
  // Ends when the version is started, or the new one deployed and in service. A configuration may
  // say what is so anyway; what else it says is refused by name (unsupported).
  Task<Status> load(Load request);
  // unknown_function, unknown_version.
  Status unload(std::string_view name) const;

 private:
  Task<Status> start(std::string name);
  Task<Status> deploy(Load request, VersionOptions options);
  Task<Result<std::vector<SourceFile>>> store(std::vector<LoadedFile> files, std::string project,
                                              Pin& pin);

  Parts parts_;
};

}  // namespace mayfly
