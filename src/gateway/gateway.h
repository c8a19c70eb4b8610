// The front door: guards, routes, and answers every exchange. Loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "async/task.h"
#include "gateway/blob_api.h"
#include "gateway/callers.h"
#include "gateway/control_api.h"
#include "gateway/dataset_api.h"
#include "gateway/event_api.h"
#include "gateway/guard.h"
#include "gateway/identity_api.h"
#include "gateway/job_api.h"
#include "gateway/lineage_api.h"
#include "gateway/predictions.h"
#include "gateway/protocol_api.h"
#include "gateway/schedule_api.h"
#include "gateway/secret_api.h"
#include "gateway/signing_api.h"
#include "gateway/training_api.h"
#include "gateway/webhook_api.h"
#include "net/exchange.h"
#include "serving/catalog.h"

namespace mayfly {

class Gateway {
 public:
  struct Parts {  // all outlive me
    Predictions& predictions;
    ControlApi& control;
    ProtocolApi& protocol;
    BlobApi& blobs;
    EventApi& events;
    ScheduleApi& schedules;
    JobApi& jobs;
    DatasetApi& datasets;
    TrainingApi& trainings;
    Catalog& catalog;
    Metrics& metrics;
    Callers& callers;
    IdentityApi& identity;
    SecretApi& secrets;
    WebhookApi& webhooks;
    SigningApi& signing;
    LineageApi& lineage;
    std::function<bool()> ready;
  };

  Gateway(Parts parts, GuardPolicy policy) : parts_(std::move(parts)), policy_(std::move(policy)) {}

  // By which of the node's doors an exchange came.
  enum class Door : std::uint8_t { Network, AdminSocket };
  Task<void> handle(Exchange& exchange, Door door = Door::Network);

 private:
  Task<Result<Response>> answer(Exchange& exchange, Route& route);
  Task<Result<Response>> answer_protocol(Exchange& exchange, const Route& route);
  Task<Result<Response>> metrics(Exchange& exchange, const Route& route);
  Task<Result<Response>> model_metadata(const Route& route);
  Task<Result<Response>> model_ready(const Route& route);
  Result<Response> tf_model_status(const Route& route) const;
  Task<Result<Response>> tf_model_metadata(const Route& route);
  Task<void> serve(Exchange& exchange, Route route);
  // What the audit log keeps of it; nothing where it is no action.
  Task<void> note(const Exchange& exchange, const Route& route, std::string subject,
                  const Status& outcome);
  // Whether who began this may go on with it: a key may have ended since, or the node got its
  // first.
  Status may_go_on(const Exchange& exchange, const Route& route) const;
  Task<void> answer_error(Exchange& exchange, const Route& route, Error error);
  Task<void> refuse_exchange(Exchange& exchange, const RouteResult& found, Error error);
  // Sets the route's caller and, for it, what its name means.
  Status admit_caller(const Exchange& exchange, Door door, RouteResult& found);
  Status check(const RequestHead& head, const RouteResult& found) const;
  Response refusal(const Error& error, const RouteResult& found) const;
  Task<void> answer_preflight(Exchange& exchange, std::string_view origin);

  Parts parts_;
  GuardPolicy policy_;
};

}  // namespace mayfly
