// Functions that Mayfly brings along, as source: a folder NAME with function.py and options.json
// (core/manifest.h). A project gets one when it first needs it, as its function mayfly.NAME, which
// is published like any other, packages and all, and gets no requests by itself. Another build of
// Mayfly with another source makes the next version. Loop thread.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "async/cancel.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "base/file.h"
#include "identity/blob_owners.h"
#include "publish/publisher.h"
#include "registry/pins.h"
#include "registry/registry.h"
#include "serving/catalog.h"
#include "serving/traffic_switch.h"
#include "store/blob_store.h"

namespace mayfly {

class ShippedFunctions {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Pool& pool;
    Path folder;  // that has one folder a function
    BlobStore& blobs;
    BlobOwners& owners;
    Pins& pins;
    Catalog& catalog;
    Publisher& publisher;
    TrafficSwitch& traffic;
  };
  explicit ShippedFunctions(Parts parts) : parts_(std::move(parts)) {}

  // "mayfly.cnn", as callers of its project know it.
  static std::string name_of(std::string_view shipped);

  // The project's version of the source that lies here; null: it has none yet.
  Task<Result<ServingRef>> find(std::string project, std::string shipped);

  struct Ask {
    std::string project, shipped;
    std::string who;                             // for the history
    std::function<void(std::string_view)> told;  // a step of its publishing, in words
    CancelToken cancel;
  };
  // The same, published first where there is none: by the first who asks, while others wait.
  Task<Result<ServingRef>> provide(Ask ask);

 private:
  struct Source {
    VersionOptions options;
    struct File {
      ArtifactFile file;
      std::string bytes;
    };
    std::vector<File> files;
    Digest artifact;
  };
  Result<Source> read(std::string_view shipped) const;  // blocking
  Result<std::vector<SourceFile>> keep(const Source& source, std::string_view project) const;
  Task<Result<ServingRef>> look(std::string function, Digest artifact);
  Task<Result<ServingRef>> publish(Ask ask, Source source, std::string function);

  Parts parts_;
  std::set<std::string> under_way_;  // functions that are being published
};

}  // namespace mayfly
