// The server's side against processes that do harm: crashes, floods, lies, deaths at every point.
#include "sandbox/process_spawner.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/reason.h"
#include "sandbox/process_handle.h"
#include "sandbox/testing/played.h"
#include "sandbox/testing/spawner_rig.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("an instance that ends tells how, and harms no other") {
  Played play;
  play.require_ready();
  const auto neighbour = play.rig.fork(*play.model);
  CHECK(play.ask(*neighbour, "echo") == "echo");
  struct Case {
    std::string act;
    int code;
    int signal;
  };
  for (const Case& c : {Case{"c", 0, SIGSEGV}, Case{"x", 3, 0}}) {
    const auto instance = play.rig.fork(*play.model);
    instance->handle->run(bytes_request(c.act));
    const Exit exit = play.end_of(*instance);
    CHECK(exit.code == c.code);
    CHECK(exit.signal == c.signal);
    CHECK_FALSE(exit.oom);
    CHECK(instance->replies.empty());
  }
  const auto aborting = play.rig.fork(*play.model);
  aborting->handle->run(bytes_request("a"));
  CHECK(play.end_of(*aborting).signal != 0);
  CHECK(play.ask(*neighbour, "echo") == "echo");
}

TEST_CASE("an instance that ended before its template spoke of it tells how, too") {
  Played play("late");
  play.require_ready();
  const auto first = play.rig.fork(*play.model);
  first->handle->run(bytes_request("X"));
  // blank, init, template: the instance has been reaped.
  REQUIRE(play.rig.wait([&] { return !play.rig.log().empty() && descendants().size() == 3; }));
  const auto second = play.rig.fork(*play.model);
  CHECK(play.end_of(*first).code == 3);
}

TEST_CASE("an instance that its template keeps to itself answers nothing, and ends with its jail") {
  Played play("late");
  play.require_ready();
  const auto first = play.rig.fork(*play.model);
  first->handle->run(bytes_request("l"));
  // It has worked, but whose CPU time that was is not known.
  REQUIRE(play.rig.wait([&] { return play.rig.log().size() >= 2; }));
  CHECK(first->handle->collect().empty());
  CHECK_FALSE(first->started);
  const auto second = play.rig.fork(*play.model);
  REQUIRE(play.rig.wait([&] { return !first->replies.empty(); }));
  CHECK(bytes_of(*first->replies.front()) == "l");
  CHECK(first->handle->cpu() > Duration{});
  // The second one is not told of: killing it takes the jail.
  second->handle->run(bytes_request("b"));
  second->handle->kill();
  REQUIRE(play.rig.wait([&] { return second->exit.has_value() && first->exit.has_value(); }));
  CHECK(play.rig.wait([&] { return play.rig.spawner().jails() == 0; }));
  CHECK(descendants().size() == 1);  // the blank
}

TEST_CASE("an instance that hangs or spins is ended by kill") {
  Played play;
  play.require_ready();
  for (const char* act : {"h", "b"}) {
    const auto instance = play.rig.fork(*play.model);
    instance->handle->run(bytes_request(act));
    REQUIRE(play.rig.wait([&] { return instance->started; }));
    instance->handle->kill();
    CHECK(play.end_of(*instance).signal == SIGKILL);
  }
  // A handle that goes takes the process with it.
  auto instance = play.rig.fork(*play.model);
  instance->handle->run(bytes_request("b"));
  instance.reset();
  CHECK(play.rig.wait([] { return descendants().size() == 3; }));
}

TEST_CASE("an instance over its memory is ended as such, and costs nobody else") {
  Played play("serve", SpawnerRig::Groups::Real);
  play.require_ready();
  if (!play.rig.limits_memory()) {
    MESSAGE("skipped: no memory controller here");
    return;
  }
  const auto neighbour = play.rig.fork(*play.model);
  const auto instance = play.rig.fork(*play.model);
  instance->handle->run(bytes_request("m"));
  const Exit exit = play.end_of(*instance);
  CHECK(exit.oom);
  CHECK(exit.signal == SIGKILL);
  CHECK(instance->handle->peak_memory() > mib(48));
  CHECK(play.ask(*neighbour, "echo") == "echo");
  // The pool's group is used again, its figures at zero.
  const auto next = play.rig.fork(*play.model);
  CHECK(play.ask(*next, "x") == "error ");
  CHECK_FALSE(play.end_of(*next).oom);
}

TEST_CASE("a version that burns every processor it can get leaves a neighbour's answers right") {
  Played play("serve", SpawnerRig::Groups::Real);
  play.require_ready();
  const auto other = play.rig.start(play.script.spec());
  REQUIRE(play.rig.wait([&] { return other->ready.has_value() && other->ready->has_value(); }));
  std::vector<std::shared_ptr<SeenInstance>> burning;
  for (int i = 0; i < 16; ++i) {
    burning.push_back(play.rig.fork(*play.model));
    burning.back()->handle->run(bytes_request("b"));
  }
  for (int i = 0; i < 20; ++i) {
    const auto neighbour = play.rig.fork(*other);
    CHECK(play.ask(*neighbour, "echo") == "echo");
  }
}

TEST_CASE("an evicted template leaves its instances, and its jail goes with the last") {
  for (const char* word : {"serve", "stay"}) {
    Played play(word);
    play.require_ready();
    const auto first = play.rig.fork(*play.model);
    auto second = play.rig.fork(*play.model);  // still being forked
    CHECK(play.ask(*first, "echo") == "echo");
    play.model->handle.reset();
    CHECK(play.ask(*first, "even") == "even");
    CHECK(play.ask(*second, "every") == "every");
    CHECK(play.rig.spawner().jails() == 1);
    second->handle.reset();
    first->handle.reset();
    CHECK(play.rig.wait([&] { return play.rig.spawner().jails() == 0; }));
    CHECK(descendants().size() == 1);  // the blank
  }
}

TEST_CASE("a template that dies before it has forked is told of, and the fork ends") {
  Played play("die");
  play.require_ready();
  const auto instance = play.rig.fork(*play.model);
  REQUIRE(play.rig.wait([&] { return play.model->lost.has_value(); }));
  CHECK(play.model->lost->signal == SIGSEGV);
  REQUIRE(play.rig.wait([&] { return instance->exit.has_value(); }));
  CHECK_FALSE(play.model->handle->fork({}).has_value());
  CHECK(play.rig.wait([&] { return play.rig.spawner().jails() == 0; }));
}

TEST_CASE("the instances of a template that dies go on") {
  Played other;
  other.require_ready();
  const auto survivor = other.rig.fork(*other.model);
  CHECK(other.ask(*survivor, "echo") == "echo");
  // The template has handed it over.
  REQUIRE(other.rig.wait([&] { return survivor->handle->cpu() > Duration{}; }));
  const auto family = descendants();  // blank, init, template, instance
  REQUIRE(family.size() == 4);
  ::kill(family.at(2), SIGKILL);
  REQUIRE(other.rig.wait([&] { return other.model->lost.has_value(); }));
  CHECK(other.model->lost->signal == SIGKILL);
  CHECK(other.ask(*survivor, "energy") == "energy");
}

TEST_CASE("a template that cannot start says why") {
  CHECK(Played("fail").model->ready->error().message == "it was told to   fail");
  CHECK(Played("crash").model->ready->error().message ==
        "the template did not start: it was ended by signal 11");
  PlayScript script("hang");
  SpawnerRig rig("scripted_runner");
  TemplateSpec spec = script.spec();
  spec.start_timeout = std::chrono::milliseconds(50);
  const auto model = rig.start(spec);
  REQUIRE(rig.wait([&] { return model->ready.has_value(); }));
  CHECK(model->ready->error().message == "it was not ready within 50ms");
  CHECK(rig.wait([&] { return rig.spawner().jails() == 0; }));
}

TEST_CASE("a template over its memory says so") {
  Played play("hog", SpawnerRig::Groups::Real);
  if (!play.rig.limits_memory()) {
    MESSAGE("skipped: no memory controller here");
    return;
  }
  REQUIRE_FALSE(play.model->ready->has_value());
  CHECK(play.model->ready->error().message == "the template did not start: it ran out of memory");
}

TEST_CASE("a template that lies or babbles costs its own jail only") {
  for (const char* word : {"lie", "babble"}) {
    Played play(word);
    play.require_ready();
    const auto instance = play.rig.fork(*play.model);
    CHECK(
        play.rig.wait([&] { return instance->exit.has_value() && play.model->lost.has_value(); }));
    CHECK(play.rig.wait([&] { return play.rig.spawner().jails() == 0; }));
  }
}

TEST_CASE("the blank is started again, and its end harms no jail") {
  Played play;
  play.require_ready();
  const auto instance = play.rig.fork(*play.model);
  const pid_t blank = play.rig.spawner().blank_pid();
  ::kill(blank, SIGKILL);
  REQUIRE(play.rig.wait([&] { return play.rig.spawner().blank_pid() == 0; }));
  CHECK(play.ask(*instance, "echo") == "echo");
  CHECK(play.ask(*play.rig.fork(*play.model), "eight") == "eight");
  REQUIRE(play.rig.wait([&] { return play.rig.spawner().ready(); }));
  const auto next = play.rig.start(play.script.spec());
  REQUIRE(play.rig.wait([&] { return next->ready.has_value(); }));
  CHECK(next->ready->has_value());
}

TEST_CASE("a jail asked of a blank that dies fails, and does not hang") {
  Played play;
  const auto next = play.rig.start(play.script.spec());
  ::kill(play.rig.spawner().blank_pid(), SIGKILL);
  REQUIRE(play.rig.wait([&] { return next->ready.has_value(); }));
}

TEST_CASE("what a hostile instance sends is refused and ends it") {
  Played play;
  play.require_ready();
  for (const char* act : {"s", "w", "z", "R"}) {
    CAPTURE(act);
    const auto instance = play.rig.fork(*play.model);
    CHECK(play.ask(*instance, act) == "error bad_reply");
    CHECK(play.rig.wait([&] { return instance->exit.has_value(); }));
  }
  // One message too many, after a reply that was good.
  const auto twice = play.rig.fork(*play.model);
  CHECK(play.ask(*twice, "d") == "d");
  CHECK(play.rig.wait([&] { return twice->exit.has_value(); }));
  // A descriptor along with the reply is closed.
  const std::size_t before = open_descriptors();
  const auto giver = play.rig.fork(*play.model);
  CHECK(play.ask(*giver, "f") == "f");
  giver->handle.reset();
  CHECK(play.rig.wait([&] { return open_descriptors() <= before; }));
}

TEST_CASE("an instance that rewrites the region while its reply is read harms its own bytes only") {
  Played play;
  play.require_ready();
  int sound = 0;
  for (int i = 0; i < 30; ++i) {
    const auto instance = play.rig.fork(*play.model);
    const std::string answer = play.ask(*instance, "S");
    sound +=
        answer.size() == 1 || answer == "error bad_reply" || answer == "error model_error" ? 1 : 0;
  }
  CHECK(sound == 30);
}

TEST_CASE("an instance cannot resize its memory") {
  Played play;
  play.require_ready();
  const auto instance = play.rig.fork(*play.model);
  CHECK(play.ask(*instance, "t") == "sealed");
}

TEST_CASE(
    "outputs get room up to the limit; beyond it the request fails and the instance goes on") {
  Played play;
  play.require_ready();
  const auto instance = play.rig.fork(*play.model);
  CHECK(play.ask(*instance, "r1000000") == std::string(1'000'000, 'r'));
  CHECK(play.ask(*instance, "r100000000") == "error too_large");
  CHECK(play.ask(*instance, "echo") == "echo");
}

TEST_CASE("requests of one turn are one burst, each with its own answer") {
  Played play;
  play.require_ready();
  const auto instance = play.rig.fork(*play.model);
  const std::vector<std::string> texts = {"one", "even", "other", "echo"};
  for (const std::string& text : texts) instance->handle->run(bytes_request(text));
  REQUIRE(play.rig.wait([&] { return instance->replies.size() == texts.size(); }));
  for (std::size_t i = 0; i < texts.size(); ++i) {
    REQUIRE(instance->replies[i].has_value());
    CHECK(bytes_of(*instance->replies[i]) == texts[i]);
  }
  CHECK(play.ask(*instance, "even") == "even");
}

TEST_CASE("a burst's crash leaves the replies before it and the requests after it") {
  Played play;
  play.require_ready();
  struct Left {
    std::unique_ptr<Instance> handle;
    Replies replies;
    std::size_t taken_back = 0;
    bool started = false;
    bool ended = false;
  } left;
  // The process's object goes after on_exit: what is left is asked for inside.
  left.handle = play.model->handle
                    ->fork({.on_started = [&left] { left.started = true; },
                            .on_replies = [](Replies) { FAIL("it never rang"); },
                            .on_exit =
                                [&left](Exit) {
                                  left.replies = left.handle->collect();
                                  left.taken_back = left.handle->take_back().size();
                                  left.ended = true;
                                }})
                    .value();
  REQUIRE(play.rig.wait([&] { return left.started; }));
  for (const char* text : {"one", "crash", "even", "echo"}) {
    left.handle->run(bytes_request(text));
  }
  REQUIRE(play.rig.wait([&] { return left.ended; }));
  REQUIRE(left.replies.size() == 1);
  REQUIRE(left.replies[0].has_value());
  CHECK(bytes_of(*left.replies[0]) == "one");
  CHECK(left.taken_back == 2);
}

TEST_CASE("one of a burst may need room for its outputs, or be refused it") {
  Played play;
  play.require_ready();
  const auto instance = play.rig.fork(*play.model);
  for (const char* text : {"one", "r100000", "r100000000", "echo"}) {
    instance->handle->run(bytes_request(text));
  }
  REQUIRE(play.rig.wait([&] { return instance->replies.size() == 4; }));
  const Replies& replies = instance->replies;
  CHECK(bytes_of(replies[0].value()) == "one");
  CHECK(bytes_of(replies[1].value()) == std::string(100'000, 'r'));
  REQUIRE_FALSE(replies[2].has_value());
  CHECK(replies[2].error().reason == "too_large");
  CHECK(bytes_of(replies[3].value()) == "echo");
}

TEST_CASE("a canary of one instance is found by no other, of the same or of another function") {
  Played play;
  play.require_ready();
  const auto planted = play.rig.fork(*play.model);
  CHECK(play.ask(*planted, "K") == "clean");
  CHECK(play.ask(*planted, "k") == "planted");
  CHECK(play.ask(*planted, "K") == "found");  // by itself: the search finds what is there
  const auto beside = play.rig.fork(*play.model);
  CHECK(play.ask(*beside, "K") == "clean");
  planted->handle->kill();
  play.end_of(*planted);
  for (int i = 0; i < 3; ++i) {
    const auto next = play.rig.fork(*play.model);
    CHECK(play.ask(*next, "K") == "clean");
  }
  TemplateSpec other = play.script.spec();
  other.label = "other@1";
  const auto function = play.rig.start(other);
  REQUIRE(play.rig.wait([&] { return function->ready.has_value(); }));
  const auto stranger = play.rig.fork(*function);
  CHECK(play.ask(*stranger, "K") == "clean");
}

TEST_CASE("a large request comes in memory of its own") {
  Played play;
  play.require_ready();
  const auto instance = play.rig.fork(*play.model);
  CHECK(play.ask(*instance, "echo") == "echo");
  const std::string large = "r5" + std::string(kInlineRequest, 'z');
  CHECK(play.ask(*instance, large) == "rrrrr");
  CHECK(play.ask(*instance, "even") == "even");
  CHECK(play.ask(*play.rig.fork(*play.model), large) == "rrrrr");
}

TEST_CASE("a reply that is still being read survives the next request") {
  Played play;
  play.require_ready();
  const auto instance = play.rig.fork(*play.model);
  const auto first = play.rig.ask(*instance, bytes_request("one"));
  const auto second = play.rig.ask(*instance, bytes_request("otter"));
  CHECK(bytes_of(*first) == "one");
  CHECK(bytes_of(*second) == "otter");
}

TEST_CASE("what a jail writes becomes bounded lines; a flood blocks nobody") {
  Played play;
  play.require_ready();
  const auto instance = play.rig.fork(*play.model);
  CHECK(play.ask(*instance, "l") == "l");
  CHECK(play.rig.wait([&] { return play.rig.log().size() >= 2; }));
  CHECK(play.rig.log().at(0) == "script@1: hello");
  CHECK(play.rig.log().at(1) == "script@1: from the   jail");
  CHECK(play.ask(*instance, "L") == "L");
  for (const std::string& line : play.rig.log()) CHECK(line.size() < LogLines::kLongest + 20);
}

TEST_CASE("a jail that could not be finished says why and leaves no process") {
  if (::geteuid() != 0) return;  // only root chooses ids, and so one that cannot be mapped
  const PlayScript script;
  SpawnerRig rig("scripted_runner");
  auto spawner =
      ProcessSpawner::create(
          rig.loop(),
          {.runner = executable_folder() / "scripted_runner", .id_base = UINT32_MAX, .on_log = {}})
          .value();
  std::optional<Result<TemplateReady>> ready;
  const auto model = spawner->start_template(
      script.spec(),
      {.on_ready = [&](Result<TemplateReady> how) { ready = std::move(how); }, .on_lost = {}});
  REQUIRE(model.has_value());
  REQUIRE(rig.wait([&] { return ready.has_value(); }));
  REQUIRE_FALSE(ready->has_value());
  CHECK(ready->error().message.find("uid_map") != std::string::npos);
  CHECK(rig.wait([&] { return spawner->jails() == 0 && descendants().size() == 2; }));
}

TEST_CASE("a job tells its progress and its end, and leaves its result") {
  SpawnerRig rig("scripted_runner", SpawnerRig::Groups::Real);
  const TempDir source = TempDir::create().value();
  const TempDir work = TempDir::create().value();
  std::filesystem::permissions(source.path(), std::filesystem::perms(0755));
  std::ofstream(source.path() / "input") << "bytes";
  std::filesystem::permissions(source.path() / "input", std::filesystem::perms(0644));
  std::vector<std::string> progress;
  std::optional<Result<JobEnd>> end;
  const auto run = [&](std::string request, Duration timeout) {
    progress.clear();
    end.reset();
    JobSpec spec{.label = "job",
                 .source = source.path(),
                 .work = work.path(),
                 .request = std::move(request),
                 .memory = mib(64),
                 .timeout = timeout};
    auto job = rig.spawner().run_job(
        std::move(spec),
        {.on_progress = [&](std::string_view text) { progress.emplace_back(text); },
         .on_end = [&](Result<JobEnd> how) { end = std::move(how); }});
    REQUIRE_MESSAGE(job.has_value(), job.error().message);
    REQUIRE(rig.wait([&] { return end.has_value(); }));
    REQUIRE_MESSAGE(end->has_value(), end->error().message);
    return **end;
  };
  CHECK(run("write", std::chrono::minutes(1)).exit.code == 4);
  CHECK(progress == std::vector<std::string>{"one", "two"});
  CHECK(read_file(work.path() / "result").value() == "bytes");
  CHECK(run("crash", std::chrono::minutes(1)).exit.signal == SIGSEGV);
  CHECK(progress == std::vector<std::string>{"one"});
  CHECK(run("hang", std::chrono::milliseconds(300)).timed_out);
  if (rig.limits_memory()) CHECK(run("hog", std::chrono::minutes(1)).exit.oom);
  CHECK(rig.wait([&] { return rig.spawner().jails() == 0; }));
}

TEST_CASE("a job that babbles without end is killed, and the loop is never kept from others") {
  SpawnerRig rig("scripted_runner");
  const TempDir source = TempDir::create().value();
  const TempDir work = TempDir::create().value();
  std::filesystem::permissions(source.path(), std::filesystem::perms(0755));
  std::size_t messages = 0;
  std::size_t turns = 0;
  std::optional<Result<JobEnd>> end;
  JobSpec spec{.label = "job",
               .source = source.path(),
               .work = work.path(),
               .request = "babble",
               .memory = mib(64),
               .timeout = std::chrono::minutes(1)};
  const auto job = rig.spawner().run_job(
      std::move(spec), {.on_progress = [&](std::string_view) { ++messages; },
                        .on_end = [&](Result<JobEnd> how) { end = std::move(how); }});
  REQUIRE(job.has_value());
  REQUIRE(rig.wait([&] {
    ++turns;
    return end.has_value();
  }));
  REQUIRE_FALSE(end->has_value());
  CHECK(end->error().reason == reason::kPublishFailed);
  CHECK(messages == kMaxJobMessages);
  CHECK(turns > kMaxJobMessages / kControlPerTurn);
}

TEST_CASE("a server killed at once leaves no process") {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  auto pipe = make_pipe().value();
  const pid_t server = ::fork();
  if (server == 0) {
    Played play;
    const auto instance = play.rig.fork(*play.model);
    if (play.ask(*instance, "echo") != "echo") ::_exit(1);
    instance->handle->run(bytes_request("b"));
    const auto family = descendants();
    std::string pids;
    for (const int pid : family) pids += fmt::format("{}\n", pid);
    std::ignore = write_all(pipe.write_end.get(), pids);
    pipe.write_end.reset();
    ::kill(::getpid(), SIGKILL);
  }
  pipe.write_end.reset();
  const std::string pids = read_all_fd(pipe.read_end.get(), 4096).value();
  CHECK(std::ranges::count(pids, '\n') == 4);
  // As a subreaper this process inherits the orphans, so their ends can be awaited.
  int ended = 0;
  while (::waitpid(-1, nullptr, 0) > 0) ++ended;
  CHECK(ended >= 3);  // the server, the blank, jail init; the rest is reaped by init or the kernel
  CHECK(descendants().empty());
  ::prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
}
