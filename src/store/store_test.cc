#include "store/data_dir.h"
#include "store/digest.h"
#include "store/sqlite.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <string>

#include "core/reason.h"
#include "store/testing/small_disk.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

Status add_note(const Path& root) { return write_file_durably(root / "note", "from 1"); }
Status extend_note(const Path& root) {
  const std::string note = TRY(read_file(root / "note"));
  return write_file_durably(root / "note", note + " via 2");
}
Status stumble(const Path&) { return fail(Code::Internal, "stumbled"); }

constexpr std::array kTwoSteps{Migration{1, "add a note", add_note},
                               Migration{2, "extend the note", extend_note}};
constexpr std::array kStumbling{Migration{1, "add a note", add_note},
                                Migration{2, "stumble", stumble}};

bool contains(const Error& error, std::string_view text) {
  return error.message.find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("digests print, parse and can be copied half way") {
  const Digest digest = sha256("abc");
  CHECK(to_string(digest) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(parse_digest(to_string(digest)) == digest);
  for (const std::string& bad : {std::string(), std::string(63, 'a'), std::string(64, 'G'),
                                 std::string(64, 'A'), std::string(65, 'a')}) {
    CHECK_FALSE(parse_digest(bad).has_value());
  }
  Sha256 hash;
  hash.update(std::as_bytes(std::span(std::string_view("a"))));
  Sha256 copy(hash);
  copy.update(std::as_bytes(std::span(std::string_view("bc"))));
  CHECK(copy.digest() == digest);
  CHECK(hash.digest() == sha256("a"));
}

TEST_CASE("a new data folder is private, has its format and its subfolders") {
  const TempDir temp = TempDir::create().value();
  const Path root = temp.path() / "deep" / "data";
  const auto data = DataDir::open(root);
  REQUIRE(data.has_value());
  struct stat status{};
  REQUIRE(::stat(root.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0700);
  CHECK(read_file(root / "format").value() == data_format_text(kDataFormat));
  CHECK(std::filesystem::is_directory(data->ledger()));
}

TEST_CASE("a second server on the same data folder is refused, naming the first") {
  const TempDir temp = TempDir::create().value();
  {
    const auto first = DataDir::open(temp.path());
    REQUIRE(first.has_value());
    const auto second = DataDir::open(temp.path());
    REQUIRE_FALSE(second.has_value());
    CHECK(second.error().code == Code::FailedPrecondition);
    CHECK(contains(second.error(), std::to_string(::getpid())));
  }
  CHECK(DataDir::open(temp.path()).has_value());
}

TEST_CASE("the lock ends with its process, however it ends") {
  const TempDir temp = TempDir::create().value();
  const Pipe opened = make_pipe().value();
  const pid_t child = ::fork();
  if (child == 0) {
    const auto data = DataDir::open(temp.path());
    if (!write_all(opened.write_end.get(), data ? "y" : "n")) ::_exit(1);
    while (true) ::pause();
  }
  char answer = 0;
  REQUIRE(::read(opened.read_end.get(), &answer, 1) == 1);
  CHECK(answer == 'y');
  CHECK_FALSE(DataDir::open(temp.path()).has_value());
  ::kill(child, SIGKILL);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  CHECK(DataDir::open(temp.path()).has_value());
}

TEST_CASE("what a job left in tmp/ does not keep a node from starting") {
  const TempDir temp = TempDir::create().value();
  std::filesystem::permissions(temp.path(), std::filesystem::perms(0777));
  const pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) ::_exit(1);
    const Path root = temp.path() / "data";
    if (!DataDir::open(root)) ::_exit(2);
    std::filesystem::create_directories(root / "tmp/job/work/x/y");
    if (::chmod((root / "tmp/job/work/x").c_str(), 0300) != 0) ::_exit(3);
    const auto data = DataDir::open(root);
    ::_exit(data && std::filesystem::is_empty(data->tmp()) ? 0 : 4);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("an older data folder is migrated step by step") {
  const TempDir temp = TempDir::create().value();
  REQUIRE(DataDir::open(temp.path(), {.version = 1, .migrations = {}}).has_value());
  const auto data = DataDir::open(temp.path(), {.version = 3, .migrations = kTwoSteps});
  REQUIRE(data.has_value());
  CHECK(read_file(temp.path() / "note").value() == "from 1 via 2");
  CHECK(read_file(temp.path() / "format").value() == data_format_text(3));
}

TEST_CASE("a migration that fails leaves the last good step and can be tried again") {
  const TempDir temp = TempDir::create().value();
  REQUIRE(DataDir::open(temp.path(), {.version = 1, .migrations = {}}).has_value());
  const auto failed = DataDir::open(temp.path(), {.version = 3, .migrations = kStumbling});
  REQUIRE_FALSE(failed.has_value());
  CHECK(contains(failed.error(), "stumbled"));
  CHECK(read_file(temp.path() / "format").value() == data_format_text(2));
  CHECK(DataDir::open(temp.path(), {.version = 3, .migrations = kTwoSteps}).has_value());
}

TEST_CASE("newer, unknown and foreign folders are refused with the reason") {
  const TempDir temp = TempDir::create().value();
  REQUIRE(DataDir::open(temp.path(), {.version = 7, .migrations = {}}).has_value());
  const auto newer = DataDir::open(temp.path(), {.version = 6, .migrations = {}});
  REQUIRE_FALSE(newer.has_value());
  CHECK(contains(newer.error(), "newer"));
  const auto gap = DataDir::open(temp.path(), {.version = 9, .migrations = kTwoSteps});
  REQUIRE_FALSE(gap.has_value());
  CHECK(contains(gap.error(), "too old"));
  for (const char* bad : {"", "mayfly-data", "mayfly-data 0\n", "mayfly-data 1", "mayfly-data x\n",
                          "mayfly-data 1\n1"}) {
    CHECK_FALSE(parse_data_format(bad).has_value());
  }
  const TempDir foreign = TempDir::create().value();
  REQUIRE(write_file_durably(foreign.path() / "thesis.tex", "precious").has_value());
  const auto refused = DataDir::open(foreign.path());
  REQUIRE_FALSE(refused.has_value());
  CHECK(contains(refused.error(), "not a data folder"));
  CHECK(read_file(foreign.path() / "thesis.tex").has_value());
}

TEST_CASE("what lay in tmp and run is gone after a start") {
  const TempDir temp = TempDir::create().value();
  {
    REQUIRE(DataDir::open(temp.path()).has_value());
  }
  REQUIRE(make_directories(temp.path() / "tmp/half/done").has_value());
  REQUIRE(write_file_durably(temp.path() / "run/pid", "1").has_value());
  REQUIRE(DataDir::open(temp.path()).has_value());
  CHECK(std::filesystem::is_empty(temp.path() / "tmp"));
  CHECK(std::filesystem::is_empty(temp.path() / "run"));
}

TEST_CASE("statements bind and return every type") {
  const TempDir temp = TempDir::create().value();
  auto database = Database::open(temp.path() / "t.db", OpenMode::Create).value();
  REQUIRE(
      database.execute("create", "CREATE TABLE t(i INTEGER, s TEXT, b BLOB, n TEXT)").has_value());
  auto insert = database.prepare("insert", "INSERT INTO t VALUES(?1,?2,?3,?4)").value();
  const Digest digest = sha256("x");
  const std::optional<std::string_view> none;
  REQUIRE(insert
              .bind(std::int64_t{-5}, std::string_view("a\0b", 3),
                    std::span<const std::byte>(digest.bytes), none)
              .run()
              .has_value());
  CHECK(database.last_insert_id() == 1);
  auto select = database.prepare("select", "SELECT i, s, b, n FROM t").value();
  REQUIRE(select.step().value());
  CHECK(select.integer(0) == -5);
  CHECK(select.text(1) == std::string("a\0b", 3));
  CHECK(std::ranges::equal(select.blob(2), digest.bytes));
  CHECK(select.is_null(3));
  CHECK_FALSE(select.step().value());
}

TEST_CASE("a failed statement names its purpose, a constraint is AlreadyExists") {
  const TempDir temp = TempDir::create().value();
  auto database = Database::open(temp.path() / "t.db", OpenMode::Create).value();
  const auto bad = database.prepare("count the ducks", "SELEKT 1");
  REQUIRE_FALSE(bad.has_value());
  CHECK(contains(bad.error(), "count the ducks"));
  REQUIRE(database.execute("create", "CREATE TABLE t(i INTEGER PRIMARY KEY)").has_value());
  auto insert = database.prepare("insert", "INSERT INTO t VALUES(?1)").value();
  REQUIRE(insert.bind(std::int64_t{1}).run().has_value());
  CHECK(insert.bind(std::int64_t{1}).run().error().code == Code::AlreadyExists);
  CHECK(insert.bind(std::int64_t{2}).run().has_value());
}

TEST_CASE("a transaction that is not committed has not happened") {
  const TempDir temp = TempDir::create().value();
  auto database = Database::open(temp.path() / "t.db", OpenMode::Create).value();
  REQUIRE(database.execute("create", "CREATE TABLE t(i INTEGER)").has_value());
  {
    auto transaction = Transaction::begin(database);
    REQUIRE(database.execute("insert", "INSERT INTO t VALUES(1)").has_value());
  }
  auto count = database.prepare("count", "SELECT count(*) FROM t").value();
  REQUIRE(count.step().value());
  CHECK(count.integer(0) == 0);
  count.reset();
  auto transaction = Transaction::begin(database).value();
  REQUIRE(database.execute("insert", "INSERT INTO t VALUES(1)").has_value());
  REQUIRE(transaction.commit().has_value());
  REQUIRE(count.step().value());
  CHECK(count.integer(0) == 1);
}

TEST_CASE("a database on a full disk refuses with storage_full and goes on when there is room") {
  const TempDir temp = TempDir::create().value();
  auto database = Database::open(temp.path() / "t.db", OpenMode::Create).value();
  REQUIRE(database.execute("create", "CREATE TABLE t(b BLOB)").has_value());
  {
    const FileSizeLimit limit(64 * 1024);
    const auto refused = database.execute("fill", "INSERT INTO t VALUES(zeroblob(1000000))");
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().reason == reason::kStorageFull);
  }
  CHECK(database.execute("fill", "INSERT INTO t VALUES(zeroblob(1000000))").has_value());
  CHECK(database.check_integrity().has_value());
}

TEST_CASE("a copy is one state of a database that others keep writing") {
  const TempDir temp = TempDir::create().value();
  auto writer = Database::open(temp.path() / "t.db", OpenMode::Create).value();
  REQUIRE(
      writer.execute("create", "CREATE TABLE t(i INTEGER); INSERT INTO t VALUES(1)").has_value());
  auto reader = Database::open(temp.path() / "t.db", OpenMode::ReadOnly).value();
  auto transaction = Transaction::begin(writer).value();
  REQUIRE(writer.execute("insert", "INSERT INTO t VALUES(2)").has_value());
  REQUIRE(reader.copy_to(temp.path() / "copy.db").has_value());
  REQUIRE(transaction.commit().has_value());
  auto copy = Database::open(temp.path() / "copy.db", OpenMode::ReadWrite).value();
  auto count = copy.prepare("count", "SELECT count(*) FROM t").value();
  REQUIRE(count.step().value());
  CHECK(count.integer(0) == 1);
}
