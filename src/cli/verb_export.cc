// mayfly export NAME DIR: a version as a folder that can be verified and run elsewhere.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "cli/table.h"
#include "cli/verbs.h"
#include "core/manifest.h"
#include "core/names.h"
#include "core/reason.h"
#include "store/digest.h"

namespace mayfly {
namespace {

constexpr std::string_view kInModel = "model/";

struct ExportFlags {
  std::string name;
  Path folder;
};

Status make_export_folder(const Path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return std::unexpected(errno_error(folder.native(), error.value()));
  if (std::filesystem::is_empty(folder, error)) return {};
  return refuse(reason::kInvalidSetting,
                fmt::format("{} is not empty; export writes into a new folder", folder.native()));
}

// The node says what is in the folder; where it lies is checked here.
Result<Path> place_in(const Path& folder, const std::string& path) {
  TRY(check_artifact_path(path));
  Path file = folder / path;
  TRY(make_directories(file.parent_path()));
  return file;
}

Status fetch_export(NodeClient& node, const std::string& version, const CliJson& listed,
                    const Path& folder) {
  const std::string path = listed.value("path", "");
  const Path into = TRY(place_in(folder, path));
  const Fd file = TRY(open_file(into, O_WRONLY | O_CREAT | O_EXCL, 0644));
  Sha256 hash;
  const std::string url =
      fmt::format("{}/file?path={}", version, path_segment(path.substr(kInModel.size())));
  TRY(node.fetch(url, [&](std::string_view piece) {
    hash.update(std::as_bytes(std::span(piece)));
    return write_all(file.get(), piece);
  }));
  if (to_string(hash.digest()) == listed.value("sha256", "")) return {};
  return refuse(
      reason::kDigestMismatch,
      fmt::format("{} did not arrive with the bytes that the version has", into.native()));
}

Status export_version(const ExportFlags& flags, const CliContext& context) {
  const ModelRef ref = TRY(parse_model_ref(flags.name));
  NodeClient node = context.node();
  std::string number;
  if (ref.version) {
    number = std::to_string(ref.version->value);
  } else {
    const CliJson about = TRY(node.get(function_path(flags.name)));
    number = std::to_string(about.value("version", 0));
  }
  const std::string version =
      fmt::format("{}/versions/{}", function_path(ref.function.str()), number);
  const CliJson bundle = TRY(node.get(version + "/export"));
  TRY(make_export_folder(flags.folder));
  ProgressLine progress;
  for (const CliJson& file : bundle["files"]) {
    progress.show(fmt::format("fetching {}", file.value("path", "")));
    TRY(fetch_export(node, version, file, flags.folder));
  }
  for (const auto& [path, text] : bundle["texts"].items()) {
    const Path file = TRY(place_in(flags.folder, path));
    TRY(write_file_durably(file, text.get<std::string>()));
  }
  progress.clear();
  if (context.json) {
    print_json({{"function", bundle.value("function", "")},
                {"version", bundle.value("version", 0)},
                {"key", bundle.value("key", "")},
                {"files", bundle["files"].size()}});
    return {};
  }
  const std::string key = bundle.value("key", "");
  fmt::print("{}@{} is in {}, {}\n", bundle.value("function", ""), bundle.value("version", 0),
             flags.folder.native(),
             key.empty() ? "not signed" : fmt::format("signed with {}", key.substr(0, 16)));
  return {};
}

}  // namespace

void add_export_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("export", "Write a version, signed, into a folder");
  auto flags = std::make_shared<ExportFlags>();
  verb->add_option("NAME", flags->name, "the function, or NAME@VERSION")->required();
  verb->add_option("DIR", flags->folder, "a new folder")->required();
  verb->callback([flags, &context] { context.outcome = export_version(*flags, context); });
}

}  // namespace mayfly
