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

void write_error(RequestSpan memory, const Error& error, std::string_view traceback = {}) {
  write_reply_error(memory, status_of(error.reason), error.message, traceback);
}

}  // namespace

std::uint64_t RequestServer::serve(RequestSpan memory) {
  streaming_ = false;
  auto request = read_request(memory);
  if (!request) {
    write_error(memory, request.error());
    return 0;
  }
  if (const Status decoded = decode_images(*request); !decoded) {
    write_error(memory, decoded.error());
    return 0;
  }
  return write(memory, backend_.run(*request, memory, outputs_offset(memory)));
}

std::uint64_t RequestServer::next(RequestSpan memory) {
  return write(memory, backend_.next_chunk());
}

void RequestServer::close(RequestSpan memory) {
  backend_.close_stream();
  streaming_ = false;
  write_reply_end(memory);
}

void RequestServer::give_up(RequestSpan memory, std::string_view why) {
  complain(memory, {.code = Code::Internal, .message = std::string(why)});
}

// Of a stream it is the end.
void RequestServer::complain(RequestSpan memory, const Error& error) {
  if (std::exchange(streaming_, false)) backend_.close_stream();
  write_error(memory, error);
}

std::uint64_t RequestServer::write(RequestSpan memory, Result<const RunResults*> results) {
  streaming_ = false;
  if (!results) {
    write_error(memory, results.error(), backend_.take_traceback());
    return 0;
  }
  results_ = *results;
  if (results_ == nullptr) {
    write_reply_end(memory);
    return 0;
  }
  streaming_ = backend_.streams();
  const std::uint64_t begin = outputs_offset(memory);
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
  if (placement.offsets.size() != results_->plans.size())
    return give_up(slots, "the region for the outputs is too small");
  copy_to(slots, outputs, placement);
}

void RequestServer::copy_to(RequestSpan slots, RequestSpan target,
                            const OutputPlacement& placement) {
  if (const Status copied = backend_.copy_results(placement, target); !copied) {
    return complain(slots, copied.error());
  }
  write_reply_slots(slots, results_->plans, placement);
}

void warm_up(Backend& backend, RequestSpan memory) {
  RequestServer server(backend);
  server.serve(memory);
  for (int i = 1; i < kTrialChunks && server.is_streaming(); ++i) server.next(memory);
  if (server.is_streaming()) server.close(memory);
  server.release();
}

}  // namespace mayfly
