#include "runner/publish_forms.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/json_reader.h"
#include "core/reason.h"
#include "runner/onnx_session.h"
#include "runner/publish_child.h"
#include "sandbox/channel.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

// Bounded by the whole job's time, which the server watches.
constexpr Duration kLoadLimit = 24h;
constexpr std::size_t kAcceptedWanted = 3;  // of generated inputs
constexpr Bytes kRoom = mib(128);           // beside weights
constexpr Bytes kLargestOrt = mib(512);     // of weights: ORT format pays for small ones only

template <typename Number>
std::string one(std::string_view key, Number value) {
  return Json{{std::string(key), value}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Json> parse_line(const std::string& line) {
  auto json = parse_json(line, "a trial's line");
  if (!json) return refuse(reason::kPublishFailed, std::move(json).error().message);
  return json;
}

std::uint64_t number(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

std::string text(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::span<const std::byte> bytes_of(const std::string& text_bytes) {
  return std::as_bytes(std::span(text_bytes));
}

// What of the heap is resident. ONNX Runtime reserves room for weights that it then maps instead,
// so what was allocated says nothing; and there is no /proc in the jail. With M_MMAP_MAX = 0 all of
// malloc's memory lies between these two addresses, and mincore(2) tells which anonymous pages
// exist.
class ResidentHeap {
 public:
  ResidentHeap() { ::mallopt(M_MMAP_MAX, 0); }

  std::uint64_t bytes() const {
    auto* const top = static_cast<std::byte*>(::sbrk(0));
    const auto end = reinterpret_cast<std::uintptr_t>(top) / kPage * kPage;
    if (end <= begin_) return 0;
    const std::size_t pages = (end - begin_) / kPage;
    // Not from the heap that is being counted.
    void* memory =
        ::mmap(nullptr, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 0;
    auto* present = static_cast<unsigned char*>(memory);
    std::uint64_t count = 0;
    if (::mincore(top - (reinterpret_cast<std::uintptr_t>(top) - begin_), end - begin_, present) ==
        0) {
      count = static_cast<std::uint64_t>(std::count_if(
          present, present + pages, [](unsigned char page) { return (page & 1U) != 0; }));
    }
    ::munmap(memory, pages);
    return count * kPage;
  }

 private:
  static constexpr std::uintptr_t kPage = 4096;
  // What lies below was there before the fork, shared with the parent.
  std::uintptr_t begin_ = (reinterpret_cast<std::uintptr_t>(::sbrk(0)) + kPage - 1) / kPage * kPage;
};

Path expected_file(const PublishContext& context, std::size_t i) {
  return context.scratch / fmt::format("expected-{}", i);
}

// Some of ONNX Runtime's messages begin with the C++ signature of the function that complains.
std::string readable(std::string_view message) {
  const std::size_t open = message.find('(');
  const std::size_t space = message.find("onnxruntime::");
  if (space == std::string_view::npos || open == std::string_view::npos || space > open) {
    return std::string(message);
  }
  int depth = 0;
  for (std::size_t i = open; i < message.size(); ++i) {
    if (message[i] == '(') ++depth;
    if (message[i] == ')' && --depth == 0) {
      const std::size_t rest = message.find_first_not_of(' ', i + 1);
      return std::string(rest == std::string_view::npos ? message : message.substr(rest));
    }
  }
  return std::string(message);
}

// What the arena and the C++ library say when memory is refused.
bool is_out_of_memory(std::string_view message) {
  return message.find("Failed to allocate memory") != std::string_view::npos ||
         message.find("bad_alloc") != std::string_view::npos;
}

// A run within the function's timeout, once the weights are in memory: they may have to come from a
// slow disk first, each time when publish_memory holds less than all of them.
Duration run_limit(const PublishContext& context) {
  constexpr std::uint64_t kSlowDisk = 50'000'000;  // bytes per second
  return context.job.timeout + std::chrono::seconds(context.base.weight_bytes / kSlowDisk);
}

// ---- The original -------------------------------------------------------------------------------

SessionOptions base_options(const PublishContext& context) {
  return {.threads = context.job.threads,
          .prepack = false,
          .optimise = Optimise::None,
          .weights_folder = context.base.weights_folder};
}

// In the child: which inputs it takes, and its answers in files.
Status run_original(const PublishContext& context, const std::vector<TrialTensors>& sets,
                    const ChildSay& say) {
  auto session =
      OnnxSession::open(context.runtime, bytes_of(context.base.bytes), base_options(context));
  if (!session) {
    return refuse(reason::kInvalidModel, fmt::format("ONNX Runtime cannot load it: {}",
                                                     readable(session.error().message)));
  }
  say(one("loaded", true));
  std::size_t accepted = 0;
  for (std::size_t i = 0; i < sets.size() && accepted < kAcceptedWanted; ++i) {
    const auto outputs = run_trial(*session, context.base.graph.signature, sets[i]);
    if (!outputs) {
      const std::string why = readable(outputs.error().message);
      if (is_out_of_memory(why)) {
        return refuse(reason::kPublishFailed, fmt::format("ran out of memory: {}", why));
      }
      say(one("refused", why));
      continue;
    }
    TRY(write_file(expected_file(context, i), encode(*outputs)));
    say(one("accepted", i));
    ++accepted;
  }
  return {};
}

// A crash or a time-out of the first runs is told apart from one of loading by the line between.
Error in_step(Error error, std::string_view doing) {
  if (error.reason != reason::kPublishFailed) return error;
  return std::move(error).in(doing);
}

// Where a run shows what the graph does not declare, or declares otherwise, the run is right.
void complete_signature(Tried& tried, const GraphSignature& graph) {
  for (const TrialTensors& run : tried.outputs) {
    for (const TrialTensor& output : run) {
      TensorSpec& spec = tried.signature.outputs.at(output.index);
      const bool unknown =
          std::ranges::find(graph.rank_unknown, output.index) != graph.rank_unknown.end();
      if (spec.shape.size() != output.shape.size()) {
        if (!unknown) {
          tried.notes.push_back(fmt::format("output '{}' declares the shape {} and has {}",
                                            shown(spec.name), to_string(spec.shape),
                                            to_string(output.shape)));
        }
        spec.shape.assign(output.shape.size(), -1);
        continue;
      }
      for (std::size_t d = 0; d < spec.shape.size(); ++d) {
        if (spec.shape[d] == -1 || spec.shape[d] == output.shape[d]) continue;
        tried.notes.push_back(fmt::format("output '{}' declares the shape {} and has {}",
                                          shown(spec.name), to_string(spec.shape),
                                          to_string(output.shape)));
        spec.shape[d] = -1;
      }
    }
  }
}

Status collect(const PublishContext& context, const std::vector<std::string>& lines,
               std::vector<TrialTensors>& sets, Tried& tried) {
  for (const std::string& line : lines) {
    const Json json = TRY(parse_line(line));
    if (json.contains("refused") && tried.trial.message.empty()) {
      tried.trial.message = text(json, "refused").substr(0, 2000);
    }
    if (!json.contains("accepted")) continue;
    const std::uint64_t i = number(json, "accepted");
    if (i >= sets.size()) return refuse(reason::kPublishFailed, "a trial's line is damaged");
    const std::string file =
        TRY(read_file(expected_file(context, i), kMaxTrialOutput + kMaxExample));
    tried.outputs.push_back(TRY(decode_tensors(file)));
    tried.inputs.push_back(std::move(sets[i]));
  }
  return {};
}

// ---- Forms --------------------------------------------------------------------------------------

Path model_file(ModelForm form) { return form == ModelForm::Ort ? "model.ort" : "model.onnx"; }
constexpr const char* kWeights = "weights.bin";

Status save_optimised(const PublishContext& context, const FormSpec& spec) {
  SessionOptions options = base_options(context);
  options.optimise = spec.level;
  options.save_as = spec.folder / model_file(spec.form);
  if (spec.form == ModelForm::Onnx) options.weights_name = kWeights;
  const auto session = OnnxSession::open(context.runtime, bytes_of(context.base.bytes), options);
  if (!session) return refuse(reason::kPublishFailed, session.error().message);
  return {};
}

// ---- Measuring ----------------------------------------------------------------------------------

struct Start {
  Duration load{};
  Duration first_run{};
};

Duration median(std::vector<Duration> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

// So many requests like `one`, laid behind one another as a batch lays them; `one` where it has no
// rows.
TrialTensors batch_of(const TrialTensors& one, std::int64_t times) {
  TrialTensors batch = one;
  for (TrialTensor& tensor : batch) {
    if (tensor.shape.empty()) return one;
    tensor.shape.front() *= times;
    const std::vector<std::byte> row = tensor.bytes;
    tensor.bytes.reserve(row.size() * static_cast<std::size_t>(times));
    for (std::int64_t i = 1; i < times; ++i)
      tensor.bytes.insert(tensor.bytes.end(), row.begin(), row.end());
  }
  return batch;
}

// How many of the trial's requests make a batch of the job's size.
std::int64_t requests_in_batch(const PublishJob& job, const TrialTensors& one) {
  if (job.batch_rows <= 1 || one.empty() || one.front().shape.empty()) return 1;
  const std::int64_t rows = std::max<std::int64_t>(one.front().shape.front(), 1);
  return std::max<std::int64_t>(std::int64_t{job.batch_rows} / rows, 1);
}

bool batches(const PublishJob& job, const Tried& tried) {
  return !tried.inputs.empty() && requests_in_batch(job, tried.inputs.front()) > 1;
}

// Room where outputs are computed in place, as in an instance's region.
std::vector<std::byte> output_room(const Tried& tried, std::int64_t times) {
  std::size_t bytes = 0;
  for (const TrialTensor& output : tried.outputs.front())
    bytes += output.bytes.size() * static_cast<std::size_t>(times) + kTensorAlignment;
  return std::vector<std::byte>(bytes + kTensorAlignment);
}

// Median of many runs of `times` requests together; nullopt: the model does not take them.
std::optional<Duration> warm_runs(Backend& backend, const Tried& tried, std::int64_t times) {
  constexpr auto kEnough = 300ms;
  constexpr auto kTooLong = 1s;  // for the least
  constexpr std::size_t kLeast = 3;
  constexpr std::size_t kMost = 2000;
  const TrialTensors inputs = batch_of(tried.inputs.front(), times);
  const RequestView request = request_of(inputs, tried.signature);
  std::vector<std::byte> room = output_room(tried, times);
  std::vector<Duration> runs;
  const auto begin = Steady::now();
  const auto taken = [begin] { return Steady::now() - begin; };
  while (taken() < kEnough ? runs.size() < kMost : runs.size() < kLeast && taken() < kTooLong) {
    const auto start = Steady::now();
    if (!backend.run(request, room, 0)) break;
    runs.push_back(Steady::now() - start);
  }
  if (runs.empty()) return std::nullopt;
  return median(std::move(runs));
}

Status check_answers(OnnxSession& session, const Tried& tried) {
  for (std::size_t i = 0; i < tried.inputs.size(); ++i) {
    auto outputs = run_trial(session, tried.signature, tried.inputs[i]);
    if (!outputs) return std::unexpected(std::move(outputs).error());
    TRY(agree(*outputs, tried.outputs[i], tried.signature));
  }
  return {};
}

// Start: the times of a load and a first run. All: answers and warm runs too. Batch: warm runs of
// batches, which may need more memory or time than there is. Memory: nothing but the private bytes,
// because counting them changes how memory is allocated.
enum class Depth : std::uint8_t { Start, All, Batch, Memory };

// In the child.
Status measure(const PublishContext& context, const Tried& tried, const Path& folder, Depth depth,
               const ChildSay& say) {
  const auto begin = Steady::now();
  OnnxSession session = TRY(OnnxSession::load(context.runtime, folder, context.job.threads));
  const auto loaded = Steady::now();
  say(one("load", static_cast<std::uint64_t>((loaded - begin).count())));
  if (tried.inputs.empty()) return {};
  (void)TRY(session.run(request_of(tried.inputs.front(), tried.signature), {}, 0));
  say(one("first", static_cast<std::uint64_t>((Steady::now() - loaded).count())));
  if (depth == Depth::Start) return {};
  // Random models answer differently each time.
  if (!context.base.session_after_fork) TRY(check_answers(session, tried));
  const Duration warm = warm_runs(session, tried, 1).value_or(Duration{});
  say(one("warm", static_cast<std::uint64_t>(warm.count())));
  return {};
}

// In the child.
Status measure_batches(const PublishContext& context, const Tried& tried, const Path& folder,
                       const ChildSay& say) {
  const std::int64_t times = requests_in_batch(context.job, tried.inputs.front());
  OnnxSession session = TRY(OnnxSession::load(context.runtime, folder, context.job.threads));
  if (const auto warm = warm_runs(session, tried, times))
    say(one("warm", static_cast<std::uint64_t>((*warm / times).count())));
  return {};
}

// In the child.
Status measure_memory(const PublishContext& context, const Tried& tried, const Path& folder,
                      const ChildSay& say) {
  const ResidentHeap heap;
  const std::uint64_t before = heap.bytes();
  OnnxSession session = TRY(OnnxSession::load(context.runtime, folder, context.job.threads));
  say(one("loaded", true));
  for (int run = 0; run < 2 && !tried.inputs.empty(); ++run) {
    (void)TRY(session.run(request_of(tried.inputs.front(), tried.signature), {}, 0));
  }
  const std::uint64_t after = heap.bytes();
  say(one("private", after - std::min(after, before)));
  return {};
}

Result<Json> measure_once(const PublishContext& context, const Tried& tried, const Path& folder,
                          Depth depth) {
  const ChildLimits limits{kLoadLimit, 4 * run_limit(context)};
  const auto lines = TRY(run_in_child(limits, [&](const ChildSay& say) {
    if (depth == Depth::Memory) return measure_memory(context, tried, folder, say);
    if (depth == Depth::Batch) return measure_batches(context, tried, folder, say);
    return measure(context, tried, folder, depth, say);
  }));
  Json all = Json::object();
  for (const std::string& line : lines) all.update(TRY(parse_line(line)));
  return all;
}

// More starts for those that are quick to make: their times are the noisiest.
std::size_t starts_for(Duration start) {
  if (start < 100ms) return 5;
  return start < 1s ? 3 : 1;
}

}  // namespace

Result<Tried> try_original(const PublishContext& context,
                           const std::optional<TrialTensors>& example) {
  std::vector<TrialTensors> sets =
      example ? std::vector<TrialTensors>(1, *example) : generate_inputs(context.base.graph);
  const ChildLimits limits{kLoadLimit, run_limit(context)};
  auto lines =
      run_in_child(limits, [&](const ChildSay& say) { return run_original(context, sets, say); });
  if (!lines) {
    return std::unexpected(in_step(std::move(lines).error(), "trying the model"));
  }
  Tried tried{.signature = context.base.graph.signature,
              .trial = {.input = example ? TrialInput::Example : TrialInput::Generated,
                        .accepted = false,
                        .message = {},
                        .output_bytes = 0},
              .inputs = {},
              .outputs = {},
              .notes = {}};
  TRY(collect(context, *lines, sets, tried));
  tried.trial.accepted = !tried.inputs.empty();
  if (example && !tried.trial.accepted) {
    return refuse(reason::kInvalidInput,
                  fmt::format("the model refuses its example: {}", tried.trial.message));
  }
  if (tried.trial.accepted) {
    tried.trial.message.clear();
    for (const TrialTensor& output : tried.outputs.front())
      tried.trial.output_bytes += output.bytes.size();
  } else if (!context.base.graph.rank_unknown.empty()) {
    return refuse(
        reason::kInvalidModel,
        fmt::format("output '{}' declares no shape and the model accepts no generated input "
                    "({}); add example.json, or declare the shape",
                    shown(tried.signature.outputs[context.base.graph.rank_unknown[0]].name),
                    tried.trial.message));
  }
  complete_signature(tried, context.base.graph);
  return tried;
}

Status write_load_plan(const Tried& tried, const FormSpec& spec, Prepacking prepacking) {
  std::error_code error;
  const bool weights = std::filesystem::exists(spec.folder / kWeights, error);
  const LoadPlan plan{.form = spec.form,
                      .model = model_file(spec.form),
                      .weights = weights ? kWeights : "",
                      .prepack = prepacking == Prepacking::On,
                      .optimise = Optimise::None,
                      .signature = tried.signature};
  return write_file(spec.folder / "load.json", to_json(plan));
}

Status make_form(const PublishContext& context, const Tried& tried, const FormSpec& spec) {
  std::error_code error;
  std::filesystem::remove_all(spec.folder, error);
  TRY(make_directories(spec.folder));
  (void)TRY(run_in_child({kLoadLimit, kLoadLimit},
                         [&](const ChildSay&) { return save_optimised(context, spec); }));
  // A model without weights leaves an empty file, which cannot be mapped.
  if (const auto size = mayfly::file_size(spec.folder / kWeights); size && *size == 0) {
    std::filesystem::remove(spec.folder / kWeights, error);
  }
  if (!tried.inputs.empty()) TRY(write_warmup(tried.inputs.front(), tried.signature, spec.folder));
  return write_load_plan(tried, spec, Prepacking::Off);
}

Result<Candidate> measure_form(const PublishContext& context, const Tried& tried,
                               const FormSpec& spec, Prepacking prepacking) {
  TRY(write_load_plan(tried, spec, prepacking));
  const Json all = TRY(measure_once(context, tried, spec.folder, Depth::All));
  std::vector<Duration> loads{Duration(number(all, "load"))};
  std::vector<Duration> firsts{Duration(number(all, "first"))};
  const std::size_t starts = starts_for(loads[0] + firsts[0]);
  for (std::size_t i = 1; i < starts; ++i) {
    const Json start = TRY(measure_once(context, tried, spec.folder, Depth::Start));
    loads.emplace_back(number(start, "load"));
    firsts.emplace_back(number(start, "first"));
  }
  Candidate candidate{.form = spec.form, .prepacking = prepacking};
  candidate.load = median(std::move(loads));
  candidate.first_run = median(std::move(firsts));
  candidate.warm_run = Duration(number(all, "warm"));
  // A kernel that packs its weights anew for every run is quick for one row, and slow for more.
  if (batches(context.job, tried)) {
    const auto warm = measure_once(context, tried, spec.folder, Depth::Batch);
    if (warm && warm->contains("warm")) candidate.warm_run = Duration(number(*warm, "warm"));
  }
  const Json memory = TRY(measure_once(context, tried, spec.folder, Depth::Memory));
  candidate.private_bytes = {number(memory, "private")};
  for (const char* name : {"model.onnx", "model.ort", kWeights}) {
    if (const auto size = mayfly::file_size(spec.folder / name)) {
      candidate.artifact_bytes.count += *size;
    }
  }
  return candidate;
}

std::string does_not_fit(const PublishContext& context, ModelForm form, Prepacking prepacking) {
  const std::uint64_t weights = context.base.weight_bytes;
  if (form == ModelForm::Ort && weights > kLargestOrt.count) {
    return fmt::format(
        "ORT format is not tried above {} MiB of weights: it keeps them unaligned and "
        "is written through memory",
        kLargestOrt.count >> 20U);
  }
  // ORT format is built in memory and copied once; prepacking copies the weights into the heap.
  const std::uint64_t needed = form == ModelForm::Ort         ? 5 * weights / 2
                               : prepacking == Prepacking::On ? 5 * weights / 4
                                                              : 0;
  if (needed + kRoom.count <= context.job.publish_memory.count) return {};
  return fmt::format(
      "it would need about {} MiB while publishing, more than publish_memory ({} MiB)",
      (needed + kRoom.count) >> 20U, context.job.publish_memory.count >> 20U);
}

}  // namespace mayfly
