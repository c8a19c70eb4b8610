#include "runner/request_server.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "core/reason.h"
#include "runner/image/image.h"

namespace mayfly {
namespace {

ReplyStatus status_of(std::string_view reason) {
  if (reason == reason::kInternal || reason.empty()) return ReplyStatus::InternalError;
  if (reason == reason::kFunctionError) return ReplyStatus::FunctionError;
  if (reason == reason::kInvalidInput) return ReplyStatus::InvalidInput;
  return ReplyStatus::ModelError;
}

void write_error(RequestSpan memory, const Error& error) {
  write_reply_error(memory, status_of(error.reason), error.message);
}

}  // namespace

std::uint64_t RequestServer::serve(RequestSpan memory) {
  auto request = read_request(memory);
  if (!request) {
    write_error(memory, request.error());
    return 0;
  }
  if (const Status decoded = decode_images(*request); !decoded) {
    write_error(memory, decoded.error());
    return 0;
  }
  const std::uint64_t begin = outputs_offset(memory);
  const auto results = backend_.run(*request, memory, begin);
  if (!results) {
    write_error(memory, results.error());
    return 0;
  }
  results_ = *results;
  if (results_->in_place) {
    write_reply_slots(memory, results_->plans, *results_->in_place);
    return 0;
  }
  const OutputPlacement placement = place_outputs(results_->plans, begin, memory.size());
  if (placement.offsets.size() != results_->plans.size()) {
    return place_outputs(results_->plans, 0, SIZE_MAX).end;
  }
  copy_to(memory, memory, placement);
  return 0;
}

Status RequestServer::decode_images(RequestView& request) {
  pixels_.clear();
  for (InputView& input : request.inputs) {
    if (input.form != InputForm::EncodedImage) continue;
    const Signature& signature = backend_.signature();
    if (input.index >= signature.inputs.size()) {
      return refuse(reason::kInvalidInput, fmt::format("no input has index {}", input.index));
    }
    const TensorSpec& spec = signature.inputs[input.index];
    const std::optional<ImageInput> target = image_input(spec);
    if (!target) {
      return refuse(reason::kInvalidInput, fmt::format("input '{}' takes no image", spec.name));
    }
    DecodedImage image = TRY(decode_image(input.bytes, *target));
    input.type = spec.type;
    input.shape = std::move(image.shape);
    input.bytes = pixels_.emplace_back(std::move(image.bytes));
  }
  return {};
}

void RequestServer::finish_in(RequestSpan slots, RequestSpan outputs) {
  const OutputPlacement placement = place_outputs(results_->plans, 0, outputs.size());
  if (placement.offsets.size() != results_->plans.size()) {
    write_reply_error(slots, ReplyStatus::InternalError, "the region for the outputs is too small");
    return;
  }
  copy_to(slots, outputs, placement);
}

void RequestServer::copy_to(RequestSpan slots, RequestSpan target,
                            const OutputPlacement& placement) {
  if (const Status copied = backend_.copy_results(placement, target); !copied) {
    write_error(slots, copied.error());
    return;
  }
  write_reply_slots(slots, results_->plans, placement);
}

void warm_up(Backend& backend, RequestSpan memory) {
  RequestServer server(backend);
  server.serve(memory);
  server.release();
}

}  // namespace mayfly
