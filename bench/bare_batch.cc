// A file of rows through a model, in one process: what a data scientist's own program does. The
// reader and the writer are those of batch jobs; between them threads that share one session.
//
//   bare_batch --library L --model M --threads 1 --folder DIR --job FILE --workers N
//
// FILE is the request of a batch job (runner/report/batch_job.h); its input lies in DIR. Prints how
// long it took from opening the input to the end of the output.
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ort_model.h"
#include "runner/batch/prediction.h"
#include "runner/batch/table_reader.h"
#include "runner/batch/table_writer.h"
#include "runner/report/batch_job.h"
#include "tool.h"

namespace mayfly::bench {
namespace {

template <typename T>
T value_of(Result<T> result) {
  require(result.has_value(), result ? "" : result.error().message);
  return *std::move(result);
}

ONNXTensorElementDataType element_of(DataType type) {
  switch (type) {
    case DataType::Fp32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case DataType::Fp64:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
    case DataType::Int64:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    default:
      require(false, "a tensor of a type that the benchmarks do not use");
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  }
}

PredictedRows predict(const OrtModel& model, const Signature& signature, const TableChunk& chunk) {
  const auto rows = static_cast<std::int64_t>(chunk.rows);
  std::vector<OrtArguments::Input> inputs;
  for (std::size_t i = 0; i < chunk.inputs.size(); ++i) {
    OrtArguments::Input input{.name = signature.inputs[i].name,
                              .type = element_of(chunk.inputs[i].type),
                              .shape = signature.inputs[i].shape,
                              .bytes = chunk.inputs[i].bytes};
    input.shape.front() = rows;
    inputs.push_back(std::move(input));
  }
  PredictedRows predicted{.count = chunk.rows, .outputs = {}, .documents = {}};
  std::size_t place = 0;
  for (std::vector<std::byte>& bytes : model.run_on(inputs)) {
    const DataType type = signature.outputs.at(place++).type;
    const std::uint64_t width = bytes.size() / chunk.rows / (type == DataType::Fp32 ? 4U : 8U);
    predicted.outputs.push_back(
        {.type = type, .width = width, .bytes = std::move(bytes), .ends = {}});
  }
  return predicted;
}

// Chunks on their way through the workers, and back in order.
class Pipeline {
 public:
  Pipeline(const OrtModel& model, const Signature& signature, std::size_t workers)
      : model_(model), signature_(signature) {
    for (std::size_t i = 0; i < workers; ++i) workers_.emplace_back([this] { work(); });
  }
  ~Pipeline() {
    {
      const std::scoped_lock lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
  }
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  struct Done {
    TableChunk chunk;
    PredictedRows predicted;
  };

  void put(TableChunk chunk) {
    {
      const std::scoped_lock lock(mutex_);
      waiting_.emplace(put_++, std::move(chunk));
    }
    changed_.notify_all();
  }
  std::size_t under_way() const { return put_ - taken_; }
  // The oldest.
  Done take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_.contains(taken_); });
    return std::move(done_.extract(taken_++).mapped());
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return closed_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      auto next = waiting_.extract(waiting_.begin());
      lock.unlock();
      PredictedRows predicted = predict(model_, signature_, next.mapped());
      lock.lock();
      done_.emplace(next.key(), Done{std::move(next.mapped()), std::move(predicted)});
      changed_.notify_all();
    }
  }

  const OrtModel& model_;
  const Signature& signature_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::size_t, TableChunk> waiting_;
  std::map<std::size_t, Done> done_;
  std::size_t put_ = 0;
  std::size_t taken_ = 0;
  bool closed_ = false;
  std::vector<std::jthread> workers_;  // first to end
};

std::uint64_t run(const OrtModel& model, const BatchJob& job, const Path& folder,
                  std::size_t workers) {
  const auto reader = value_of(open_table(folder, job));
  std::vector<KeptField> fields = reader->kept();
  for (KeptField& field : prediction_fields(job.signature)) fields.push_back(std::move(field));
  const auto writer = value_of(create_table(folder / "bare-output", job.output_format, fields));
  std::uint64_t rows = 0;
  Pipeline pipeline(model, job.signature, workers);
  const auto write = [&] {
    const Pipeline::Done done = pipeline.take();
    const std::map<std::uint64_t, PredictedRows> predicted{{0, done.predicted}};
    const auto batch = value_of(output_rows(done.chunk, predicted, fields, job.signature));
    require(writer->write(*batch).has_value(), "the output cannot be written");
    rows += done.chunk.rows;
  };
  while (auto chunk = value_of(reader->next())) {
    pipeline.put(*std::move(chunk));
    if (pipeline.under_way() == workers + 2) write();
  }
  while (pipeline.under_way() > 0) write();
  require(writer->close().has_value(), "the output cannot be written");
  return rows;
}

}  // namespace
}  // namespace mayfly::bench

int main(int argc, char** argv) {
  using namespace mayfly;
  using namespace mayfly::bench;
  const Arguments arguments(argc, argv, 1);
  const auto text = read_whole(arguments.text("job"));
  const auto job = parse_batch_job({reinterpret_cast<const char*>(text.data()), text.size()});
  require(job.has_value() && job->has_value(), "--job is no batch job");
  OrtModel model{OrtArguments(arguments)};
  model.load();
  const double begin = now_us();
  const std::uint64_t rows =
      run(model, **job, arguments.text("folder"), arguments.number("workers", 1));
  bench::Report report;
  report.wall_s = (now_us() - begin) / 1e6;
  report.more["rows"] = static_cast<double>(rows);
  print(report);
  return 0;
}
