#include "gateway/openapi_document.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

Json schema(DataType type, Shape shape) {
  return plain_input_schema({.name = "x", .type = type, .shape = std::move(shape)});
}

}  // namespace

TEST_CASE("a plain input nests like its shape, and may leave out dimensions that can be 1") {
  CHECK(schema(DataType::Fp32, {}) == Json({{"type", "number"}}));
  CHECK(schema(DataType::Bytes, {2}).dump() ==
        R"({"type":"array","items":{"type":"string"},"minItems":2,"maxItems":2})");
  const Json rows = schema(DataType::Fp32, {-1, 2});
  REQUIRE(rows["anyOf"].size() == 2);
  CHECK(rows["anyOf"][0]["items"]["minItems"] == 2);
  CHECK(rows["anyOf"][1]["items"]["type"] == "number");
  CHECK(rows["anyOf"][1]["maxItems"] == 2);
  // [-1,1]: a column, the column as a flat array, one value.
  CHECK(schema(DataType::Bool, {-1, 1})["anyOf"].size() == 4);
  CHECK(schema(DataType::Uint8, {3})["items"]["maximum"] == 255);
  CHECK(schema(DataType::Int64, {3})["items"]["minimum"] ==
        std::numeric_limits<std::int64_t>::min());
}

TEST_CASE("numbers of a reply may be what JSON has no word for") {
  const Json numbers = plain_output_schema({.name = "y", .type = DataType::Fp32, .shape = {-1}});
  CHECK(numbers["items"] == Json::object());
  const Json labels = plain_output_schema({.name = "y", .type = DataType::Bytes, .shape = {-1}});
  CHECK(labels["items"]["type"] == "string");
}

TEST_CASE("every function stands in the document by name, beside what holds for all") {
  const Signature iris{.inputs = {{.name = "width", .type = DataType::Fp32, .shape = {-1, 1}},
                                  {.name = "length", .type = DataType::Fp32, .shape = {-1, 1}}},
                       .outputs = {{.name = "label", .type = DataType::Bytes, .shape = {-1}}}};
  const Signature sum{.inputs = {{.name = "x", .type = DataType::Int64, .shape = {4}}},
                      .outputs = {{.name = "y", .type = DataType::Int64, .shape = {}}}};
  const std::vector<DescribedFunction> functions = {{"iris", &iris}, {"sum", &sum}};
  const Json document = Json::parse(openapi_document(functions));
  const Json& paths = document["paths"];
  CHECK(paths.contains("/v2/models/{name}/infer"));
  CHECK(document["servers"][0]["url"] == "/");

  const auto body = [&](const char* path) {
    return paths[path]["post"]["requestBody"]["content"]["application/json"];
  };
  const Json request = body("/v2/models/iris/infer")["schema"]["properties"]["inputs"];
  CHECK(request["minItems"] == 2);
  CHECK(request["items"]["oneOf"][1]["properties"]["name"]["const"] == "length");
  CHECK(request["items"]["oneOf"][0]["properties"]["shape"]["prefixItems"][1]["const"] == 1);
  CHECK_FALSE(paths["/v2/models/iris/infer"].contains("parameters"));

  CHECK(body("/functions/iris")["schema"]["required"] == Json::array({"width", "length"}));
  CHECK_FALSE(body("/functions/iris").contains("example"));
  CHECK(body("/functions/sum")["schema"]["anyOf"].size() == 2);  // by name, or alone
  const Json& reply = paths["/functions/sum"]["post"]["responses"]["200"];
  CHECK(reply["content"]["application/json"]["schema"]["required"] == Json::array({"y"}));
}
