#include "server/service/moment.h"

#include <chrono>
#include <cstdio>

namespace hindcast::server {
namespace {

/// Takes `digits` digits off the front; -1 when they are not there.
int take_number(std::string_view& text, size_t digits) {
  if (text.size() < digits) return -1;
  int value = 0;
  for (size_t i = 0; i < digits; ++i) {
    if (text[i] < '0' || text[i] > '9') return -1;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(digits);
  return value;
}

bool take(std::string_view& text, char c) {
  if (text.empty() || text[0] != c) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::optional<std::string> same_moment_utc(std::string_view text) {
  namespace chrono = std::chrono;
  const int year = take_number(text, 4);
  if (year < 0 || !take(text, '-')) return std::nullopt;
  const int month = take_number(text, 2);
  if (month < 0 || !take(text, '-')) return std::nullopt;
  const int day = take_number(text, 2);
  if (day < 0 || !(take(text, 'T') || take(text, 't'))) return std::nullopt;
  const int hour = take_number(text, 2);
  if (hour < 0 || hour > 23 || !take(text, ':')) return std::nullopt;
  const int minute = take_number(text, 2);
  if (minute < 0 || minute > 59 || !take(text, ':')) return std::nullopt;
  const int second = take_number(text, 2);
  if (second < 0 || second > 59) return std::nullopt;
  std::string fraction;
  if (take(text, '.')) {
    while (!text.empty() && text[0] >= '0' && text[0] <= '9') {
      fraction += text[0];
      text.remove_prefix(1);
      if (fraction.size() > 9) return std::nullopt;
    }
    if (fraction.empty()) return std::nullopt;
    while (!fraction.empty() && fraction.back() == '0') fraction.pop_back();
  }
  int east_minutes = 0;
  if (!take(text, 'Z') && !take(text, 'z')) {
    const bool west = take(text, '-');
    if (!west && !take(text, '+')) return std::nullopt;
    const int hours = take_number(text, 2);
    if (hours < 0 || hours > 23 || !take(text, ':')) return std::nullopt;
    const int minutes = take_number(text, 2);
    if (minutes < 0 || minutes > 59) return std::nullopt;
    east_minutes = (west ? -1 : 1) * (hours * 60 + minutes);
  }
  if (!text.empty()) return std::nullopt;
  const chrono::year_month_day date{chrono::year(year), chrono::month(static_cast<unsigned>(month)),
                                    chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) return std::nullopt;
  const auto utc =
      chrono::sys_days(date) + chrono::hours(hour) + chrono::minutes(minute - east_minutes) + chrono::seconds(second);
  const auto midnight = chrono::floor<chrono::days>(utc);
  const chrono::year_month_day utc_date{midnight};
  const int utc_year = static_cast<int>(utc_date.year());
  if (utc_year < 0 || utc_year > 9999) return std::nullopt;
  const chrono::hh_mm_ss time{utc - midnight};
  char out[64];
  std::snprintf(out, sizeof out, "%04d-%02u-%02uT%02d:%02d:%02d", utc_year, static_cast<unsigned>(utc_date.month()),
                static_cast<unsigned>(utc_date.day()), static_cast<int>(time.hours().count()),
                static_cast<int>(time.minutes().count()), static_cast<int>(time.seconds().count()));
  return std::string(out) + (fraction.empty() ? "" : "." + fraction) + "Z";
}

}  // namespace hindcast::server
