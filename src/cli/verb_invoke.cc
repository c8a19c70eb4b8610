// mayfly invoke NAME: predict from JSON on the command line, a file or standard input.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

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
  bool verbose = false;
};

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

Status invoke(const InvokeFlags& flags, const CliContext& context) {
  TRY(parse_model_ref(flags.name));
  const std::string type = content_type_of(flags.file);
  std::string body = TRY(input_of(flags));
  const bool v2 = type == "application/json" && is_v2(body);
  const std::string path = v2 ? fmt::format("/v2/models/{}/infer", flags.name)
                              : fmt::format("/functions/{}", flags.name);
  NodeClient node = context.node();
  const RawReply reply = TRY(node.post_raw(path, std::move(body), {{"Content-Type", type}}));
  fmt::print("{}\n", reply.body);
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
  verb->callback([flags, &context] { context.outcome = invoke(*flags, context); });
}

}  // namespace mayfly
