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
  DoorbellLoop(int doorbell, OnnxSession& session) : doorbell_(doorbell), server_(session) {}

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

  // A request that waits for room is given up when another arrives instead of the room.
  Status handle(ReceivedMessage received) {
    while (true) {
      const DoorbellMessage request = received.message;
      std::optional<Region> once;
      if (request.use != RegionUse::None) {
        Region region = TRY(Region::attach(std::move(received.descriptor), request.bytes));
        (request.use == RegionUse::Own ? own_ : once).emplace(std::move(region));
      }
      const Region* region = once ? &*once : own_ ? &*own_ : nullptr;
      if (region == nullptr) return fail(Code::DataLoss, "a request without memory");
      const std::uint64_t room = server_.serve(*region);
      if (room > 0) {
        received = TRY(ask_for_room(request, room));
        if (received.message.kind == DoorbellKind::Run) continue;
        const Region outputs =
            TRY(Region::attach(std::move(received.descriptor), received.message.bytes));
        server_.finish_in(*region, outputs);
      }
      TRY(send_message(doorbell_, {.kind = DoorbellKind::Done, .sequence = request.sequence}));
      server_.release();
      return {};
    }
  }

  Result<ReceivedMessage> ask_for_room(const DoorbellMessage& request, std::uint64_t room) {
    TRY(send_message(
        doorbell_,
        {.kind = DoorbellKind::NeedOutputRegion, .sequence = request.sequence, .bytes = room}));
    return wait();
  }

  int doorbell_;
  RequestServer server_;
  std::optional<Region> own_;
};

}  // namespace

int serve_doorbell(int doorbell, OnnxSession& session) {
  // It ends only by an error: the server hung up, or the doorbell is not what it should be.
  const Status ended = DoorbellLoop(doorbell, session).run();
  return ended.error().code == Code::Unavailable ? 0 : 1;
}

}  // namespace mayfly
