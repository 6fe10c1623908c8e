// SQLite's C interface as owned objects and Results. One thread at a time may use a database and its statements.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "hindcast/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace hindcast::server {

class Statement;

class Database {
 public:
  /// Makes the file when it is missing (mode 0600). WAL, synchronous=FULL, foreign keys on; waits up to 5 s for a lock.
  /// Errors: io, permission; corrupt: the file is damaged or no database.
  static Result<Database> open(const std::string& path);
  Database(Database&&) noexcept = default;
  Database& operator=(Database&&) noexcept = default;

  /// One or more statements without parameters. Errors: io, corrupt.
  Result<void> run(const std::string& sql);
  Result<Statement> prepare(std::string_view sql);
  /// First column of the first row; 0 without one.
  Result<int64_t> number(std::string_view sql);
  int64_t changed_rows() const;

 private:
  Database() = default;
  struct Close {
    void operator()(sqlite3* db) const;
  };
  Error error(const std::string& action) const;
  friend class Statement;

  std::string path_;
  std::unique_ptr<sqlite3, Close> db_;
};

/// Parameters are bound by position from 1, columns are read from 0. Used again after reset().
class Statement {
 public:
  Statement& bind(int at, std::string_view text);
  Statement& bind(int at, int64_t number);
  Statement& bind(int at, uint64_t number) { return bind(at, static_cast<int64_t>(number)); }

  /// True: a row is there. False: done. Errors: io, corrupt.
  Result<bool> step();
  /// step() to the end, for what gives no rows; then reset.
  Result<void> run();
  void reset();

  std::string text(int column) const;
  int64_t number(int column) const;

 private:
  friend class Database;
  struct Finish {
    void operator()(sqlite3_stmt* s) const;
  };
  Statement(const Database* db, sqlite3_stmt* s) : db_(db), s_(s) {}

  const Database* db_;
  std::unique_ptr<sqlite3_stmt, Finish> s_;
};

}  // namespace hindcast::server
