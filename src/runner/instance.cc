#include "runner/instance.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "core/reason.h"
#include "core/units.h"
#include "runner/call_port.h"
#include "runner/request_server.h"
#include "sandbox/channel.h"
#include "sandbox/doorbell.h"

namespace mayfly {
namespace {

class DoorbellLoop final : public CallPort {
 public:
  DoorbellLoop(int doorbell, Backend& backend) : doorbell_(doorbell), server_(backend) {
    backend.set_call_port(*this);
  }

  Result<CallMessage> call(const CallMessage& message) override {
    const std::uint64_t bytes = call_bytes(message);
    if (!calls_ || bytes > calls_->size()) TRY(ask_for_call_region(bytes));
    if (!calls_ || bytes > calls_->size()) return too_large(bytes);
    write_call(calls_->bytes(), message);
    TRY(send_message(doorbell_, {.kind = DoorbellKind::Call, .sequence = sequence_}));
    ReceivedMessage answer = TRY(wait_for(DoorbellKind::CallDone));
    if (answer.descriptor)
      calls_ = TRY(Region::attach(std::move(answer.descriptor), answer.message.bytes));
    return read_call(calls_->bytes());
  }

  Status run() {
    TRY(send_message(doorbell_, {.kind = DoorbellKind::Started}));
    while (true) {
      ReceivedMessage received = TRY(wait());
      if (received.message.kind == DoorbellKind::Run) TRY(handle(std::move(received)));
    }
  }

 private:
  // Blocks at once. Spinning before it would save the wake-up of a halted processor (about 70 µs
  // across cores, 3 µs on the same one) at the price of the processor that the server needs.
  Result<ReceivedMessage> wait() {
    auto received = TRY(receive_message(doorbell_));
    if (!received) return fail(Code::Internal, "the doorbell does not block");
    return *std::move(received);
  }

  // A stream may be closed at any time.
  Result<ReceivedMessage> wait_for(DoorbellKind kind) {
    ReceivedMessage received = TRY(wait());
    if (received.message.kind == DoorbellKind::Close) {
      closed_ = true;
      received = TRY(wait());
    }
    if (received.message.kind != kind)
      return fail(Code::DataLoss, "something else than what was asked for");
    return received;
  }

  Status ask_for_call_region(std::uint64_t bytes) {
    TRY(send_message(
        doorbell_, {.kind = DoorbellKind::NeedCallRegion, .sequence = sequence_, .bytes = bytes}));
    ReceivedMessage answer = TRY(wait_for(DoorbellKind::CallRegion));
    if (answer.descriptor)
      calls_ = TRY(Region::attach(std::move(answer.descriptor), answer.message.bytes));
    return {};
  }

  static CallMessage too_large(std::uint64_t bytes) {
    const Error error =
        refuse(reason::kTooLarge, fmt::format("the call needs {}, more than limits.max_reply",
                                              to_string(Bytes{bytes})))
            .error();
    return {.kind = CallKind::Failed,
            .status = static_cast<std::uint32_t>(http_status(error)),
            .name = std::string(error.reason),
            .text = error.message};
  }

  Status handle(ReceivedMessage received) {
    const DoorbellMessage burst = received.message;
    sequence_ = burst.sequence;
    std::optional<Region> once;
    if (burst.use != RegionUse::None) {
      Region region = TRY(Region::attach(std::move(received.descriptor), burst.bytes));
      (burst.use == RegionUse::Own ? own_ : once).emplace(std::move(region));
    }
    const Region* region = once ? &*once : own_ ? &*own_ : nullptr;
    if (region == nullptr) return fail(Code::DataLoss, "a request without memory");
    for (std::uint32_t i = 0; i < burst.lanes; ++i) {
      const RequestSpan memory = burst.lanes == 1 ? region->bytes() : lane(region->bytes(), i);
      if (claim(memory, Claim::Begun)) TRY(serve(burst.sequence, i, memory));
    }
    TRY(send_message(doorbell_, {.kind = DoorbellKind::Done, .sequence = burst.sequence}));
    server_.release();
    calls_.reset();
    return {};
  }

  Status serve(std::uint64_t sequence, std::uint32_t index, RequestSpan memory) {
    closed_ = false;
    TRY(deliver(sequence, index, memory, server_.serve(memory)));
    while (server_.is_streaming()) {
      if (!closed_) {
        TRY(send_message(doorbell_, {.kind = DoorbellKind::Chunk, .sequence = sequence}));
        closed_ = TRY(wait()).message.kind != DoorbellKind::GoOn;
      }
      if (closed_) {
        server_.close(memory);
      } else {
        TRY(deliver(sequence, index, memory, server_.next(memory)));
      }
    }
    return {};
  }

  // `room`: what outputs need that have not been written yet.
  Status deliver(std::uint64_t sequence, std::uint32_t index, RequestSpan memory,
                 std::uint64_t room) {
    if (room == 0) return {};
    TRY(send_message(doorbell_, {.kind = DoorbellKind::NeedOutputRegion,
                                 .sequence = sequence,
                                 .bytes = room,
                                 .lane = index}));
    ReceivedMessage answer = TRY(wait_for(DoorbellKind::OutputRegion));
    if (!answer.descriptor) {
      server_.give_up(memory, "there is no room for the reply");
      return {};
    }
    const Region outputs = TRY(Region::attach(std::move(answer.descriptor), answer.message.bytes));
    server_.finish_in(memory, outputs.bytes());
    return {};
  }

  int doorbell_;
  RequestServer server_;
  std::optional<Region> own_;
  std::optional<Region> calls_;  // of the request that runs
  std::uint64_t sequence_ = 0;
  bool closed_ = false;  // nobody wants the rest of the stream
};

}  // namespace

int serve_doorbell(int doorbell, Backend& backend) {
  // It ends only by an error: the server hung up, or the doorbell is not what it should be.
  const Status ended = DoorbellLoop(doorbell, backend).run();
  return ended.error().code == Code::Unavailable ? 0 : 1;
}

}  // namespace mayfly
