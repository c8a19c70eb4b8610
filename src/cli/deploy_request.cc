#include "cli/deploy_request.h"

#include <fmt/format.h>

#include <utility>

#include "cli/figures.h"
#include "cli/table.h"

namespace mayfly {
namespace {

void print_published(const CliJson& result) {
  const std::string function = result.value("function", "");
  const int version = result.value("version", 0);
  const int percent = result.value("traffic", 100);
  if (result.value("rollout", false)) {
    fmt::print("{0}@{1} is being rolled out; mayfly rollout {0} shows how it fares\n", function,
               version);
  } else if (percent == 100) {
    fmt::print("{}@{} is serving\n", function, version);
  } else if (percent > 0) {
    fmt::print("{}@{} is serving {} % of the requests\n", function, version, percent);
  } else {
    fmt::print("{0}@{1} gets no requests but its own; mayfly traffic {0} {1}=100 gives it all\n",
               function, version);
  }
  const CliJson measured = result.value("measured", CliJson::object());
  Table table({"form", "load", "warm run", "private", "artifact"});
  table.add({measured.value("form", "?"), micros_cell(measured, "load_us"),
             micros_cell(measured, "run_us"), bytes_cell(measured, "private_bytes"),
             bytes_cell(measured, "artifact_bytes")});
  fmt::print("{}", table.str());
  for (const auto& [key, notes] : result.items()) {
    if (key != "notes") continue;
    for (const CliJson& note : notes) fmt::print("note: {}\n", note.get<std::string>());
  }
}

}  // namespace

Status send_deploy(DeployRequest request, const CliContext& context) {
  NodeClient node = context.node();
  ProgressLine progress;
  CliJson files = CliJson::array();
  for (LocalFile& file : request.files) {
    file.sha256 = TRY(digest_of(file, progress));
    TRY(upload_blob(node, file, progress));
    files.push_back({{"path", file.path}, {"sha256", file.sha256}, {"size", file.size}});
  }
  request.body["files"] = std::move(files);

  CliJson result;
  TRY(node.stream("POST", fmt::format("/api/v1/functions/{}/versions", request.function),
                  request.body, [&](const CliJson& line) {
                    if (line.contains("step"))
                      progress.show(fmt::format("publishing: {}", line.value("step", "")));
                    if (line.contains("result")) result = line["result"];
                  }));
  progress.clear();
  if (result.is_null())
    return fail(Code::Unavailable, "the node ended the deploy without a result; see its log");
  if (context.json) {
    print_json(result);
  } else {
    print_published(result);
  }
  return {};
}

}  // namespace mayfly
