// mayfly invoke NAME: predict from JSON on the command line, a file or standard input.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/table.h"
#include "cli/verbs.h"
#include "core/names.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxInput = 1ULL << 30;

struct InvokeFlags {
  std::string name;
  std::string data;
  std::string file;
  std::string key;  // of idempotency
  bool verbose = false;
  bool async = false;
  bool wait = false;
};

// How often it is asked whether an event has ended: at first often.
constexpr std::chrono::milliseconds kFirstLook(20);
constexpr std::chrono::milliseconds kLongestLook(1000);

std::string content_type_of(const std::string& file) {
  if (file.ends_with(".png")) return "image/png";
  if (file.ends_with(".jpg") || file.ends_with(".jpeg")) return "image/jpeg";
  return "application/json";
}

Result<std::string> read_input_file(const std::string& file) {
  return file.empty() || file == "-" ? read_all_fd(0, kMaxInput) : read_file(file, kMaxInput);
}

Result<std::string> input_of(const InvokeFlags& flags) {
  if (flags.data.starts_with('@')) return read_input_file(flags.data.substr(1));
  if (!flags.data.empty()) return flags.data;
  return read_input_file(flags.file);
}

// The protocol's own form ({"inputs":[…]}) goes to the protocol's own path; anything else is plain.
bool is_v2(const std::string& body) {
  const CliJson json = CliJson::parse(body, nullptr, false);
  return json.is_object() && json.contains("inputs") && json["inputs"].is_array() &&
         !json["inputs"].empty() && json["inputs"][0].is_object() &&
         json["inputs"][0].contains("datatype");
}

// Asks until the event has ended.
Result<RawReply> wait_for(NodeClient& node, const std::string& place) {
  const WaitingLine waiting("the event runs");
  for (auto pause = kFirstLook;; pause = std::min(pause * 2, kLongestLook)) {
    RawReply reply = TRY(node.get_raw(place));
    if (reply.status != 202) return reply;
    std::this_thread::sleep_for(pause);
  }
}

Status send_event(const InvokeFlags& flags, const CliContext& context, NodeClient& node,
                  const RawReply& accepted) {
  const CliJson event = CliJson::parse(accepted.body, nullptr, false);
  const auto place = accepted.headers.find("Location");
  if (accepted.status != 202 || event.is_discarded() || !place) {
    return refuse(reason::kUnsupported, "this node answers at once: it knows no events");
  }
  if (flags.wait) {
    const RawReply reply = TRY(wait_for(node, std::string(*place)));
    fmt::print("{}\n", reply.body);
  } else if (context.json) {
    print_json(event);
  } else {
    fmt::print("{}\n", event.value("id", ""));
  }
  return {};
}

Status check_flags(const InvokeFlags& flags) {
  if (flags.async || (!flags.wait && flags.key.empty())) return {};
  return refuse(reason::kBadRequest, "--wait and --key go with --async");
}

Status invoke(const InvokeFlags& flags, const CliContext& context) {
  TRY(check_flags(flags));
  TRY(parse_model_ref(flags.name));
  const std::string type = content_type_of(flags.file);
  std::string body = TRY(input_of(flags));
  const bool v2 = type == "application/json" && is_v2(body);
  const std::string path = v2 ? fmt::format("/v2/models/{}/infer", flags.name)
                              : fmt::format("/functions/{}", flags.name);
  NodeClient node = context.node();
  Headers headers{{"Content-Type", type}};
  if (flags.async) headers.add("Prefer", "respond-async");
  if (!flags.key.empty()) headers.add("Idempotency-Key", flags.key);
  const auto print_chunk = [](std::string_view chunk) {
    fmt::print("{}\n", chunk);
    std::fflush(stdout);
  };
  const auto answered = node.post_events(path, std::move(body), headers, print_chunk);
  if (!answered) {
    fmt::print(stderr, "{}", node.traceback());
    return std::unexpected(answered.error());
  }
  const RawReply& reply = *answered;
  if (flags.async) return send_event(flags, context, node, reply);
  const bool streamed =
      reply.headers.find("Content-Type").value_or("").starts_with("text/event-stream");
  if (!streamed) fmt::print("{}\n", reply.body);
  if (flags.verbose) {
    for (const char* name :
         {"Mayfly-Start", "Mayfly-Version", "Mayfly-Invocation", "Server-Timing"}) {
      if (const auto value = reply.headers.find(name)) fmt::print(stderr, "{}: {}\n", name, *value);
    }
  }
  return {};
}

}  // namespace

void add_invoke_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand(
      "invoke", "Predict: from JSON, a file (also .png, .jpg) or standard input");
  auto flags = std::make_shared<InvokeFlags>();
  verb->add_option("NAME", flags->name, "the function, or NAME@VERSION")->required();
  verb->add_option(
      "-d,--data", flags->data,
      R"(inputs: {"age": [41]} or the v2 form {"inputs": […]}; @FILE reads a file, @- standard input)");
  verb->add_option("-f,--file", flags->file, "read the inputs from a file; - is standard input");
  verb->add_flag("-v,--verbose", flags->verbose,
                 "show start tier, version and timing on standard error");
  verb->add_flag(
      "--async", flags->async,
      "send it as an event: accepted at once, run when the node has room; prints its id");
  verb->add_flag("--wait", flags->wait, "with --async: wait for the reply and print it");
  verb->add_option("--key", flags->key,
                   "with --async: the idempotency key; sent again, it is the same event");
  verb->callback([flags, &context] { context.outcome = invoke(*flags, context); });
}

}  // namespace mayfly
