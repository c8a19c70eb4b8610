#include "runner/train/features.h"

#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace mayfly {
namespace {

std::string refusal(const std::vector<Feature>& plan) {
  OnnxGraph graph("features");
  const auto matrix = add_features(graph, plan);
  return matrix ? "taken" : matrix.error().message;
}

TEST_CASE("each column is an input, and the matrix names its features") {
  OnnxGraph graph("features");
  const auto matrix = add_features(
      graph,
      {NumberFeature{.column = "age"},
       CategoryFeature{.column = "colour", .categories = {"red", "green"}},
       CategoryFeature{.column = "size", .categories = {"S", "M"}, .code = CategoryCode::Ordinal},
       DateFeature{.column = "day", .parts = {DatePart::Month, DatePart::Weekday}},
       TextFeature{.column = "review",
                   .words = {"good", "not"},
                   .pairs = {{"not", "good"}},
                   .weights = {1, 2, 3}}});
  REQUIRE_MESSAGE(matrix.has_value(), matrix.error().message);
  CHECK(matrix->names == std::vector<std::string>{"age", "colour=red", "colour=green", "size",
                                                  "day.month", "day.weekday", "review:good",
                                                  "review:not", "review:not good"});
  onnx::ModelProto model;
  REQUIRE(model.ParseFromString(*graph.serialize()));
  REQUIRE(model.graph().input_size() == 5);
  const auto type_of = [&](int input) {
    return model.graph().input(input).type().tensor_type().elem_type();
  };
  CHECK(type_of(0) == onnx::TensorProto::FLOAT);
  CHECK(type_of(1) == onnx::TensorProto::STRING);
  CHECK(type_of(3) == onnx::TensorProto::INT64);
}

TEST_CASE("a column that cannot be is refused by name") {
  CHECK(refusal({}).find("no columns") != std::string::npos);
  CHECK(refusal({NumberFeature{.column = "a", .deviation = 0}}).find("'a'") != std::string::npos);
  CHECK(refusal({NumberFeature{.column = "a", .mean = NAN}}).find("'a'") != std::string::npos);
  CHECK(refusal({NumberFeature{.column = "a"}, NumberFeature{.column = "a"}}).find("twice") !=
        std::string::npos);
  CHECK(refusal({CategoryFeature{.column = "a", .categories = {}}}).find("categories") !=
        std::string::npos);
  CHECK(refusal({CategoryFeature{.column = "a", .categories = {"x", "x"}}}).find("twice") !=
        std::string::npos);
  CHECK(refusal({DateFeature{.column = "a", .parts = {}}}).find("parts") != std::string::npos);
  CHECK(refusal({TextFeature{.column = "a", .words = {"x"}, .pairs = {}, .weights = {}}})
            .find("weights") != std::string::npos);
}

}  // namespace
}  // namespace mayfly
