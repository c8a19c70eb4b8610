#include "store/sqlite.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr int kBusyMilliseconds = 10'000;

// SQLite keeps ENOSPC apart, but other refusals of a write (quota, file size limit, a failing disk)
// only as I/O errors whose errno is lost. storage_full means "full or failing": it fits them all.
bool full_or_failing(int result) {
  switch (result) {
    case SQLITE_IOERR_WRITE:
    case SQLITE_IOERR_FSYNC:
    case SQLITE_IOERR_DIR_FSYNC:
    case SQLITE_IOERR_TRUNCATE:
    case SQLITE_IOERR_SHMSIZE:
      return true;
    default:
      return (result & 0xff) == SQLITE_FULL;
  }
}

std::unexpected<Error> sqlite_error(sqlite3* database, int result, std::string_view purpose) {
  std::string message = fmt::format("{}: {}", purpose, sqlite3_errmsg(database));
  if (full_or_failing(result)) return refuse(reason::kStorageFull, std::move(message));
  switch (result & 0xff) {
    case SQLITE_CONSTRAINT:
      return fail(Code::AlreadyExists, std::move(message));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return refuse(reason::kConflict, std::move(message));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return fail(Code::DataLoss, std::move(message));
    case SQLITE_CANTOPEN:
      return fail(Code::NotFound, std::move(message));
    case SQLITE_PERM:
    case SQLITE_READONLY:
      return fail(Code::PermissionDenied, std::move(message));
    default:
      return fail(Code::Internal, std::move(message));
  }
}

int open_flags(OpenMode mode) {
  // NOMUTEX: a connection is used by one thread at a time, so its own locks would be for nothing.
  const int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  switch (mode) {
    case OpenMode::ReadOnly:
      return flags | SQLITE_OPEN_READONLY;
    case OpenMode::ReadWrite:
      return flags | SQLITE_OPEN_READWRITE;
    case OpenMode::Create:
      return flags | SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  }
  return flags;
}

}  // namespace

void Statement::Finalize::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);  // repeats the last step's error, which was reported then
}

void Statement::keep(int result) {
  if (bind_result_ == SQLITE_OK) bind_result_ = result;
}

void Statement::bind_one(int index, std::int64_t value) {
  keep(sqlite3_bind_int64(statement_.get(), index, value));
}

void Statement::bind_one(int index, std::string_view value) {
  keep(sqlite3_bind_text64(statement_.get(), index, value.data() ? value.data() : "", value.size(),
                           SQLITE_TRANSIENT, SQLITE_UTF8));
}

void Statement::bind_one(int index, std::span<const std::byte> value) {
  keep(sqlite3_bind_blob64(statement_.get(), index, value.data(), value.size(), SQLITE_TRANSIENT));
}

void Statement::bind_one(int index, std::nullopt_t) {
  keep(sqlite3_bind_null(statement_.get(), index));
}

Result<bool> Statement::step() {
  sqlite3* database = sqlite3_db_handle(statement_.get());
  if (bind_result_ != SQLITE_OK) {
    return sqlite_error(database, std::exchange(bind_result_, SQLITE_OK), purpose_);
  }
  const int result = sqlite3_step(statement_.get());
  if (result == SQLITE_ROW) return true;
  if (result == SQLITE_DONE) return false;
  auto error = sqlite_error(database, result, purpose_);
  reset();
  return error;
}

Status Statement::run() {
  while (TRY(step())) {
  }
  reset();
  return {};
}

void Statement::reset() { sqlite3_reset(statement_.get()); }

std::int64_t Statement::integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

std::string Statement::text(int column) const {
  const auto* text = sqlite3_column_text(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  if (text == nullptr) return {};
  return {reinterpret_cast<const char*>(text), static_cast<std::size_t>(size)};
}

std::span<const std::byte> Statement::blob(int column) const {
  const void* bytes = sqlite3_column_blob(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return {static_cast<const std::byte*>(bytes), static_cast<std::size_t>(size)};
}

bool Statement::is_null(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}

void Database::Close::operator()(sqlite3* database) const {
  const int result = sqlite3_close(database);
  CHECK(result == SQLITE_OK);  // SQLITE_BUSY: a statement outlives its connection
}

Result<Database> Database::open(const Path& path, OpenMode mode) {
  sqlite3* raw = nullptr;
  const int result = sqlite3_open_v2(path.c_str(), &raw, open_flags(mode), nullptr);
  CHECK(raw != nullptr);
  Database database(raw);
  const std::string purpose = fmt::format("open {}", path.native());
  if (result != SQLITE_OK) return sqlite_error(raw, result, purpose);
  sqlite3_busy_timeout(raw, kBusyMilliseconds);
  TRY(database.execute(purpose, "PRAGMA foreign_keys=ON; PRAGMA synchronous=FULL"));
  if (mode != OpenMode::ReadOnly) TRY(database.execute(purpose, "PRAGMA journal_mode=WAL"));
  return database;
}

Status Database::execute(std::string_view purpose, const std::string& sql) {
  const int result = sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  if (result != SQLITE_OK) return sqlite_error(database_.get(), result, purpose);
  return {};
}

Result<Statement> Database::prepare(std::string_view purpose, std::string_view sql) {
  sqlite3_stmt* raw = nullptr;
  const int result =
      sqlite3_prepare_v2(database_.get(), sql.data(), static_cast<int>(sql.size()), &raw, nullptr);
  if (result != SQLITE_OK) return sqlite_error(database_.get(), result, purpose);
  return Statement(raw, std::string(purpose));
}

Status Database::add_column(std::string_view table, std::string_view name,
                            std::string_view definition) {
  {
    Statement query =
        TRY(prepare("look for a column", "SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2"));
    query.bind(table, name);
    if (TRY(query.step())) return {};
  }
  return execute("add a column",
                 fmt::format("ALTER TABLE {} ADD COLUMN {} {}", table, name, definition));
}

std::int64_t Database::last_insert_id() const { return sqlite3_last_insert_rowid(database_.get()); }

Status Database::copy_to(const Path& path) {
  sqlite3* raw = nullptr;
  const int opened = sqlite3_open_v2(path.c_str(), &raw, open_flags(OpenMode::Create), nullptr);
  CHECK(raw != nullptr);
  const std::unique_ptr<sqlite3, Close> target(raw);
  const std::string purpose = fmt::format("copy the database to {}", path.native());
  if (opened != SQLITE_OK) return sqlite_error(raw, opened, purpose);
  sqlite3_backup* backup = sqlite3_backup_init(raw, "main", database_.get(), "main");
  if (backup == nullptr) return sqlite_error(raw, sqlite3_errcode(raw), purpose);
  // All pages in one step: one read transaction, hence one state of the database.
  sqlite3_backup_step(backup, -1);
  int result = sqlite3_backup_finish(backup);
  // One file that can be opened where nothing can be written: WAL would want others beside it.
  if (result == SQLITE_OK) {
    result = sqlite3_exec(raw, "PRAGMA journal_mode=DELETE", nullptr, nullptr, nullptr);
  }
  if (result != SQLITE_OK) return sqlite_error(raw, result, purpose);
  return {};
}

Status Database::check_integrity() {
  Statement check = TRY(prepare("check the database", "PRAGMA integrity_check(1)"));
  if (!TRY(check.step())) return fail(Code::DataLoss, "the database cannot be checked");
  const std::string verdict = check.text(0);
  if (verdict != "ok") return fail(Code::DataLoss, fmt::format("the database: {}", verdict));
  return {};
}

Result<Transaction> Transaction::begin(Database& database) {
  TRY(database.execute("begin a transaction", "BEGIN IMMEDIATE"));
  return Transaction(database);
}

Transaction::Transaction(Transaction&& other) noexcept
    : database_(std::exchange(other.database_, nullptr)) {}

Transaction::~Transaction() {
  if (database_ == nullptr) return;
  // On some errors (a full disk) SQLite has rolled back by itself; then this one has nothing to do.
  const auto rolled_back = database_->execute("roll back", "ROLLBACK");
  if (!rolled_back) LOG(debug, "rollback", {"error", rolled_back.error().message});
}

Status Transaction::commit() {
  CHECK(database_ != nullptr);
  TRY(database_->execute("commit", "COMMIT"));
  database_ = nullptr;
  return {};
}

}  // namespace mayfly
