// A runner whose templates, instances and jobs do as they are told, mostly harm: for tests of the
// server's side. The blank and the jail are the real ones. A template reads its part in
// /artifact/script, an instance in the first byte of each request, a job in its request.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>

#include "runner/blank.h"
#include "runner/onnx_runtime.h"
#include "sandbox/call_message.h"
#include "sandbox/channel.h"
#include "sandbox/doorbell.h"
#include "sandbox/jail.h"
#include "sandbox/spawn_protocol.h"

namespace {

using namespace mayfly;

[[noreturn]] void crash() {
  *static_cast<volatile int*>(nullptr) = 1;
  ::_exit(99);
}

[[noreturn]] void hang() {
  while (true) ::poll(nullptr, 0, -1);
}

[[noreturn]] void spin() {
  for (volatile unsigned turns = 0;;) turns = turns + 1;
}

[[noreturn]] void hog() {
  constexpr std::size_t kPiece = 16 << 20;
  while (true) {
    void* piece =
        ::mmap(nullptr, kPiece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (piece == MAP_FAILED) ::_exit(98);
    std::memset(piece, 1, kPiece);
  }
}

// Looked for in memory, and therefore written nowhere but where an instance plants it: the binary
// holds its complement.
std::array<char, 32> canary() {
  static constexpr std::array<unsigned char, 32> kComplement = {
      0x9e, 0x91, 0x9e, 0x8d, 0x86, 0x2d, 0x5b, 0x17, 0xe1, 0x44, 0x0b,
      0x73, 0x3a, 0xc5, 0x68, 0xf2, 0x84, 0x1d, 0xb9, 0x56, 0x27, 0x90,
      0xce, 0x3f, 0x62, 0xab, 0x08, 0xd4, 0x71, 0x9b, 0xe6, 0x15};
  std::array<char, 32> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<char>(~static_cast<unsigned>(kComplement[i]));
  return bytes;
}

void fill_with_canary(std::span<std::byte> memory) {
  const auto word = canary();
  for (std::size_t at = 0; at + word.size() <= memory.size(); at += word.size())
    std::memcpy(memory.data() + at, word.data(), word.size());
}

bool holds_canary(std::span<const std::byte> memory) {
  auto word = canary();
  const bool found = ::memmem(memory.data(), memory.size(), word.data(), word.size()) != nullptr;
  word.fill(0);
  return found;
}

constexpr std::size_t kCanaryBlocks = 64;
constexpr std::size_t kCanaryBlock = 64 * 1024;

class ScriptedInstance {
 public:
  explicit ScriptedInstance(int doorbell) : doorbell_(doorbell) {}

  int run() {
    if (!send_message(doorbell_, {.kind = DoorbellKind::Started})) return 0;
    while (true) {
      auto received = receive_message(doorbell_);
      if (!received || !*received) return 0;
      play(std::move(**received));
    }
  }

 private:
  void play(ReceivedMessage received) {
    if (received.message.kind != DoorbellKind::Run) return;
    message_ = received.message;
    if (message_.use != RegionUse::None) {
      truncated_ = ::ftruncate(received.descriptor.get(), 4096) == 0;
      Region region = Region::attach(std::move(received.descriptor), message_.bytes).value();
      (message_.use == RegionUse::Own ? own_ : once_).emplace(std::move(region));
    }
    region_ = message_.use == RegionUse::Once ? &*once_ : &*own_;
    for (lane_ = 0; lane_ < message_.lanes; ++lane_) {
      memory_ = message_.lanes == 1 ? region_->bytes() : lane(region_->bytes(), lane_);
      if (claim(memory_, Claim::Begun)) act();
    }
    if (std::exchange(done_, false)) ring();
  }

  void act() {
    const auto request = read_request(memory_);
    if (!request) ::_exit(97);
    const auto bytes = request->inputs.at(0).bytes;
    const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    act(text);
  }

  void act(const std::string& text) {
    switch (text[0]) {
      case 'c':
        crash();
      case 'a':
        std::abort();
      case 'x':
        ::_exit(3);
      case 'h':
        hang();
      case 'b':
        spin();
      case 'm':
        hog();
      case 'r':
        return ask_for_room(std::stoull(text.substr(1)));
      case 'X':
        std::ignore = write_all(1, "the end\n");
        ::_exit(3);
      case 'l':
        std::ignore = write_all(1, "hello\nfrom the \x1b jail\n");
        return echo("l");
      case 'L':
        return flood();
      case 't':
        return echo(truncated_ ? "truncated" : "sealed");
      case 'k':
        plant_canary();
        return echo("planted");
      case 'K':
        return echo(finds_canary() ? "found" : "clean");
      default:
        return misbehave(text);
    }
  }

  // A stream: "1", "2", … as many as it is told, unless it is closed; or a lie about one.
  void stream(const std::string& text) {
    const std::size_t count = std::stoull(text.substr(2));
    for (std::size_t i = 1; i <= count; ++i) {
      if (text[1] == 'e') write_reply_error(memory_, ReplyStatus::FunctionError, "no chunk");
      if (text[1] == 's') scribble();
      if (text[1] == 'c' || text[1] == 't') write_output(std::to_string(i));
      const DoorbellMessage chunk{.kind = DoorbellKind::Chunk, .sequence = message_.sequence};
      std::ignore = send_message(doorbell_, chunk);
      if (text[1] == 't') continue;  // without waiting
      const auto answer = receive_message(doorbell_);
      if (!answer || !*answer) ::_exit(96);
      if ((*answer)->message.kind == DoorbellKind::Close) break;
    }
    if (text[1] == 'c') write_reply_end(memory_);
    done();
  }

  Region room_for_call(std::uint64_t bytes) {
    std::ignore = send_message(
        doorbell_,
        {.kind = DoorbellKind::NeedCallRegion, .sequence = message_.sequence, .bytes = bytes});
    auto answer = receive_message(doorbell_);
    if (!answer || !*answer || !(*answer)->descriptor) ::_exit(93);
    return Region::attach(std::move((*answer)->descriptor), (*answer)->message.bytes).value();
  }

  // A call, and what became of it; or a lie about one.
  void call(const std::string& text) {
    const DoorbellMessage ring{.kind = DoorbellKind::Call, .sequence = message_.sequence};
    if (text[1] == 'n') {  // without a region
      std::ignore = send_message(doorbell_, ring);
      return;
    }
    Region region = room_for_call(100);
    write_call(region.bytes(), {.kind = CallKind::Tensors, .name = text.substr(2)});
    if (text[1] == 's') std::memset(region.bytes().data(), 0xFF, 64);
    std::ignore = send_message(doorbell_, ring);
    if (text[1] == 't') std::ignore = send_message(doorbell_, ring);  // without waiting
    if (text[1] == 'd') return echo("d");
    auto answer = receive_message(doorbell_);
    if (!answer || !*answer || (*answer)->message.kind != DoorbellKind::CallDone) ::_exit(92);
    if ((*answer)->descriptor) {
      region = Region::attach(std::move((*answer)->descriptor), (*answer)->message.bytes).value();
    }
    const CallMessage got = read_call(region.bytes()).value();
    echo(got.name + " " + std::to_string(got.parts.empty() ? 0 : got.parts[0].bytes.size()));
  }

  void misbehave(const std::string& text) {
    switch (text[0]) {
      case 'C':
        return call(text);
      case 'p':
        return stream(text);
      case 's':
        scribble();
        return done();
      case 'S':
        write_output("S");
        ring();
        while (true) scribble();
      case 'w':
        message_.sequence += 7;
        return done();
      case 'z':
        ::send(doorbell_, "short", 5, MSG_NOSIGNAL);
        return;
      case 'd':
        echo("d");
        return ring();
      case 'R':
        std::ignore = send_message(
            doorbell_,
            {.kind = DoorbellKind::NeedOutputRegion, .sequence = message_.sequence, .bytes = 64});
        std::ignore = send_message(
            doorbell_,
            {.kind = DoorbellKind::NeedOutputRegion, .sequence = message_.sequence, .bytes = 64});
        return;
      case 'f':
        write_output("f");
        std::ignore =
            send_message(doorbell_, {.kind = DoorbellKind::Done, .sequence = message_.sequence}, 1);
        return;
      default:
        return echo(text);
    }
  }

  void done() { done_ = true; }  // rings once for all lanes

  void ring() {
    std::ignore =
        send_message(doorbell_, {.kind = DoorbellKind::Done, .sequence = message_.sequence});
  }

  void write_output(const std::string& text) {
    const std::array plans = {OutputPlan{.type = DataType::Uint8,
                                         .shape = {static_cast<std::int64_t>(text.size())},
                                         .bytes = text.size()}};
    const auto placement = place_outputs(plans, outputs_offset(memory_), memory_.size());
    std::memcpy(memory_.data() + placement.offsets.at(0), text.data(), text.size());
    write_reply_slots(memory_, plans, placement);
  }

  void echo(const std::string& text) {
    write_output(text);
    done();
  }

  void flood() {
    const std::string line(100, 'x');
    for (int i = 0; i < 100'000; ++i) std::ignore = ::write(1, line.data(), line.size());
    echo("L");
  }

  // Over the part of its region that this request does not use, and over memory that it gives back.
  void plant_canary() {
    fill_with_canary(region_->bytes().subspan(region_->size() / 2));
    for (std::size_t i = 0; i < kCanaryBlocks; ++i) {
      void* block = std::malloc(kCanaryBlock);
      fill_with_canary({static_cast<std::byte*>(block), kCanaryBlock});
      std::free(block);
    }
    if (const auto file = open_file("/tmp/canary", O_RDWR | O_CREAT, 0600))
      std::ignore = write_all(file->get(), std::string_view(canary().data(), canary().size()));
  }

  bool finds_canary() {
    bool found = holds_canary(region_->bytes()) || ::access("/tmp/canary", F_OK) == 0;
    for (std::size_t i = 0; i < kCanaryBlocks; ++i) {
      void* block = std::malloc(kCanaryBlock);  // kept: the next one is another place
      found |= holds_canary({static_cast<const std::byte*>(block), kCanaryBlock});
    }
    return found;
  }

  // Everything the server will read: counts, offsets, sizes, status, the request's own slots.
  void scribble() {
    std::memset(memory_.data(), 0xFF, sizeof(RegionHeader) + 4 * sizeof(TensorSlot));
  }

  void ask_for_room(std::uint64_t bytes) {
    std::ignore = send_message(doorbell_, {.kind = DoorbellKind::NeedOutputRegion,
                                           .sequence = message_.sequence,
                                           .bytes = bytes,
                                           .lane = lane_});
    auto answer = receive_message(doorbell_);
    if (!answer || !*answer) ::_exit(0);
    if (!(*answer)->descriptor) return done();
    const Region room =
        Region::attach(std::move((*answer)->descriptor), (*answer)->message.bytes).value();
    std::memset(room.bytes().data(), 'r', bytes);
    const std::array plans = {OutputPlan{
        .type = DataType::Uint8, .shape = {static_cast<std::int64_t>(bytes)}, .bytes = bytes}};
    write_reply_slots(memory_, plans, place_outputs(plans, 0, room.size()));
    done();
  }

  int doorbell_;
  DoorbellMessage message_;
  std::optional<Region> own_;
  std::optional<Region> once_;
  Region* region_ = nullptr;
  RequestSpan memory_;  // of the request being played
  std::uint32_t lane_ = 0;
  bool done_ = false;
  bool truncated_ = false;
};

int become_instance(SpawnMessage message, const TemplateTask& task) {
  const int doorbell = message.descriptors.at(0).release();
  std::array<int, 1> group = {-1};
  if (message.descriptors.size() > 1) group[0] = message.descriptors[1].release();
  const std::array keep = {1, 2, doorbell};
  const auto groups = std::span<const int>(group).first(group[0] < 0 ? 0 : 1);
  if (!tighten_instance({.profile = Profile::Instance, .cgroups = groups, .keep = keep},
                        task.filters))
    return 96;
  return ScriptedInstance(doorbell).run();
}

void harm(std::string_view script) {
  if (script == "crash") crash();
  if (script == "hang") hang();
  if (script == "hog") hog();
}

Status tell_forked(std::uint64_t id, pid_t pid, int pidfd) {
  return send_spawn(kControlFd, {.kind = SpawnKind::Forked, .id = id, .pid = pid}, {},
                    std::span(&pidfd, 1));
}

// What "late" tells only when it is asked for the next fork.
struct HeldFork {
  std::uint64_t id;
  JailedProcess process;
};

Status tell_held(std::optional<HeldFork>& held) {
  if (!held) return {};
  const auto told = tell_forked(held->id, held->process.pid, held->process.pidfd.get());
  held.reset();
  return told;
}

int refuse_to_start() {
  std::ignore =
      send_spawn(kControlFd, {.kind = SpawnKind::StartFailed}, "it was told to \x1b fail");
  return 1;
}

int scripted_template(const TemplateTask& task) {
  const std::string script = read_file("/artifact/script").value_or("");
  if (script == "fail") return refuse_to_start();
  harm(script);
  std::ignore = send_spawn(kControlFd, {.kind = SpawnKind::Ready});
  const Fd not_a_process = open_file("/artifact/script", O_RDONLY).value();
  std::optional<HeldFork> held;
  while (true) {
    auto message = receive_spawn(kControlFd);
    if (!message || !*message) break;
    if (script == "die") crash();
    if (script == "babble") std::ignore = ::send(kControlFd, "??", 2, MSG_NOSIGNAL);
    const std::uint64_t id = (*message)->header.id;
    std::ignore = tell_held(held);
    auto instance = clone_instance();
    if (!instance) return 95;
    if (instance->pid == 0) return become_instance(std::move(**message), task);
    const Fd& pidfd = script == "lie" ? not_a_process : instance->pidfd;
    if (script == "late")
      held.emplace(HeldFork{id, *std::move(instance)});
    else
      std::ignore = tell_forked(id, instance->pid, pidfd.get());
  }
  if (script == "stay") hang();
  return 0;
}

int scripted_job(const OnnxRuntime& /*runtime*/, int control, std::string_view request) {
  const auto say = [control](std::string_view text) {
    ::send(control, text.data(), text.size(), MSG_NOSIGNAL);
  };
  say("one");
  if (request == "babble") {
    while (true) say("more");
  }
  harm(request);
  if (request == "write") {
    const Fd file = open_file("/work/result", O_WRONLY | O_CREAT, 0644).value();
    std::ignore = write_all(file.get(), read_file("/source/input").value_or("no input"));
  }
  say("two");
  return 4;
}

}  // namespace

int main() {
  const Path self = std::filesystem::read_symlink("/proc/self/exe");
  const auto runtime = OnnxRuntime::open(self.parent_path());
  const int code =
      runtime
          ? run_blank(
                {.runtime = *runtime, .job = &scripted_job, .serve_template = &scripted_template})
          : 94;
  ::_exit(code);
}
