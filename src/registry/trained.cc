// What the registry knows of versions that were trained.
#include <mutex>

#include "registry/registry.h"

namespace mayfly {

Result<std::optional<VersionTraining>> Registry::training(const FunctionName& function,
                                                          VersionNumber version) {
  const std::scoped_lock lock(writer_);
  const FunctionTable::Entry entry = TRY(need(function));
  TRY(snapshot()->resolve({.function = function, .version = version}));
  return db_.training_of(entry->id, version.value);
}

Result<std::optional<VersionNumber>> Registry::version_of_job(const FunctionName& function,
                                                              std::string_view job) {
  const std::scoped_lock lock(writer_);
  const FunctionTable::Entry entry = snapshot()->find(function.str());
  if (!entry) return std::nullopt;
  const std::optional<std::uint32_t> number = TRY(db_.number_of_job(entry->id, job));
  if (!number) return std::nullopt;
  return VersionNumber{*number};
}

Result<std::vector<FunctionVersion>> Registry::trained_on(std::string_view dataset,
                                                          std::uint32_t snapshot) {
  const std::scoped_lock lock(writer_);
  const std::vector<TrainedRow> rows = TRY(db_.trained_on(dataset, snapshot));
  std::vector<FunctionVersion> versions;
  for (const TrainedRow& row : rows)
    versions.push_back({TRY(FunctionName::parse(row.function)), {row.number}});
  return versions;
}

}  // namespace mayfly
