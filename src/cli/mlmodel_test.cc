#include "cli/mlmodel.h"

#include <fmt/format.h>

#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

// As mlflow.onnx writes it, shortened.
constexpr const char* kMlmodel = R"(artifact_path: model
flavors:
  onnx:
    code: null
    data: model.onnx
    onnx_version: 1.17.0
    providers:
    - CUDAExecutionProvider
    - CPUExecutionProvider
  python_function:
    data: other.onnx
    env:
      conda: conda.yaml
    loader_module: mlflow.onnx
mlflow_version: 2.18.0
signature:
  inputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}]'
  data: nothing
)";

void check_refused(std::string_view yaml, std::string_view words) {
  CAPTURE(yaml);
  const auto model = onnx_model_in(yaml);
  REQUIRE_FALSE(model.has_value());
  CAPTURE(model.error().message);
  CHECK(model.error().reason == reason::kInvalidManifest);
  CHECK(model.error().message.contains(words));
}

}  // namespace

TEST_CASE("the ONNX model of an MLmodel file is found by its flavour alone") {
  CHECK(onnx_model_in(kMlmodel).value() == "model.onnx");
  CHECK(
      onnx_model_in("{flavors: {x: [{onnx: 1}], onnx: {a: {data: no}, data: m/a.onnx}}}").value() ==
      "m/a.onnx");
}

TEST_CASE("an MLmodel without an ONNX flavour says which there are") {
  check_refused("flavors:\n  sklearn: {data: a}\n  python_function: {}\n",
                "only sklearn, python_function");
  check_refused("flavors: {onnx: {code: 1}}", "only onnx");
  check_refused("data: a", "no flavors");
  check_refused("", "no flavors");
}

TEST_CASE("an MLmodel that leads out of the folder, or is none, is refused") {
  check_refused("flavors: {onnx: {data: ../model.onnx}}", "inside the folder");
  check_refused("flavors: {onnx: {data: /model.onnx}}", "inside the folder");
  check_refused("flavors: &a\n  onnx: *a\n", "aliases");
  check_refused("a: [", "line");
  check_refused("- a\n b: c", "line");
  check_refused("only text", "no mapping");
  check_refused(std::string(100, '['), "deep");
  check_refused(std::string(kMaxMlmodel + 1, ' '), "too long");
  std::string many = "flavors: {";
  for (int i = 0; i < 100; ++i) many += fmt::format("f{}: 1, ", i);
  check_refused(many + "}", "too many");
}
