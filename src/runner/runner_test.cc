#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "core/reason.h"
#include "runner/dummy_model.h"
#include "runner/load_plan.h"
#include "runner/onnx_runtime.h"
#include "runner/onnx_session.h"
#include "runner/request_server.h"
#include "runner/warmup.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

const OnnxRuntime& runtime() {
  static const Result<OnnxRuntime> opened =
      OnnxRuntime::open(std::filesystem::read_symlink("/proc/self/exe").parent_path());
  REQUIRE_MESSAGE(opened.has_value(), opened.error().message);
  return *opened;
}

OnnxSession dummy_session() {
  auto session =
      OnnxSession::open(runtime(), std::as_bytes(std::span(kDummyModel)), SessionOptions{});
  REQUIRE_MESSAGE(session.has_value(), session.error().message);
  return *std::move(session);
}

RequestLayout floats_layout(Shape shape) {
  const std::uint64_t bytes = byte_count(DataType::Fp32, shape).value();
  return RequestLayout::plan(
             {{.index = 0, .type = DataType::Fp32, .shape = std::move(shape), .bytes = bytes}}, {0})
      .value();
}

Region region_with(const RequestLayout& layout, std::span<const float> values,
                   std::size_t size = kInstanceRegion) {
  Region region = Region::create(size).value();
  std::ranges::copy(make_request_image(layout), region.bytes().begin());
  std::memcpy(region.bytes().data() + layout.input_offset(0), values.data(), values.size_bytes());
  return region;
}

// Counts from 1 to `last`, a float each; fails after that where it is told to.
class Counting final : public Backend {
 public:
  Counting(float last, bool fails) : last_(last), fails_(fails) {}
  const Signature& signature() const override { return signature_; }
  Result<const RunResults*> run(const RequestView&, RequestSpan, std::uint64_t) override {
    count_ = 0;
    return next_chunk();
  }
  bool streams() const override { return true; }
  Result<const RunResults*> next_chunk() override {
    if (count_ == last_ && fails_) return refuse(reason::kFunctionError, "no more");
    if (count_ == last_) return nullptr;
    ++count_;
    return &results_;
  }
  void close_stream() override { ++closed; }
  Status copy_results(const OutputPlacement& placement, RequestSpan target) const override {
    std::memcpy(target.data() + placement.offsets.at(0), &count_, sizeof(count_));
    return {};
  }
  void release_results() override {}
  float count() const { return count_; }
  int closed = 0;

 private:
  float last_;
  bool fails_;
  float count_ = 0;
  Signature signature_{.inputs = {{"x", DataType::Fp32, {-1}}},
                       .outputs = {{"y", DataType::Fp32, {1}}}};
  RunResults results_{.plans = {{.type = DataType::Fp32, .shape = {1}, .bytes = sizeof(float)}}};
};

std::vector<float> floats_in(const OutputView& view) {
  std::vector<float> values(view.bytes.size() / sizeof(float));
  std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
  return values;
}

}  // namespace

TEST_CASE("a session reads its own signature") {
  const OnnxSession session = dummy_session();
  const Signature& signature = session.signature();
  CHECK(signature.inputs == std::vector<TensorSpec>{{"x", DataType::Fp32, {1, 2}}});
  CHECK(signature.outputs == std::vector<TensorSpec>{{"y", DataType::Fp32, {1, 2}}});
}

TEST_CASE("a request in a region gets its reply in it, the first time and in place") {
  OnnxSession session = dummy_session();
  RequestServer server(session);
  const RequestLayout layout = floats_layout({1, 2});
  const std::array<float, 2> values = {2, 3};
  const Region region = region_with(layout, values);
  for (int run = 0; run < 3; ++run) {
    CHECK(server.serve(region.bytes()) == 0);
    const auto outputs = read_reply(region.bytes(), region.bytes(), layout, session.signature());
    REQUIRE_MESSAGE(outputs.has_value(), outputs.error().message);
    CHECK(floats_in(outputs->at(0)) == std::vector<float>{11, 16});
    CHECK(outputs->at(0).shape == Shape{1, 2});
    server.release();
  }
}

TEST_CASE("outputs that do not fit ask for room and are put there") {
  OnnxSession session = dummy_session();
  RequestServer server(session);
  const RequestLayout layout = floats_layout({1, 2});
  const std::array<float, 2> values = {1, 0};
  const Region region = region_with(layout, values, layout.request_bytes());
  const std::uint64_t room = server.serve(region.bytes());
  CHECK(room == 8);
  const Region outputs = Region::create(room).value();
  server.finish_in(region.bytes(), outputs.bytes());
  const auto views = read_reply(region.bytes(), outputs.bytes(), layout, session.signature());
  REQUIRE(views.has_value());
  CHECK(floats_in(views->at(0)) == std::vector<float>{1, 2});
}

TEST_CASE("a stream is written chunk by chunk, and says how it ended") {
  const RequestLayout layout = floats_layout({1});
  const Region region = region_with(layout, std::array{1.0F});
  for (const bool fails : {false, true}) {
    CAPTURE(fails);
    Counting backend(2, fails);
    RequestServer server(backend);
    CHECK(server.serve(region.bytes()) == 0);
    for (const float expected : {1.0F, 2.0F}) {
      REQUIRE(server.is_streaming());
      const auto chunk = read_reply(region.bytes(), region.bytes(), layout, backend.signature());
      REQUIRE(chunk.has_value());
      CHECK(floats_in(chunk->at(0)) == std::vector{expected});
      CHECK_FALSE(has_ended(region.bytes()));
      CHECK(server.next(region.bytes()) == 0);
    }
    CHECK_FALSE(server.is_streaming());
    CHECK(has_ended(region.bytes()) == !fails);
    const auto end = read_reply(region.bytes(), region.bytes(), layout, backend.signature());
    CHECK(end.error().reason == (fails ? reason::kFunctionError : reason::kBadReply));
  }
}

TEST_CASE("a stream that is closed, or has no room for a chunk, is closed in the function too") {
  const RequestLayout layout = floats_layout({1});
  const Region region = region_with(layout, std::array{1.0F});
  Counting backend(100, false);
  RequestServer server(backend);
  server.serve(region.bytes());
  server.close(region.bytes());
  CHECK(backend.closed == 1);
  CHECK(has_ended(region.bytes()));
  CHECK_FALSE(server.is_streaming());
  const RequestSpan narrow = region.bytes().first(layout.request_bytes());
  CHECK(server.serve(narrow) > 0);
  server.give_up(narrow, "there is no room");
  CHECK(backend.closed == 2);
  CHECK_FALSE(server.is_streaming());
  warm_up(backend, region.bytes());  // which has no end of its own
  CHECK(backend.count() == kTrialChunks);
  CHECK(backend.closed == 3);
}

TEST_CASE("what a model says of a wrong shape is its error, without paths") {
  OnnxSession session = dummy_session();
  RequestServer server(session);
  const RequestLayout layout = floats_layout({1, 3});
  const std::array<float, 3> values = {1, 2, 3};
  const Region region = region_with(layout, values);
  CHECK(server.serve(region.bytes()) == 0);
  const auto outputs = read_reply(region.bytes(), region.bytes(), layout, session.signature());
  REQUIRE_FALSE(outputs.has_value());
  CHECK(outputs.error().reason == "model_error");
  CHECK(outputs.error().message.find("/onnxruntime_src") == std::string::npos);
}

TEST_CASE("messages lose places in the source and keep file names") {
  CHECK(clean_ort_message("/onnxruntime_src/a/b.cc:12 Foo failed") == "Foo failed");
  CHECK(clean_ort_message("Load model from /artifact/model.onnx failed") ==
        "Load model from model.onnx failed");
  CHECK(clean_ort_message("a/b and 1/2 stay") == "a/b and 1/2 stay");
  CHECK(clean_ort_message("/") == "/");
  CHECK(clean_ort_message("") == "");
}

TEST_CASE("a load plan survives its JSON; strangers are refused") {
  LoadPlan plan;
  plan.form = ModelForm::Ort;
  plan.model = "model.ort";
  plan.prepack = false;
  plan.signature = {.inputs = {{"x", DataType::Bytes, {-1, 2}}},
                    .outputs = {{"y", DataType::Bf16, {}}}};
  const auto parsed = parse_load_plan(to_json(plan));
  REQUIRE_MESSAGE(parsed.has_value(), parsed.error().message);
  CHECK(parsed->form == plan.form);
  CHECK(parsed->model == plan.model);
  CHECK(parsed->signature == plan.signature);
  CHECK_FALSE(parsed->prepack);
  CHECK_FALSE(parse_load_plan("{}").has_value());
  plan.model = "../model.onnx";
  CHECK_FALSE(parse_load_plan(to_json(plan)).has_value());
}

TEST_CASE("the zero request holds every input with free dimensions of one") {
  const Signature signature{
      .inputs = {{"a", DataType::Fp32, {-1, 3}}, {"s", DataType::Bytes, {-1}}},
      .outputs = {{"y", DataType::Fp32, {-1}}}};
  const auto image = make_zero_request(signature);
  REQUIRE(image.has_value());
  const Region region = Region::anonymous(image->size()).value();
  std::ranges::copy(*image, region.bytes().begin());
  const auto request = read_request(region.bytes());
  REQUIRE(request.has_value());
  CHECK(request->inputs[0].shape == Shape{1, 3});
  CHECK(request->inputs[0].bytes.size() == 12);
  CHECK(request->inputs[1].bytes.size() == 4);
  CHECK(request->outputs == std::vector<std::uint32_t>{0});
}

TEST_CASE("an encoded image for an input that takes none is the request's fault") {
  OnnxSession session = dummy_session();
  const RequestLayout layout = RequestLayout::plan({{.index = 0,
                                                     .type = DataType::Uint8,
                                                     .shape = {8},
                                                     .bytes = 8,
                                                     .form = InputForm::EncodedImage}},
                                                   {0})
                                   .value();
  Region region = Region::create(kInstanceRegion).value();
  RequestMemory memory = RequestMemory::allocate(layout, 0).value();
  memory.place(region.bytes());
  CHECK(read_request(region.bytes()).value().inputs.at(0).form == InputForm::EncodedImage);
  RequestServer server(session);
  CHECK(server.serve(region.bytes()) == 0);
  const auto reply = read_reply(region.bytes(), region.bytes(), layout, session.signature());
  REQUIRE_FALSE(reply.has_value());
  CHECK(reply.error().message == "input 'x' takes no image");
}
