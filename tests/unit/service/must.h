// Values of Results that a test needs to go on.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>

#include "hindcast/result.h"

namespace hindcast::server {

inline void must_do(const Result<void>& r) {
  if (!r.ok()) ADD_FAILURE() << r.error().text();
}
template <class T>
T must(Result<T> r) {
  if (!r.ok()) {
    ADD_FAILURE() << r.error().text();
    std::abort();
  }
  return std::move(r).value();
}

}  // namespace hindcast::server
