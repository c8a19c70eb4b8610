// One instance, seen from the server: its doorbell, its pidfd, its memory. The jail's template
// group (process_template.h) keeps it until its process is gone; the handle that dispatch holds may
// go earlier. Loop thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "async/loop.h"
#include "async/timer.h"
#include "async/watch.h"
#include "base/fd.h"
#include "sandbox/cgroup.h"
#include "sandbox/channel.h"
#include "sandbox/doorbell.h"
#include "sandbox/process_jail.h"
#include "sandbox/spawner.h"

namespace mayfly {

class InstanceProcess {
 public:
  struct Making {
    std::shared_ptr<const Signature> signature;
    Bytes max_reply;
    std::optional<MemorySlot> slot;
    std::shared_ptr<Region> own;
    Fd doorbell;
  };
  // `jail` outlives my process. `on_gone` is my last act: it may destroy me.
  InstanceProcess(Loop& loop, JailProcess& jail, Making making, InstanceEvents events,
                  std::function<void()> on_gone);
  ~InstanceProcess();
  InstanceProcess(const InstanceProcess&) = delete;
  InstanceProcess& operator=(const InstanceProcess&) = delete;

  void run(RequestMemory request);
  bool may_join(const RequestMemory& request) const;
  Replies collect();
  std::vector<RequestMemory> take_back();
  void go_on();
  void close_stream();
  void answer(PlacedCall answer);
  void kill();
  Duration cpu() const;
  Bytes peak_memory() const;
  // The handle is gone: no event may follow, and the process must end.
  void abandon();

  // The template has not told yet which process this is. Until then nothing that rings is believed:
  // it could be neither metered nor killed.
  bool awaits_fork() const { return !pidfd_; }

  // From the template.
  void handle_forked(pid_t inside, Fd pidfd);
  void handle_never_forked();
  // From jail init.
  void handle_report(const JailExit& report);
  // The jail has ended, so this process has too.
  void handle_jail_end();
  // The template is gone, and a pidfd that has not arrived never will.
  void handle_template_gone();

 private:
  void handle_doorbell();
  void handle_message(ReceivedMessage received);
  void handle_done();
  void handle_need(const DoorbellMessage& message);
  void handle_chunk();
  void handle_midway(const DoorbellMessage& message);
  void handle_need_call(const DoorbellMessage& message);
  void handle_call();
  void violate(std::string_view what);
  void spoil(std::unexpected<Error> why);

  // A request that the instance has, lane by lane.
  struct Held {
    explicit Held(RequestMemory what) : request(std::move(what)) {}
    RequestMemory request;
    RequestSpan memory;            // where it was placed
    std::shared_ptr<Region> room;  // the outputs' own region
    std::optional<Error> refused;  // it was told that there is no room
  };
  void ring();
  Result<Reply> reply_of(Held& held);
  Result<Reply> chunk_of(Held& held) const;
  bool streams() const { return !burst_.empty() && burst_.front().request.streams(); }
  void tell(DoorbellKind kind);
  Result<std::shared_ptr<Region>> make_room(std::uint64_t bytes) const;
  void look_for_start();
  void handle_pidfd();
  void finish();

  Loop& loop_;
  JailProcess& jail_;
  Making making_;
  InstanceEvents events_;
  std::function<void()> on_gone_;
  std::unique_ptr<Watch> doorbell_watch_;
  std::unique_ptr<Watch> pidfd_watch_;
  Timer report_wait_;
  Timer fork_wait_;
  Fd pidfd_;
  pid_t inside_ = 0;        // as the template says: only for matching reports
  pid_t host_ = 0;          // as the kernel says of the pidfd
  mutable Duration cpu_{};  // last seen
  mutable Bytes peak_{};
  std::optional<Exit> exit_;
  bool own_sent_ = false;
  std::vector<Held> burst_;
  std::size_t answered_ = 0;  // of the burst, from the first on
  bool rung_ = false;         // it has been handed over
  bool paused_ = false;       // a stream waits for go_on()
  bool closing_ = false;      // nobody wants the rest of the stream
  // Of the request that it runs: where its calls lie, and whether one waits for its answer.
  std::shared_ptr<Region> call_region_;
  bool calling_ = false;
  TurnEnd ring_;
  std::uint64_t sequence_ = 0;
  bool started_ = false;
  bool abandoned_ = false;
  bool killed_ = false;
  bool violated_ = false;
  bool gone_ = false;
};

}  // namespace mayfly
