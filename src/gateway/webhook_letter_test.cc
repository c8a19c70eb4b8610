#include "gateway/webhook_letter.h"

#include "core/json_reader.h"
#include "events/event.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

constexpr WallTime kDone{std::chrono::hours(500'000)};

Delivery delivery_of(WorkState end) {
  Delivery delivery;
  delivery.key = {.item = "019a5d3e-6c0f-7a31-9d52-3f0d8f1f7a10", .epoch = 4};
  delivery.lane = "team/fraud";
  delivery.end = end;
  delivery.item_attempts = 2;
  delivery.ended = kDone;
  return delivery;
}

WorkItem item_of(std::string_view type = "application/json") {
  WorkItem item;
  item.spec.id = "019a5d3e-6c0f-7a31-9d52-3f0d8f1f7a10";
  item.spec.accepted = kDone - 5s;
  item.spec.detail = to_json(EventRequest{.target = "/functions/fraud",
                                          .headers = {},
                                          .project = "team",
                                          .caller = "ci",
                                          .request_id = "mine"});
  const EventReply reply{.status = 200,
                         .headers = {{"content-type", std::string(type)}, {"Mayfly-Version", "3"}}};
  item.result = WorkResult{.detail = to_json(reply), .blob = {}};
  return item;
}

nlohmann::json parsed(const std::string& letter) { return nlohmann::json::parse(letter); }

}  // namespace

TEST_CASE("a result that is JSON stands in the letter, byte by byte") {
  const std::string result = R"({"label": [0], "p": 0.10000000000000001})";
  const std::string letter = webhook_letter(delivery_of(WorkState::Done), item_of(), result);
  const auto json = parsed(letter);
  CHECK(json["type"] == "event.done");
  CHECK(json["timestamp"] == json["data"]["ended"]);
  CHECK(json["data"]["event"] == "019a5d3e-6c0f-7a31-9d52-3f0d8f1f7a10");
  CHECK(json["data"]["function"] == "fraud");
  CHECK(json["data"]["version"] == "3");
  CHECK(json["data"]["attempts"] == 2);
  CHECK(json["data"]["request_id"] == "mine");
  CHECK(json["data"]["result"]["label"][0] == 0);
  CHECK(letter.contains(result));
  CHECK(letter == webhook_letter(delivery_of(WorkState::Done), item_of(), result));
}

TEST_CASE("of another result the letter says where it is") {
  const std::string deep = std::string(30'000, '[') + std::string(30'000, ']');
  CHECK(webhook_letter(delivery_of(WorkState::Done), item_of(), deep).contains(deep));
  for (const auto& [type, result] :
       {std::pair<const char*, std::optional<std::string>>{"image/png", "{}"},
        {"application/json", "{} {"},
        {"application/json", std::nullopt},
        {"application/json", "\"" + std::string(kResultInLetter, 'x') + "\""}}) {
    const auto json = parsed(webhook_letter(delivery_of(WorkState::Done), item_of(type), result));
    CHECK_FALSE(json["data"].contains("result"));
    CHECK(json["data"]["result_path"] == "/api/v1/events/019a5d3e-6c0f-7a31-9d52-3f0d8f1f7a10");
  }
}

TEST_CASE("another end is told with its reason, and without what came of the event later") {
  Delivery dead = delivery_of(WorkState::Dead);
  dead.reason = "function_error";
  dead.message = "team/fraud raised";
  const auto json = parsed(webhook_letter(dead, item_of(), "{}"));
  CHECK(json["type"] == "event.dead");
  CHECK(json["data"]["reason"] == "function_error");
  CHECK(json["data"]["error"] == "fraud raised");
  CHECK_FALSE(json["data"].contains("result"));
  CHECK_FALSE(json["data"].contains("result_path"));
}

TEST_CASE("only 2xx is delivered, and only 410 ends it") {
  for (const int status : {200, 202, 204, 299}) CHECK(told_by(status).told == Told::Delivered);
  for (const int status : {301, 302, 307, 400, 404, 429, 500, 503})
    CHECK(told_by(status).told == Told::Failed);
  CHECK(told_by(410).told == Told::Refused);
  CHECK(told_by(302).error == "it answered 302: redirects are not followed");
}
