// A node's way from files to a version that gets requests, on real stores; the jail of publishing
// is played.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "async/loop.h"
#include "base/rng.h"
#include "publish/testing/publishes_all.h"
#include "registry/testing/registry_fixture.h"
#include "sandbox/testing/fake_spawner.h"
#include "serving/ledger_writer.h"
#include "serving/shadows.h"
#include "serving/traffic_switch.h"
#include "store/local_blob_store.h"

namespace mayfly {

struct PublishingRig {
  RegistryFixture fixture;
  Path root = fixture.folder.path();
  SystemClock clock;
  SystemRng rng;
  Loop loop{clock};
  Pool pool{loop, "control", 1};
  PublishesAll jails{loop};
  std::unique_ptr<LocalBlobStore> blobs = LocalBlobStore::open(made("blobs"), made("tmp")).value();
  Pins pins{clock};
  std::unique_ptr<BlobOwners> owners = BlobOwners::open(root / "identity.db", clock, [] {
                                         return std::vector<OwnedBlob>();
                                       }).value();
  std::unique_ptr<SecretStore> secrets =
      SecretStore::open(root / "identity.db", root / "secrets.key", clock, rng).value();
  std::unique_ptr<SigningKeyStore> keys =
      SigningKeyStore::open(root / "identity.db", *secrets, clock, rng).value();
  Publisher publisher{
      loop, pool, jails, {.compiled = made("compiled"), .tmp = made("publish")}, {"1.31.1", "x86"}};
  QuotaGate quotas{{loop, pool, [] { return QuotaGate::Used{}; }}};
  Catalog catalog{{*fixture.registry, *blobs, publisher, pool, quotas}};
  FakeSpawner spawner{loop};
  Dispatcher dispatcher{loop, spawner, {}};
  std::unique_ptr<Ledger> ledger = Ledger::open(root / "ledger", clock, {}).value();
  LedgerWriter writer{loop, *ledger};
  InvocationIds ids{clock, rng};
  Shadows shadows{{loop, catalog, dispatcher, writer, ids}};
  TrafficSwitch traffic{{pool, *fixture.registry, catalog, dispatcher, shadows, *keys}};

  ~PublishingRig() {
    loop.run(shadows.close());
    loop.run(dispatcher.drain(std::chrono::seconds(1)));
  }

  Path made(const std::string& name) const {
    std::filesystem::create_directories(root / name);
    return root / name;
  }
};

}  // namespace mayfly
