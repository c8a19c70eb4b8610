#include "runner/report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "core/json_reader.h"
#include "core/manifest.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxCandidates = 16;
constexpr std::size_t kMaxNotes = 64;
constexpr std::array<std::string_view, 3> kEntries = {"predict", "run", "train"};
constexpr std::size_t kMaxCompiledFiles = 16;
constexpr std::size_t kMaxText = 8 * 1024;
constexpr std::uint64_t kMaxCount = INT64_MAX;

constexpr std::array kForms = {ModelForm::Onnx, ModelForm::Ort, ModelForm::Python};
constexpr std::array kTrialInputs = {TrialInput::Example, TrialInput::Generated, TrialInput::None};
constexpr std::array kLevels = {Optimise::None, Optimise::Basic, Optimise::Extended, Optimise::All};

std::unexpected<Error> malformed(std::string_view complaint) {
  return refuse(reason::kPublishFailed, fmt::format("publish report: {}", complaint));
}

std::uint64_t count_of(Duration duration) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(duration.count(), 0));
}

template <typename Enum, std::size_t N>
Result<Enum> read_enum(std::string_view what, std::string_view text,
                       const std::array<Enum, N>& choices) {
  for (const Enum choice : choices) {
    if (text == to_string(choice)) return choice;
  }
  return malformed(fmt::format("unknown {} '{}'", what, text.substr(0, 64)));
}

Status check_text(std::string_view what, std::string_view text) {
  if (text.size() <= kMaxText) return {};
  return malformed(fmt::format("{} is longer than {} bytes", what, kMaxText));
}

Result<const Json*> list_of(const Json* json, std::string_view what, std::size_t limit) {
  if (json == nullptr || !json->is_array() || json->size() > limit) {
    return malformed(fmt::format("'{}' must be a list of at most {}", what, limit));
  }
  return json;
}

Result<std::vector<std::string>> read_texts(const Json* json, std::string_view what,
                                            std::size_t limit) {
  std::vector<std::string> texts;
  for (const Json& item : *TRY(list_of(json, what, limit))) {
    if (!item.is_string()) return malformed(fmt::format("'{}' must hold texts", what));
    texts.push_back(item.get<std::string>());
    TRY(check_text(what, texts.back()));
  }
  return texts;
}

// ---- Tensors ------------------------------------------------------------------------------------

Json specs_json(const std::vector<TensorSpec>& specs) {
  Json list = Json::array();
  for (const TensorSpec& spec : specs) {
    list.push_back(
        {{"name", spec.name}, {"datatype", to_string(spec.type)}, {"shape", spec.shape}});
  }
  return list;
}

Result<TensorSpec> read_spec(const Json& json) {
  TensorSpec spec;
  std::string type;
  JsonReader reader(json, "publish report: tensor", reason::kPublishFailed);
  reader.text("name", spec.name).text("datatype", type);
  const Json* shape = reader.value("shape");
  TRY(reader.finish());
  TRY(check_text("a tensor's name", spec.name));
  const auto parsed = parse_data_type(type);
  if (!parsed || spec.name.empty()) return malformed("a tensor lacks its name or datatype");
  spec.type = *parsed;
  for (const Json& dimension : *TRY(list_of(shape, "shape", kMaxRank))) {
    if (!dimension.is_number_integer() || dimension.get<std::int64_t>() < -1) {
      return malformed("a dimension is not a whole number >= -1");
    }
    spec.shape.push_back(dimension.get<std::int64_t>());
  }
  return spec;
}

Result<std::vector<TensorSpec>> read_specs(const Json* json, std::string_view what) {
  std::vector<TensorSpec> specs;
  for (const Json& item : *TRY(list_of(json, what, kMaxTensors))) {
    specs.push_back(TRY(read_spec(item)));
  }
  return specs;
}

// ---- Candidates ---------------------------------------------------------------------------------

Json candidate_json(const Candidate& candidate) {
  return {{"form", to_string(candidate.form)},
          {"prepacking", candidate.prepacking == Prepacking::On},
          {"load_ns", count_of(candidate.load)},
          {"first_run_ns", count_of(candidate.first_run)},
          {"warm_run_ns", count_of(candidate.warm_run)},
          {"private_bytes", candidate.private_bytes.count},
          {"artifact_bytes", candidate.artifact_bytes.count},
          {"skipped", candidate.skipped}};
}

Result<Candidate> read_candidate(const Json& json) {
  Candidate candidate;
  std::string form;
  bool prepacking = false;
  std::uint64_t load = 0;
  std::uint64_t first = 0;
  std::uint64_t warm = 0;
  JsonReader reader(json, "publish report: candidate", reason::kPublishFailed);
  reader.text("form", form)
      .boolean("prepacking", prepacking)
      .integer("load_ns", load, 0, kMaxCount)
      .integer("first_run_ns", first, 0, kMaxCount)
      .integer("warm_run_ns", warm, 0, kMaxCount)
      .integer("private_bytes", candidate.private_bytes.count, 0, kMaxCount)
      .integer("artifact_bytes", candidate.artifact_bytes.count, 0, kMaxCount)
      .text("skipped", candidate.skipped);
  TRY(reader.finish());
  TRY(check_text("a candidate's reason", candidate.skipped));
  candidate.form = TRY(read_enum("form", form, kForms));
  candidate.prepacking = prepacking ? Prepacking::On : Prepacking::Off;
  candidate.load = Duration(load);
  candidate.first_run = Duration(first);
  candidate.warm_run = Duration(warm);
  return candidate;
}

Result<std::vector<Candidate>> read_candidates(const Json* json) {
  std::vector<Candidate> candidates;
  for (const Json& item : *TRY(list_of(json, "candidates", kMaxCandidates))) {
    candidates.push_back(TRY(read_candidate(item)));
  }
  return candidates;
}

// ---- Trial and files ----------------------------------------------------------------------------

Json trial_json(const Trial& trial) {
  return {{"input", to_string(trial.input)},
          {"accepted", trial.accepted},
          {"message", trial.message},
          {"output_bytes", trial.output_bytes}};
}

Result<Trial> read_trial(const Json* json) {
  if (json == nullptr) return malformed("'trial' is missing");
  Trial trial;
  std::string input;
  JsonReader reader(*json, "publish report: trial", reason::kPublishFailed);
  reader.text("input", input)
      .boolean("accepted", trial.accepted)
      .text("message", trial.message)
      .integer("output_bytes", trial.output_bytes, 0, kMaxCount);
  TRY(reader.finish());
  TRY(check_text("the trial's message", trial.message));
  trial.input = TRY(read_enum("kind of trial input", input, kTrialInputs));
  return trial;
}

Json files_json(const std::vector<CompiledFile>& files) {
  Json list = Json::array();
  for (const CompiledFile& file : files) list.push_back({{"path", file.path}, {"size", file.size}});
  return list;
}

Result<std::vector<CompiledFile>> read_files(const Json* json) {
  std::vector<CompiledFile> files;
  for (const Json& item : *TRY(list_of(json, "files", kMaxCompiledFiles))) {
    CompiledFile file;
    JsonReader reader(item, "publish report: file", reason::kPublishFailed);
    reader.text("path", file.path).integer("size", file.size, 0, kMaxCount);
    TRY(reader.finish());
    TRY(check_artifact_path(file.path));
    if (file.path.find('/') != std::string::npos) return malformed("a file lies in a subfolder");
    files.push_back(std::move(file));
  }
  std::ranges::sort(files, {}, &CompiledFile::path);
  if (files.empty() || std::ranges::adjacent_find(files, {}, &CompiledFile::path) != files.end()) {
    return malformed("no files, or a file listed twice");
  }
  return files;
}

// What a function has of what may be called.
Result<std::vector<std::string>> read_entries(const Json& json) {
  std::vector<std::string> entries = TRY(read_texts(&json, "entries", kEntries.size()));
  for (const std::string& entry : entries) {
    if (std::ranges::find(kEntries, entry) == kEntries.end())
      return malformed("'entries' names what nobody calls");
  }
  return entries;
}

// ---- The whole ----------------------------------------------------------------------------------

Json report_json(const Report& report) {
  Json candidates = Json::array();
  for (const Candidate& candidate : report.candidates)
    candidates.push_back(candidate_json(candidate));
  Json json{{"format", 1},
            {"runtime_version", report.runtime_version},
            {"inputs", specs_json(report.signature.inputs)},
            {"outputs", specs_json(report.signature.outputs)},
            {"session_after_fork", report.session_after_fork},
            {"optimisation", to_string(report.optimisation)},
            {"trial", trial_json(report.trial)},
            {"candidates", std::move(candidates)},
            {"chosen", report.chosen},
            {"weight_bytes", report.weight_bytes},
            {"notes", report.notes},
            {"files", files_json(report.files)}};
  if (report.documents) json["documents"] = true;
  if (report.streams) json["streams"] = true;
  if (!report.entries.empty()) json["entries"] = report.entries;
  return json;
}

Result<PublishOutcome> read_report(const Json& json) {
  Report report;
  std::uint32_t format = 0;
  std::string optimisation;
  JsonReader reader(json, "publish report", reason::kPublishFailed);
  reader.integer("format", format, 1U, 1U)
      .text("runtime_version", report.runtime_version)
      .boolean("session_after_fork", report.session_after_fork)
      .boolean("documents", report.documents)
      .boolean("streams", report.streams)
      .text("optimisation", optimisation)
      .integer("chosen", report.chosen, 0U, static_cast<std::uint32_t>(kMaxCandidates))
      .integer("weight_bytes", report.weight_bytes, 0, kMaxCount);
  const Json* inputs = reader.value("inputs");
  const Json* outputs = reader.value("outputs");
  const Json* trial = reader.value("trial");
  const Json* candidates = reader.value("candidates");
  const Json* notes = reader.value("notes");
  const Json* files = reader.value("files");
  const Json* entries = reader.value("entries");
  TRY(reader.finish());
  if (format != 1) return malformed("'format' is missing");
  TRY(check_text("the runtime's version", report.runtime_version));
  report.signature.inputs = TRY(read_specs(inputs, "inputs"));
  report.signature.outputs = TRY(read_specs(outputs, "outputs"));
  report.optimisation = TRY(read_enum("optimisation", optimisation, kLevels));
  report.trial = TRY(read_trial(trial));
  report.candidates = TRY(read_candidates(candidates));
  report.notes = TRY(read_texts(notes, "notes", kMaxNotes));
  report.files = TRY(read_files(files));
  if (entries != nullptr) report.entries = TRY(read_entries(*entries));
  if (report.chosen >= report.candidates.size() ||
      !report.candidates[report.chosen].skipped.empty()) {
    return malformed("the chosen form was not measured");
  }
  return report;
}

Result<PublishOutcome> read_refusal(const Json& json) {
  Refusal refusal;
  JsonReader reader(json, "publish report: refused", reason::kPublishFailed);
  reader.text("reason", refusal.reason).text("message", refusal.message);
  TRY(reader.finish());
  TRY(check_text("the refusal", refusal.message));
  if (find_reason(refusal.reason) == nullptr) return malformed("a refusal of an unknown kind");
  return refusal;
}

}  // namespace

std::string_view to_string(ModelForm form) {
  switch (form) {
    case ModelForm::Onnx:
      return "onnx";
    case ModelForm::Ort:
      return "ort";
    case ModelForm::Python:
      return "python";
  }
  return "onnx";
}

std::string_view to_string(TrialInput input) {
  switch (input) {
    case TrialInput::Example:
      return "example";
    case TrialInput::Generated:
      return "generated";
    case TrialInput::None:
      return "none";
  }
  return "none";
}

std::string_view to_string(Optimise level) {
  switch (level) {
    case Optimise::None:
      return "none";
    case Optimise::Basic:
      return "basic";
    case Optimise::Extended:
      return "extended";
    case Optimise::All:
      return "all";
  }
  return "none";
}

std::string to_json(const PublishOutcome& outcome) {
  // Names come from the model and may be no UTF-8; a replacement character harms no report.
  const auto dump = [](const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  if (const auto* refusal = std::get_if<Refusal>(&outcome)) {
    return dump({{"refused", Json{{"reason", refusal->reason}, {"message", refusal->message}}}});
  }
  return dump(report_json(std::get<Report>(outcome)));
}

Result<PublishOutcome> parse_outcome(std::string_view text) {
  if (text.size() > kMaxReport) return malformed(fmt::format("longer than {} bytes", kMaxReport));
  auto json = parse_json(text, "publish report");
  if (!json) return refuse(reason::kPublishFailed, std::move(json).error().message);
  if (!json->is_object()) return malformed("must be an object");
  if (const auto refused = json->find("refused"); refused != json->end() && json->size() == 1) {
    return read_refusal(*refused);
  }
  return read_report(*json);
}

}  // namespace mayfly
