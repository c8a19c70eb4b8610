#include "lineage/trained_version.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "core/reason.h"
#include "lineage/json_parts.h"

namespace mayfly {
namespace {

std::unexpected<Error> not_known(VersionNumber version, std::string_view why) {
  return refuse(reason::kConflict, fmt::format("version {} {}", version.value, why));
}

}  // namespace

Result<TrainedVersion> find_trained_version(Registry& registry, const BlobStore& blobs,
                                            const FunctionName& function, VersionNumber version) {
  const auto training = TRY(registry.training(function, version));
  if (!training)
    return not_known(version,
                     "was not trained here, so that nobody knows which rows it learned from");
  const Fd file = TRY(blobs.open(training->record));
  const std::string text = TRY(read_all_fd(file.get(), kMaxTrainingRecord));
  TrainedVersion found{.record = TRY(parse_training_record(text)), .origin = {}};
  auto origin = training->job.empty() ? std::nullopt : origin_of(found.record);
  if (!origin) return not_known(version, "was not trained on data of this node");
  found.origin = *std::move(origin);
  const std::vector<VersionRow> rows = TRY(registry.versions(function));
  const auto row = std::ranges::find(rows, version.value, &VersionRow::number);
  if (row == rows.end()) return refuse(reason::kUnknownVersion, "the version is gone");
  found.run = std::chrono::microseconds(count_at(object_in(row->report), "run_us"));
  const auto manifest = TRY(registry.manifest(row->manifest));
  const auto model = std::ranges::find(manifest->files, kModelFile, &ArtifactFile::path);
  if (model == manifest->files.end()) return not_known(version, "has no model.onnx");
  found.model = parse_digest(model->sha256).value();
  found.size = model->size;
  return found;
}

}  // namespace mayfly
