#include "runner/instance.h"

#include <sys/random.h>

#include <cstdlib>
#include <optional>
#include <utility>

#include "runner/request_server.h"
#include "sandbox/channel.h"

namespace mayfly {
namespace {

class DoorbellLoop {
 public:
  DoorbellLoop(int doorbell, Backend& backend) : doorbell_(doorbell), server_(backend) {}

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

  Status handle(ReceivedMessage received) {
    const DoorbellMessage burst = received.message;
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
    ReceivedMessage answer = TRY(wait());
    if (answer.message.kind == DoorbellKind::Close) {  // it was under way already
      closed_ = true;
      answer = TRY(wait());
    }
    if (answer.message.kind != DoorbellKind::OutputRegion)
      return fail(Code::DataLoss, "something else than the room that was asked for");
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
  bool closed_ = false;  // nobody wants the rest of the stream
};

}  // namespace

int serve_doorbell(int doorbell, Backend& backend) {
  // It ends only by an error: the server hung up, or the doorbell is not what it should be.
  const Status ended = DoorbellLoop(doorbell, backend).run();
  return ended.error().code == Code::Unavailable ? 0 : 1;
}

}  // namespace mayfly
