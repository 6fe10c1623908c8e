#include "server/service/sqlite.h"

#include <fcntl.h>
#include <sqlite3.h>

#include "hindcast/fd.h"

namespace hindcast::server {
namespace {

Errc errc_of(int code) {
  switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return Errc::corrupt;
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_READONLY:
      return Errc::permission;
    default:
      return Errc::io;
  }
}

}  // namespace

void Database::Close::operator()(sqlite3* db) const { ::sqlite3_close_v2(db); }
void Statement::Finish::operator()(sqlite3_stmt* s) const { ::sqlite3_finalize(s); }

Error Database::error(const std::string& action) const {
  const int code = ::sqlite3_extended_errcode(db_.get());
  const std::string fix = (code & 0xff) == SQLITE_FULL ? "free some space" : "";
  return {errc_of(code), action + " " + path_ + ": " + ::sqlite3_errmsg(db_.get()), {}, fix};
}

Result<Database> Database::open(const std::string& path) {
  // SQLite would make it with the umask's mode; the WAL and its index take the mode of the file.
  if (const Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)); !fd.valid())
    return errno_error("cannot open", path);
  Database d;
  d.path_ = path;
  sqlite3* db = nullptr;
  const int opened = ::sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  d.db_.reset(db);
  if (!db) return Error{Errc::io, "cannot open " + path + ": no memory", {}, {}};
  if (opened != SQLITE_OK) return d.error("cannot open");
  ::sqlite3_busy_timeout(db, 5000);
  HC_TRY_VOID(d.run("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"));
  return d;
}

Result<void> Database::run(const std::string& sql) {
  if (::sqlite3_exec(db_.get(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) return error("cannot use");
  return {};
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* s = nullptr;
  if (::sqlite3_prepare_v2(db_.get(), sql.data(), static_cast<int>(sql.size()), &s, nullptr) != SQLITE_OK)
    return error("cannot use");
  return Statement(this, s);
}

Result<int64_t> Database::number(std::string_view sql) {
  HC_TRY(Statement s, prepare(sql));
  HC_TRY(const bool row, s.step());
  return row ? s.number(0) : 0;
}

int64_t Database::changed_rows() const { return ::sqlite3_changes64(db_.get()); }

Statement& Statement::bind(int at, std::string_view text) {
  HC_CHECK(::sqlite3_bind_text64(s_.get(), at, text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8) == SQLITE_OK);
  return *this;
}

Statement& Statement::bind(int at, int64_t number) {
  HC_CHECK(::sqlite3_bind_int64(s_.get(), at, number) == SQLITE_OK);
  return *this;
}

Result<bool> Statement::step() {
  const int code = ::sqlite3_step(s_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  Error e = db_->error("cannot use");
  ::sqlite3_reset(s_.get());
  return e;
}

Result<void> Statement::run() {
  for (;;) {
    HC_TRY(const bool row, step());
    if (!row) break;
  }
  reset();
  return {};
}

void Statement::reset() {
  ::sqlite3_reset(s_.get());
  ::sqlite3_clear_bindings(s_.get());
}

std::string Statement::text(int column) const {
  const auto* bytes = ::sqlite3_column_text(s_.get(), column);
  if (!bytes) return {};
  return {reinterpret_cast<const char*>(bytes), static_cast<size_t>(::sqlite3_column_bytes(s_.get(), column))};
}

int64_t Statement::number(int column) const { return ::sqlite3_column_int64(s_.get(), column); }

}  // namespace hindcast::server
