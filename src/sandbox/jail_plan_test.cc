#include "sandbox/jail_plan.h"

#include <cstring>

#include <doctest/doctest.h>
#include "sandbox/testing/jail_harness.h"

namespace mayfly {
namespace {

JailPlan sample() {
  JailPlan plan = full_plan(Profile::Publish);
  plan.ids = {.user = 0x7A00'0007, .group = 0x7A00'0008};
  plan.mounts = {{.source = "/srv/a", .target = "/source", .access = Access::ReadOnly},
                 {.source = "/srv/b", .target = "/work", .access = Access::ReadWrite}};
  return plan;
}

TEST_CASE("a plan survives the wire") {
  const JailPlan plan = sample();
  const auto bytes = encode_plan(plan);
  REQUIRE(bytes.has_value());
  const auto back = decode_plan(*bytes);
  REQUIRE(back.has_value());
  CHECK(back->profile == plan.profile);
  CHECK(back->ids == plan.ids);
  CHECK(back->limits == plan.limits);
  CHECK(back->mounts == plan.mounts);
}

TEST_CASE("a plan that lacks a layer arrives with it") {
  const JailPlan weak = JailPlanSurgeon::without(sample(), {Layer::Seccomp, Layer::MountNs});
  CHECK_FALSE(weak.layers().has(Layer::Seccomp));
  const auto back = decode_plan(*encode_plan(weak));
  REQUIRE(back.has_value());
  CHECK(back->layers() == LayerSet::all());
}

TEST_CASE("a full plan has every layer") {
  for (const Profile profile : {Profile::Template, Profile::Publish}) {
    CHECK(full_plan(profile).layers() == LayerSet::all());
  }
}

TEST_CASE("a plan cut anywhere is refused") {
  const auto bytes = encode_plan(sample());
  REQUIRE(bytes.has_value());
  for (std::size_t size = 0; size < bytes->size(); ++size) {
    CAPTURE(size);
    CHECK_FALSE(decode_plan(std::span(*bytes).first(size)).has_value());
  }
}

TEST_CASE("plans that no jail may have are refused") {
  const auto refused = [](auto change) {
    JailPlan plan = sample();
    change(plan);
    return !validate(plan).has_value();
  };
  CHECK_FALSE(refused([](JailPlan&) {}));
  CHECK(refused([](JailPlan& p) { p.ids.user = 0; }));
  CHECK(refused([](JailPlan& p) { p.ids.group = 0; }));
  CHECK(refused([](JailPlan& p) { p.profile = Profile::Instance; }));
  CHECK(refused([](JailPlan& p) { p.mounts[0].target = "/work"; }));
  CHECK(refused([](JailPlan& p) { p.mounts[0].target = "/a/b"; }));
  CHECK(refused([](JailPlan& p) { p.mounts[0].target = "/.."; }));
  CHECK(refused([](JailPlan& p) { p.mounts[0].target = "/"; }));
  CHECK(refused([](JailPlan& p) { p.mounts[0].source = "relative"; }));
  CHECK(refused([](JailPlan& p) { p.mounts[0].source = std::string("/a\0b", 4); }));
  CHECK(refused([](JailPlan& p) { p.mounts.resize(17, p.mounts[0]); }));
}

}  // namespace
}  // namespace mayfly
