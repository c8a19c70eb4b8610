// The front door: guards, routes, and answers every exchange. Loop thread.
#pragma once

#include <functional>
#include <string>

#include "async/task.h"
#include "gateway/blob_api.h"
#include "gateway/catalog.h"
#include "gateway/control_api.h"
#include "gateway/guard.h"
#include "gateway/predictions.h"
#include "gateway/protocol_api.h"
#include "net/exchange.h"

namespace mayfly {

class Gateway {
 public:
  struct Parts {  // all outlive me
    Predictions& predictions;
    ControlApi& control;
    ProtocolApi& protocol;
    BlobApi& blobs;
    Catalog& catalog;
    Metrics& metrics;
    std::function<bool()> ready;
  };

  Gateway(Parts parts, GuardPolicy policy) : parts_(std::move(parts)), policy_(std::move(policy)) {}

  Task<void> handle(Exchange& exchange);

 private:
  Task<Result<Response>> answer(Exchange& exchange, const Route& route);
  Task<Result<Response>> model_metadata(const Route& route);
  Task<Result<Response>> model_ready(const Route& route);
  Result<Response> tf_model_status(const Route& route) const;
  Task<Result<Response>> tf_model_metadata(const Route& route);
  Task<void> serve(Exchange& exchange, const Route& route);
  Status check(const RequestHead& head, const RouteResult& found) const;
  Response refusal(const Error& error, const RouteResult& found) const;
  Task<void> answer_preflight(Exchange& exchange, std::string_view origin);

  Parts parts_;
  GuardPolicy policy_;
};

}  // namespace mayfly
