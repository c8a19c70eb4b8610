// mayfly import NAME DIR: a folder that was exported, or an MLflow model with an ONNX flavour,
// becomes the next version of a function. What vouches for it is judged by the node.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "cli/deploy_request.h"
#include "cli/mlmodel.h"
#include "cli/verbs.h"
#include "core/names.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr const char* kSignatureFile = "model.sig";
constexpr const char* kReadmeFile = "README.md";
constexpr const char* kManifestFile = "manifest.json";
// What tools for signatures leave out of a folder, at its top.
constexpr std::array<std::string_view, 4> kVersionControl = {".git", ".gitattributes", ".github",
                                                             ".gitignore"};

struct ImportFlags {
  std::string name;
  Path folder;
  Path signature;  // empty: model.sig in the folder, if there is one
  bool unsigned_ok = false;
  int percent = 100;
};

struct ImportFolder {
  std::vector<LocalFile> files;  // that are signed, or would be
  std::optional<LocalFile> signature;
  bool exported = false;
};

// Every file counts: one that nobody signed is not passed over.
void take_file(const ImportFlags& flags, LocalFile file, ImportFolder& folder) {
  if (file.path == kSignatureFile) {
    if (flags.signature.empty()) folder.signature = std::move(file);
  } else if (!folder.exported || file.path != kReadmeFile) {
    folder.files.push_back(std::move(file));
  }
}

bool is_version_control(std::string_view path) {
  return std::ranges::find(kVersionControl, path) != kVersionControl.end();
}

Result<ImportFolder> read_import_folder(const ImportFlags& flags) {
  ImportFolder folder;
  std::error_code error;
  folder.exported = std::filesystem::exists(flags.folder / kManifestFile, error) &&
                    !std::filesystem::exists(flags.folder / kMlmodelFile, error);
  for (auto entry = std::filesystem::recursive_directory_iterator(flags.folder, error);
       !error && entry != std::filesystem::recursive_directory_iterator(); entry.increment(error)) {
    const std::string path = entry->path().lexically_relative(flags.folder).generic_string();
    std::error_code unseen;
    const bool inner = entry->is_directory(unseen) && !entry->is_symlink(unseen);
    const bool passed_over = !folder.exported && is_version_control(path);
    if (inner && passed_over) entry.disable_recursion_pending();
    if (inner || passed_over) continue;
    take_file(flags, TRY(local_file(entry->path(), path)), folder);
  }
  if (error) return std::unexpected(errno_error(flags.folder.native(), error.value()));
  if (!flags.signature.empty()) folder.signature = TRY(local_file(flags.signature, kSignatureFile));
  return folder;
}

// The options of an MLflow model; of an exported folder they stand in its manifest.
Result<CliJson> mlflow_options(const ImportFlags& flags) {
  const Path file = flags.folder / kMlmodelFile;
  auto text = read_file(file, kMaxMlmodel);
  if (!text && text.error().code == Code::NotFound) {
    return refuse(reason::kInvalidManifest,
                  fmt::format("{} is no folder to import: it has neither the manifest.json of "
                              "mayfly export nor the MLmodel of MLflow",
                              flags.folder.native()));
  }
  if (!text) return std::unexpected(std::move(text).error());
  auto model = onnx_model_in(*text);
  if (!model) return std::unexpected(std::move(model).error().in(file.native()));
  return CliJson{{"runtime", "onnx"}, {"model", *model}};
}

Status import_folder(const ImportFlags& flags, const CliContext& context) {
  TRY(FunctionName::parse(flags.name));
  ImportFolder folder = TRY(read_import_folder(flags));
  CliJson imported{{"layout", folder.exported ? "export" : "files"},
                   {"unsigned", flags.unsigned_ok}};
  CliJson body{{"traffic", flags.percent}};
  if (!folder.exported) body["options"] = TRY(mlflow_options(flags));
  if (folder.signature) {
    NodeClient node = context.node();
    ProgressLine progress;
    folder.signature->sha256 = TRY(digest_of(*folder.signature, progress));
    TRY(upload_blob(node, *folder.signature, progress));
    imported["signature"] = folder.signature->sha256;
  }
  body["imported"] = std::move(imported);
  return send_deploy(
      {.function = flags.name, .files = std::move(folder.files), .body = std::move(body)}, context);
}

}  // namespace

void add_import_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand(
      "import", "Make the next version of a function of a folder that comes from elsewhere");
  auto flags = std::make_shared<ImportFlags>();
  verb->add_option("NAME", flags->name, "the function, made if it does not exist")->required();
  verb->add_option("DIR", flags->folder,
                   "of mayfly export, or an MLflow model with an ONNX flavour")
      ->required();
  verb->add_option("--signature", flags->signature, "where it is, if not in DIR as model.sig");
  verb->add_flag("--unsigned", flags->unsigned_ok,
                 "also when nobody whom the project trusts signed it; the version says so");
  CLI::Option* canary = verb->add_option("--canary", flags->percent,
                                         "give the new version this percentage of the requests")
                            ->check(CLI::Range(1, 99));
  verb->add_flag_callback(
          "--no-traffic", [flags] { flags->percent = 0; },
          "publish it without requests: it answers as NAME@VERSION")
      ->excludes(canary);
  verb->callback([flags, &context] { context.outcome = import_folder(*flags, context); });
}

}  // namespace mayfly
