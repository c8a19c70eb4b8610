// What the configuration means on this machine: sizes, limits, and whether it may be so.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/config.h"
#include "app/listen.h"
#include "base/bytes.h"
#include "base/file.h"
#include "base/result.h"
#include "dispatch/dispatcher.h"
#include "gateway/predictions.h"
#include "jobs/job_engine.h"
#include "meter/prices.h"
#include "net/guarded_client.h"
#include "net/http_server.h"
#include "sandbox/doctor.h"
#include "sandbox/process_spawner.h"

namespace mayfly {

Bytes body_memory(const Config& config);  // of the bodies of all predictions
PredictionLimits prediction_limits(const Config& config);
DispatchOptions dispatch_options(const Config& config);
JobEngine::Options job_options(const Config& config);
HttpServerOptions server_options(const Config& config, std::uint32_t connections);
// The owner of the data folder needs no key; the folder and the socket are for nobody else.
HttpServerOptions admin_options();
Result<Prices> prices_of(const Config& config);

// bin/mayfly and bin/mayfly-runner lie side by side, in the build folder as in an installation;
// what Python functions need lies in lib/mayfly/python beside bin, and on this system; what reads
// tables, in lib/mayfly/batch; what learns from them, in lib/mayfly/train; trainers that are Python
// functions, as source, in lib/mayfly/trainers.
Path library_folder();  // lib/mayfly
Result<ProcessSpawnerOptions> spawner_options(const Config& config);

// Raises the limit of descriptors to fit, and returns how many connections fit into it: each takes
// one, and a quarter is left for instances, which take three, and for files.
std::uint32_t fit_descriptors(std::uint32_t connections);

// By which requests leave that users of the node ask for.
Result<std::unique_ptr<GuardedClient>> guarded_client(const Config& config);

// "full", or what is missing, which is logged.
std::string isolation_of(const std::vector<LayerHealth>& layers);
Status check_isolation(const Config& config, const std::vector<LayerHealth>& layers);

// Until the node is closed nobody elsewhere may reach it; then they are told what travels in clear.
Status check_doors(const ListenAddress& listen, const std::optional<ListenAddress>& grpc,
                   bool closed, bool encrypted);

}  // namespace mayfly
