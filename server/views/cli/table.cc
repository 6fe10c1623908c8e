#include "server/views/cli/table.h"

#include <algorithm>

namespace hindcast::server::cli {

Table::Table(std::vector<std::string> columns) {
  for (std::string& name : columns) {
    const bool right = name.starts_with('>');
    right_.push_back(right);
    names_.push_back(right ? name.substr(1) : std::move(name));
  }
}

void Table::row(std::vector<std::string> cells) {
  cells.resize(names_.size());
  rows_.push_back(std::move(cells));
}

void Table::print(Output& out) const {
  if (rows_.empty()) return;
  std::vector<size_t> widths;
  for (const std::string& name : names_) widths.push_back(width_of(name));
  for (const auto& cells : rows_)
    for (size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], width_of(cells[i]));
  const auto text_of = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (size_t i = 0; i < cells.size(); ++i) {
      line += "  ";
      line += right_[i]               ? pad_left(cells[i], widths[i])
              : i + 1 == cells.size() ? cells[i]
                                      : pad_right(cells[i], widths[i]);
    }
    line.resize(line.find_last_not_of(' ') + 1);
    return line;
  };
  out.line(out.paint(Colour::dim, text_of(names_)));
  for (const auto& cells : rows_) out.line(text_of(cells));
}

void field(Output& out, const std::string& name, const std::string& value) {
  out.line(out.paint(Colour::dim, pad_right(name, 10)) + " " + value);
}

void heading(Output& out, const std::string& title, uint64_t n) {
  out.line("");
  out.line(out.paint(Colour::bold, title) + " " + out.paint(Colour::dim, "(" + std::to_string(n) + ")"));
}

}  // namespace hindcast::server::cli
