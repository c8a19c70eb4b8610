// mayfly dev FOLDER: a node of one's own that serves the folder, and again after each change.
#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/dev_node.h"
#include "cli/folder_watch.h"
#include "cli/verbs.h"
#include "core/names.h"
#include "core/reason.h"
#include "store/digest.h"

namespace mayfly {
namespace {

struct DevFlags {
  std::string folder;
  std::string name;
  std::string listen = "127.0.0.1:8080";
};

Result<std::string> name_of_folder(const DevFlags& flags, const Path& folder) {
  std::string name = flags.name.empty() ? folder.filename().native() : flags.name;
  if (FunctionName::parse(name) && name.find('/') == std::string::npos) return name;
  return refuse(reason::kBadRequest,
                fmt::format("'{}' is no name for a function; say another with --name", name));
}

// The same for the same folder: packages are installed once.
Result<Path> data_of(const Path& folder) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  if ((cache == nullptr || *cache == '\0') && home == nullptr)
    return refuse(reason::kBadRequest, "neither XDG_CACHE_HOME nor HOME says where to keep data");
  const Path base = cache != nullptr && *cache != '\0' ? Path(cache) : Path(home) / ".cache";
  return base / "mayfly" / "dev" / to_string(sha256(folder.native())).substr(0, 16);
}

// The signals that end it, as something to poll.
Result<Fd> ending_signals() {
  sigset_t wanted;
  ::sigemptyset(&wanted);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) ::sigaddset(&wanted, signal);
  if (::sigprocmask(SIG_BLOCK, &wanted, nullptr) != 0) return fail_errno("sigprocmask");
  Fd signals(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return fail_errno("signalfd");
  return signals;
}

// What the function prints, until the node ends.
void follow(const std::string& url, const std::string& name) {
  NodeClient node(url);
  std::ignore = node.stream("GET", fmt::format("{}/logs?follow=true", function_path(name)),
                            CliJson(), [](const CliJson& line) {
                              fmt::print("| {}\n", line.value("text", ""));
                              std::fflush(stdout);
                            });
}

class Developing {
 public:
  Developing(const CliContext& context, DevNode node, std::string name, Path folder)
      : context_(context),
        node_(std::move(node)),
        name_(std::move(name)),
        folder_(std::move(folder)) {
    context_.url = node_.url();
  }

  void publish() {
    const Status deployed = deploy_path(name_, folder_, context_);
    if (!deployed) {
      fmt::print(stderr, "{}: {}\n", name_, deployed.error().message);
      if (served_) fmt::print(stderr, "{}: the version before goes on serving\n", name_);
      return;
    }
    if (!std::exchange(served_, true)) {
      fmt::print("{0}/functions/{1}\nmayfly --url {0} invoke {1} -d '…' asks it; Ctrl-C ends it\n",
                 node_.url(), name_);
      logs_ = std::jthread([url = node_.url(), name = name_] { follow(url, name); });
    }
    std::fflush(stdout);
  }

  Status run(FolderWatch watch, int signals) {
    publish();
    while (TRY(watch.wait(signals)) == FolderWatch::Event::Changed) publish();
    if (node_.ended())
      return refuse(reason::kStartFailed, "the node ended; what it said stands above");
    return {};
  }

 private:
  CliContext context_;
  std::jthread logs_;  // ends with the node, which ends first
  DevNode node_;
  std::string name_;
  Path folder_;
  bool served_ = false;
};

Status develop(const DevFlags& flags, const CliContext& context) {
  std::error_code error;
  const Path folder = std::filesystem::canonical(flags.folder, error);
  if (!error && std::filesystem::is_regular_file(folder, error)) {
    return refuse(reason::kBadRequest,
                  fmt::format("{}: it is a file; name the folder that it is in", flags.folder));
  }
  if (error || !std::filesystem::is_directory(folder, error)) {
    return refuse(reason::kBadRequest,
                  fmt::format("{}: there is no such folder; mayfly init makes one", flags.folder));
  }
  const std::string name = TRY(name_of_folder(flags, folder));
  const Fd signals = TRY(ending_signals());
  FolderWatch watch = TRY(FolderWatch::open(folder));
  const Path data = TRY(data_of(folder));
  DevNode node = TRY(DevNode::start(data, flags.listen));
  // Versions of the last time are of no use; packages are found again.
  std::ignore = NodeClient(node.url()).send("DELETE", function_path(name), CliJson());
  return Developing(context, std::move(node), name, folder).run(std::move(watch), signals.get());
}

}  // namespace

void add_dev_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb =
      app.add_subcommand("dev", "Serve a folder on a node of its own, and again after each change");
  auto flags = std::make_shared<DevFlags>();
  verb->add_option("FOLDER", flags->folder, "a Python function or a model, as for deploy")
      ->required();
  verb->add_option("--name", flags->name, "of the function; the folder's");
  verb->add_option("--listen", flags->listen, "where it serves; 127.0.0.1:8080");
  verb->callback([flags, &context] { context.outcome = develop(*flags, context); });
}

}  // namespace mayfly
