// Rows of text as aligned columns.
#pragma once

#include <string>
#include <vector>

#include "server/views/cli/output.h"

namespace hindcast::server::cli {

/// Holds all rows until print(), to know the widths. The last column is not padded.
class Table {
 public:
  /// A name that begins with '>' makes its column right-aligned.
  explicit Table(std::vector<std::string> columns);
  void row(std::vector<std::string> cells);
  size_t rows() const { return rows_.size(); }
  /// Header and rows, indented by two columns; nothing when there is no row.
  void print(Output& out) const;

 private:
  std::vector<std::string> names_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

/// One line of a list of facts: its name, dim, and its value.
void field(Output& out, const std::string& name, const std::string& value);
/// "TITLE (n)" behind an empty line.
void heading(Output& out, const std::string& title, uint64_t n);

}  // namespace hindcast::server::cli
