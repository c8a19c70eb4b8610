// A thin owner of SQLite: connections, statements, transactions. Every failure names the purpose of
// the SQL that failed. A Database and its statements belong to one thread at a time; the owner
// holds a mutex where several threads take turns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace mayfly {

// A prepared statement. bind() fills the parameters ?1, ?2, … in order; then either run() for a
// statement without rows, or step() until it says false.
class Statement {
 public:
  template <typename... Values>
  Statement& bind(const Values&... values) {
    int index = 0;
    (bind_one(++index, values), ...);
    return *this;
  }

  Result<bool> step();  // true: a row is there
  Status run();         // to the end, then ready to be bound again
  void reset();

  std::int64_t integer(int column) const;
  std::string text(int column) const;
  // Valid until the next step() or reset().
  std::span<const std::byte> blob(int column) const;
  bool is_null(int column) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  Statement(sqlite3_stmt* statement, std::string purpose)
      : statement_(statement), purpose_(std::move(purpose)) {}

  void bind_one(int index, std::int64_t value);
  void bind_one(int index, std::uint32_t value) { bind_one(index, std::int64_t{value}); }
  void bind_one(int index, std::string_view value);
  void bind_one(int index, std::span<const std::byte> value);
  void bind_one(int index, std::nullopt_t none);
  template <typename T>
  void bind_one(int index, const std::optional<T>& value) {
    value ? bind_one(index, *value) : bind_one(index, std::nullopt);
  }
  void keep(int result);  // a failed bind is reported by the next step

  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  std::string purpose_;
  int bind_result_ = 0;
};

enum class OpenMode : std::uint8_t { ReadOnly, ReadWrite, Create };

// A connection: WAL, synchronous=FULL (a commit survives a power cut), foreign keys, a busy timeout
// for the short moments in which another connection checkpoints.
class Database {
 public:
  static Result<Database> open(const Path& path, OpenMode mode);

  // One or more statements without parameters and without rows of interest.
  Status execute(std::string_view purpose, const std::string& sql);
  Result<Statement> prepare(std::string_view purpose, std::string_view sql);
  // Where the table, of an older version, has none of this name: `definition` is SQL.
  Status add_column(std::string_view table, std::string_view name, std::string_view definition);
  std::int64_t last_insert_id() const;

  // A consistent copy of the whole database as of now, while other connections go on
  // (sqlite.org/backup.html). The copy is synced.
  Status copy_to(const Path& path);
  // PRAGMA integrity_check: data_loss names the first complaint.
  Status check_integrity();

 private:
  struct Close {
    void operator()(sqlite3* database) const;
  };
  explicit Database(sqlite3* database) : database_(database) {}
  std::unique_ptr<sqlite3, Close> database_;
};

// BEGIN IMMEDIATE … COMMIT; rolled back unless committed.
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);  // outlives me
  Transaction(Transaction&& other) noexcept;
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  // After a failure nothing of the transaction has happened.
  Status commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;  // null once committed or moved from
};

}  // namespace mayfly
